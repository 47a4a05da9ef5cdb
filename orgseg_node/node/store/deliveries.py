"""The part of the node's memory that knows what is still to be sent, whatever became of the job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orgseg_node.node.store.attempts import drop_unsent
from orgseg_node.node.store.clock import Clock, stamp
from orgseg_node.node.store.database import Database, Transaction
from orgseg_node.node.store.model import NOT_DELIVERED, Delivery, JobState


class DeliveryRows:
    """One row for each object and destination.

    Parameters
    ----------
    database : of the node
    clock : where the time comes from
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._db = database
        self._clock = clock

    def _now(self) -> str:
        return stamp(self._clock())

    def skip_attempt(self, delivery: Delivery) -> None:
        """Count an attempt that never came to be, so that the next one has a number of its own."""
        with self._db.write() as tx:
            tx.run(
                "UPDATE delivery SET attempts = attempts + 1 WHERE job_id = ? AND destination = ?"
                " AND state IN ('PENDING', 'RETRY_WAIT')",
                (delivery.job_id, delivery.destination),
            )

    def deliveries(self, job_id: str) -> list[Delivery]:
        """Every delivery of a job."""
        return self._db.read(
            Delivery, "SELECT * FROM delivery WHERE job_id = ? ORDER BY destination, role", (job_id,)
        )

    def due_deliveries(self) -> list[Delivery]:
        """What should be sent now: of jobs in SENDING, not yet stored, and not waiting for a later time.

        While one object of a job is on its way to a destination, nothing else of the job is due there.
        """
        return self._db.read(
            Delivery,
            "SELECT d.* FROM delivery d JOIN job j USING (job_id) WHERE j.state = 'SENDING' AND"
            " d.state IN ('PENDING', 'RETRY_WAIT') AND d.next_attempt_at <= ? AND NOT EXISTS ("
            "SELECT 1 FROM delivery o WHERE o.job_id = d.job_id AND o.destination = d.destination"
            " AND o.state = 'SENDING')"
            " ORDER BY j.created_at, d.destination, d.role",
            (self._now(),),
        )

    def sending_deliveries(self) -> list[Delivery]:
        """What is being sent, as far as anybody knows."""
        return self._db.read(Delivery, "SELECT * FROM delivery WHERE state = 'SENDING'")

    def free(self, delivery: Delivery) -> None:
        """Make a delivery whose sender died due again."""
        with self._db.write() as tx:
            tx.run(
                "UPDATE delivery SET state = 'RETRY_WAIT', note = 'the node stopped while sending',"
                " next_attempt_at = ? WHERE job_id = ? AND role = ? AND destination = ?"
                " AND state = 'SENDING' AND attempts = ?",
                (self._now(), delivery.job_id, delivery.role, delivery.destination, delivery.attempts),
            )


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternate:
    """The destination that gets an object in another's stead, and whether it shall confirm it."""

    name: str
    confirm: bool


def divert(
    tx: Transaction, delivery: Delivery, alternate: Alternate, said: tuple[int | None, str, str]
) -> None:
    """Give a delivery to an alternate: its own row is DROPPED for good, and says so.

    What the alternate has, or is about to get, it does not get twice.

    Parameters
    ----------
    tx : the transaction it is part of
    delivery : what was being sent
    alternate : who gets it now
    said : status and note of the last attempt, and the time
    """
    status, note, now = said
    key = (delivery.job_id, delivery.role, delivery.destination)
    for state, why in (("FAILED", note), ("DROPPED", f"Goes to {alternate.name} instead. {note}")):
        tx.run(
            "UPDATE delivery SET state = ?, note = ?, status = ?"
            " WHERE job_id = ? AND role = ? AND destination = ?",
            (state, why, status, *key),
        )
    tx.run(
        "INSERT INTO delivery (job_id, role, destination, path, sop_uid, state, next_attempt_at, note,"
        " confirmation, instead_of) VALUES (?, ?, ?, ?, ?, 'PENDING', ?, ?, ?, ?)"
        " ON CONFLICT (job_id, role, destination) DO UPDATE SET state = 'PENDING', attempts = 0,"
        " first_attempt_at = NULL, next_attempt_at = excluded.next_attempt_at, note = excluded.note,"
        " confirmation = excluded.confirmation, instead_of = excluded.instead_of"
        " WHERE delivery.state IN ('FAILED', 'DROPPED')",
        (delivery.job_id, delivery.role, alternate.name, delivery.path, delivery.sop_uid, now,
         f"instead of {delivery.destination}", "WANTED" if alternate.confirm else "", delivery.destination),
    )  # fmt: skip
