"""Has a series judged again by the present rules and configuration, because a person asks for it."""

from __future__ import annotations

from typing import Final

from orgseg_node.contouring.object_roles import IMAGE
from orgseg_node.errors import SeriesRefuses
from orgseg_node.node.store.database import Transaction
from orgseg_node.node.store.model import SeriesState
from orgseg_node.node.store.series_states import open_revision
from orgseg_node.node.store.store import Store

_INSTEAD: Final = {
    SeriesState.RECEIVING: "It has not been judged yet; 'orgseg series force' judges it now.",
    SeriesState.CONFLICT: "Choose with 'orgseg series settle' which of the contradicting images count.",
}
_NO_IMAGES: Final = "Its images are not here any more; send it again."
_DELIVERED: Final = (
    "Contours of it were delivered, and a plan may be based on them. Send it again under another AE title of"
    " the node, or contour it with 'orgseg segment'."
)


def judge_again(store: Store, series_uid: str, note: str) -> None:
    """Start a new revision of a series, so that the node judges it by what is in force now.

    It may be held, or ignored by a rule, or its job may wait for a person, have failed, or not be sent yet;
    such a job is superseded. The source is asked again, where there is one. An override that keeps the series
    waiting ends.

    Parameters
    ----------
    store : the node's database
    series_uid : Series Instance UID
    note : who asks for it, and why

    Raises
    ------
    SeriesRefuses
        If it was not judged yet, has no images any more, or contours of it were delivered.
    """
    with store.database.write() as tx:
        state = _state(tx, series_uid)
        if state in _INSTEAD:
            raise SeriesRefuses(_INSTEAD[state])
        if not tx.rows("SELECT sop_uid FROM instance WHERE series_uid = ? LIMIT 1", (series_uid,)):
            raise SeriesRefuses(_NO_IMAGES)
        if state is SeriesState.READY and _is_delivered(tx, series_uid):
            raise SeriesRefuses(_DELIVERED)
        tx.run("DELETE FROM series_order WHERE series_uid = ?", (series_uid,))
        open_revision(tx, series_uid, f"judge: {note}")
        store.supersede_within(tx, series_uid)


def _state(tx: Transaction, series_uid: str) -> SeriesState:
    rows = tx.rows("SELECT state FROM series WHERE series_uid = ?", (series_uid,))
    if not rows:
        raise SeriesRefuses("It was never received.")
    return SeriesState(rows[0][0])


def _is_delivered(tx: Transaction, series_uid: str) -> bool:
    """Whether a destination has, or is just getting, an object of a job of the series, except images."""
    rows = tx.rows(
        "SELECT 1 FROM job j WHERE j.series_uid = ? AND (j.delivered_at IS NOT NULL OR EXISTS ("
        "SELECT 1 FROM delivery d WHERE d.job_id = j.job_id AND d.role NOT LIKE ?"
        " AND d.state IN ('SENDING', 'STORED', 'COMMITTED'))) LIMIT 1",
        (series_uid, f"{IMAGE}%"),
    )
    return bool(rows)
