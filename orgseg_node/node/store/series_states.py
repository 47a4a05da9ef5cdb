"""Every statement that changes the state of a series.

==================  =========================================  ==============================================
function            change                                     when
==================  =========================================  ==============================================
`receive`           new -> RECEIVING                           the first image of the series is accepted
`judge`             RECEIVING -> READY, HOLD, IGNORED          the series is stable and was judged
`open_revision`     READY, HOLD, IGNORED -> RECEIVING          an image arrived after the series was judged
`mark_conflict`     any other state -> CONFLICT                two images share a SOP Instance UID and differ
`reopen_held`       HOLD -> RECEIVING                          a person has the series judged as it is
`resolve_conflict`  CONFLICT -> RECEIVING, or -> IGNORED       a person chose which image counts
==================  =========================================  ==============================================

The database refuses every change that `SERIES_TRANSITIONS` in `orgseg_node.node.store.model` does not list
and appends each change to the history. The functions run inside a transaction of the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orgseg_node.node.store.clock import stamp
from orgseg_node.node.store.database import Transaction
from orgseg_node.node.store.model import Instance, Series, SeriesState

_CHOOSE: Final = "Choose with 'orgseg series settle' which one counts."


def receive(tx: Transaction, instance: Instance, now: str) -> None:
    """Add the series of an accepted image, or note that another image of it arrived.

    Parameters
    ----------
    tx : the transaction
    instance : the accepted image
    now : the time, as stored in the database
    """
    tx.run(
        "INSERT INTO series (series_uid, state, calling_ae, called_ae, created_at, last_received_at)"
        " VALUES (?, 'RECEIVING', ?, ?, ?, ?) ON CONFLICT (series_uid) DO UPDATE"
        " SET last_received_at = excluded.last_received_at",
        (instance.series_uid, instance.calling_ae, instance.called_ae, now, now),
    )


def judge(tx: Transaction, seen: Series, state: SeriesState, *, reason: str, note: str) -> bool:
    """Set the state of a series that was judged.

    Parameters
    ----------
    tx : the transaction
    seen : the series as it was read before it was judged
    state : the new state
    reason : stable code of the reason, or empty
    note : the reason as a sentence

    Returns
    -------
    False, with nothing changed, if an image arrived since `seen` was read
    """
    changed = tx.run(
        "UPDATE series SET state = ?, reason = ?, note = ? WHERE series_uid = ? AND"
        " state = 'RECEIVING' AND revision = ? AND last_received_at = ?",
        (state, reason, note, seen.series_uid, seen.revision, stamp(seen.last_received_at)),
    )
    return bool(changed)


def open_revision(tx: Transaction, series_uid: str, note: str) -> None:
    """Start a new revision of a series that was judged; a series in another state stays as it is.

    Parameters
    ----------
    tx : the transaction
    series_uid : Series Instance UID
    note : why it is judged again
    """
    tx.run(
        "UPDATE series SET state = 'RECEIVING', revision = revision + 1, reason = '', note = ?"
        " WHERE series_uid = ? AND state IN ('READY', 'HOLD', 'IGNORED')",
        (note, series_uid),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradiction:
    """Images that share a UID and differ.

    Attributes
    ----------
    sop_uid : SOP Instance UID that they have
    differs : in what they differ, in words; empty if not known
    other_series : Series Instance UID of the other image; empty if it is the same series
    """

    sop_uid: str
    differs: str = ""
    other_series: str = ""

    @property
    def sentence(self) -> str:
        """The sentence for the operator."""
        how = f" ({self.differs})" if self.differs else ""
        if self.other_series:
            return (
                f"Instance {self.sop_uid} is here as part of series {self.other_series}, which continues. "
                f"It arrived in this series with different content{how}; both are kept. {_CHOOSE}"
            )
        return f"Instance {self.sop_uid} arrived with different content{how}; both are kept. {_CHOOSE}"


def mark_conflict(tx: Transaction, series_uid: str, contradiction: Contradiction) -> None:
    """Note that a series has an image whose SOP Instance UID also belongs to a different image.

    Parameters
    ----------
    tx : the transaction
    series_uid : Series Instance UID
    contradiction : the images
    """
    tx.run(
        "UPDATE series SET state = 'CONFLICT', reason = 'SAME_UID_OTHER_CONTENT', note = ?"
        " WHERE series_uid = ? AND state <> 'CONFLICT'",
        (contradiction.sentence, series_uid),
    )


def reopen_held(tx: Transaction, series_uid: str, note: str) -> None:
    """Have a series in HOLD judged again, in the same revision.

    Parameters
    ----------
    tx : the transaction
    series_uid : Series Instance UID
    note : who asked for it, and why
    """
    tx.run(
        "UPDATE series SET state = 'RECEIVING', reason = '', note = ? WHERE series_uid = ?",
        (note, series_uid),
    )


def resolve_conflict(tx: Transaction, series_uid: str, note: str) -> None:
    """Start a new revision of a series in CONFLICT; one without any image left is IGNORED.

    Parameters
    ----------
    tx : the transaction
    series_uid : Series Instance UID
    note : which images were kept, who decided it, and why
    """
    tx.run(
        "UPDATE series SET state = 'RECEIVING', revision = revision + 1, reason = '', note = ?"
        " WHERE series_uid = ? AND state = 'CONFLICT'",
        (note, series_uid),
    )
    if not tx.rows("SELECT sop_uid FROM instance WHERE series_uid = ?", (series_uid,)):
        tx.run(
            "UPDATE series SET state = 'IGNORED', reason = 'SETTLED_ELSEWHERE', note = ?"
            " WHERE series_uid = ? AND state = 'RECEIVING'",
            ("All of its images are those of another series.", series_uid),
        )
