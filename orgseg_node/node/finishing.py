"""When a job that sends is over."""

from __future__ import annotations

from typing import Final

from orgseg_node.node.database import Transaction
from orgseg_node.node.jobs import NOT_DELIVERED, JobState
from orgseg_node.node.lives import drop_unsent

_GONE: Final = ("STORED", "COMMITTED")


def finish(tx: Transaction, job_id: str, now: str) -> None:
    """Move a job from SENDING to DONE or FAILED once each of its objects has come to rest everywhere.

    An object that a destination shall confirm is at rest only when it is COMMITTED, or STORED and no longer
    waited for. What a job that was stopped has not sent yet is let go.
    """
    ((now_in,),) = tx.rows("SELECT state FROM job WHERE job_id = ?", (job_id,))
    if now_in in {JobState.CANCELLED, JobState.SUPERSEDED}:
        drop_unsent(tx, job_id, "stopped")  # it was on its way when the job was stopped
    if now_in != JobState.SENDING:
        return
    rows = tx.rows(
        "SELECT state, confirmation, count(*) FROM delivery WHERE job_id = ? GROUP BY state, confirmation",
        (job_id,),
    )
    counts = {(str(state), str(confirmation)): int(count) for state, confirmation, count in rows}
    states = {state for state, _ in counts}
    if not states <= {*_GONE, "DROPPED", "FAILED"} or ("STORED", "WANTED") in counts:
        return
    failed = sum(count for (state, _), count in counts.items() if state == "FAILED")
    if failed:
        note = f"{failed} objects could not be delivered; they are kept."
        _move(tx, job_id, ("FAILED", NOT_DELIVERED, note), now)
    else:
        _move(tx, job_id, ("DONE", "", _delivered(counts)), now)


def _delivered(counts: dict[tuple[str, str], int]) -> str:
    gone = sum(count for (state, _), count in counts.items() if state in _GONE)
    confirmed = sum(count for (state, _), count in counts.items() if state == "COMMITTED")
    unconfirmed = counts.get(("STORED", "WAIVED"), 0)
    if not counts:
        return "Kept here; no destination is set."
    note = f"{gone} objects delivered"
    if confirmed:
        note += f", {confirmed} of them confirmed by the archive"
    return note + (f", {unconfirmed} stored but not confirmed." if unconfirmed else ".")


def _move(tx: Transaction, job_id: str, target: tuple[str, str, str], now: str) -> None:
    tx.run(
        "UPDATE job SET state = ?, reason = ?, note = ?, stage = '', updated_at = ?, progress ="
        " CASE WHEN ? = 'DONE' THEN 1.0 ELSE progress END WHERE job_id = ? AND state = 'SENDING'",
        (*target, now, target[0], job_id),
    )
