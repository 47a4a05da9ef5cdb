"""What a person wants of a series: judge it now, let it wait, judge it as usual again.

An order is a row that the running node finds at its next look, so the command line may give it while the node
runs. Who gave it and why is an event of the series.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from orgseg_node.errors import SeriesRefuses
from orgseg_node.node.store.clock import Clock, stamp, utc_now
from orgseg_node.node.store.database import Database, Transaction
from orgseg_node.node.store.model import SeriesState
from orgseg_node.node.store.series_states import reopen_held

FORCE: Final = "force"
WAIT: Final = "wait"

_NEXT: Final = {
    SeriesState.READY: "Its job is in 'orgseg jobs list'.",
    SeriesState.IGNORED: "A rule set it aside.",
    SeriesState.CONFLICT: "Say with 'orgseg series settle' which of the contradicting images count.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesOverride:
    """What a person wants of a series.

    Attributes
    ----------
    kind : ``force`` or ``wait``
    revision : of the series, when the order was given
    ends_at : until when it waits; None until it is released
    note : who gave it, and why
    """

    series_uid: str
    kind: str
    revision: int
    ends_at: datetime | None
    note: str
    at: datetime

    def forces(self, revision: int) -> bool:
        """Whether a revision is to be judged as it is. What comes later is judged as usual."""
        return self.kind == FORCE and self.revision == revision

    def holds(self, now: datetime) -> bool:
        """Whether the series is not to be judged yet."""
        return self.kind == WAIT and (self.ends_at is None or now < self.ends_at)


class SeriesOverrides:
    """The orders that are in force.

    Parameters
    ----------
    database : the node's database
    clock : where the time comes from
    """

    def __init__(self, database: Database, *, clock: Clock = utc_now) -> None:
        self._db = database
        self._clock = clock

    def all(self) -> dict[str, SeriesOverride]:
        """Every order, by Series Instance UID."""
        return {one.series_uid: one for one in self._db.read(SeriesOverride, "SELECT * FROM series_order")}

    def force(self, series_uid: str, note: str) -> None:
        """Have a series judged with what is there, now. Raises SeriesRefuses."""
        with self._db.write() as tx:
            state, revision = self._of(tx, series_uid, FORCE)
            if state is SeriesState.HOLD:  # the note becomes that of the event
                reopen_held(tx, series_uid, f"force: {note}")
            else:
                tx.append_event("series", series_uid, FORCE, note)
            self._put(
                tx,
                SeriesOverride(
                    series_uid=series_uid, kind=FORCE, revision=revision, ends_at=None, note=note,
                    at=self._clock(),
                ),
            )  # fmt: skip

    def wait(self, series_uid: str, note: str, until: datetime | None) -> None:
        """Keep a series from being judged until a time, or until it is released. Raises SeriesRefuses."""
        with self._db.write() as tx:
            _, revision = self._of(tx, series_uid, WAIT)
            ends = "until it is released" if until is None else f"until {until.isoformat(timespec='seconds')}"
            tx.append_event("series", series_uid, WAIT, f"{ends}; {note}")
            self._put(
                tx,
                SeriesOverride(
                    series_uid=series_uid, kind=WAIT, revision=revision, ends_at=until, note=note,
                    at=self._clock(),
                ),
            )  # fmt: skip

    def release(self, series_uid: str, note: str) -> None:
        """Have a series that waits judged as usual again. Raises SeriesRefuses if none waits."""
        with self._db.write() as tx:
            gone = tx.run("DELETE FROM series_order WHERE series_uid = ? AND kind = 'wait'", (series_uid,))
            if not gone:
                raise SeriesRefuses("Nobody lets it wait.")
            tx.append_event("series", series_uid, "release", note)

    def done(self, series_uid: str) -> None:
        """Forget an order to judge a series: it was judged."""
        with self._db.write() as tx:
            tx.run("DELETE FROM series_order WHERE series_uid = ? AND kind = 'force'", (series_uid,))

    def _of(self, tx: Transaction, series_uid: str, kind: str) -> tuple[SeriesState, int]:
        rows = tx.rows("SELECT state, revision FROM series WHERE series_uid = ?", (series_uid,))
        if not rows:
            raise SeriesRefuses("It was never received.")
        state = SeriesState(rows[0][0])
        if state not in {SeriesState.RECEIVING, SeriesState.HOLD}:
            what = {FORCE: "judged anew", WAIT: "kept waiting"}[kind]
            raise SeriesRefuses(f"A series that is {state} cannot be {what}. {_NEXT[state]}")
        return state, int(rows[0][1])

    def _put(self, tx: Transaction, order: SeriesOverride) -> None:
        tx.run("DELETE FROM series_order WHERE series_uid = ?", (order.series_uid,))
        ends = stamp(order.ends_at) if order.ends_at else None
        tx.run(
            "INSERT INTO series_order (series_uid, kind, revision, ends_at, note, at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (order.series_uid, order.kind, order.revision, ends, order.note, stamp(order.at)),
        )
