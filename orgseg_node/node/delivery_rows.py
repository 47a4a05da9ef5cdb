"""The part of the node's memory that knows what is still to be sent, whatever became of the job."""

from __future__ import annotations

from orgseg_node.node.clock import Clock, stamp
from orgseg_node.node.database import Database
from orgseg_node.node.jobs import Delivery


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
