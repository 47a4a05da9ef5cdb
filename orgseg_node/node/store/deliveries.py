"""Deliveries as the senders use them: what is due now, and the results of sending.

A delivery is one object of a job for one destination. The state changes are in
`orgseg_node.node.store.delivery_states`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from orgseg_node.node.store import delivery_states, job_states
from orgseg_node.node.store.audit import Attribution
from orgseg_node.node.store.clock import Clock, stamp
from orgseg_node.node.store.database import Database, Transaction
from orgseg_node.node.store.delivery_states import Alternate, Result
from orgseg_node.node.store.job_states import JobChange
from orgseg_node.node.store.model import Delivery, DeliveryState, JobState, OutputObject


class DeliveryRows:
    """The part of the store that the senders use.

    Parameters
    ----------
    database : the node's database
    clock : source of the time
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._db = database
        self._clock = clock
        self.attribution = Attribution(clock)

    def _now(self) -> str:
        return stamp(self._clock())

    # ------------------------------------------------------------------ read

    def deliveries(self, job_id: str) -> list[Delivery]:
        """Every delivery of a job."""
        return self._db.read(
            Delivery, "SELECT * FROM delivery WHERE job_id = ? ORDER BY destination, role", (job_id,)
        )

    def due_deliveries(self) -> list[Delivery]:
        """Deliveries that are to be sent now.

        Their job is in SENDING, and the time of their next attempt has come. While one object of a job is
        being sent to a destination, no other object of the job is due there.
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
        """Deliveries in SENDING, whether or not a process still works on them."""
        return self._db.read(Delivery, "SELECT * FROM delivery WHERE state = 'SENDING'")

    # ------------------------------------------------------------------ send

    def begin_sending(
        self, job_id: str, pairs: Sequence[tuple[OutputObject, str]], *, confirm: Collection[str] = ()
    ) -> JobState:
        """Move a checked or approved job to SENDING and add its deliveries.

        Parameters
        ----------
        job_id : number of the job
        pairs : its objects, each with the name of a destination
        confirm : names of the destinations that have to confirm by storage commitment

        Returns
        -------
        The state of the job: DONE if there is nothing to send
        """
        now = self._now()
        places = ", ".join(sorted({name for _, name in pairs}))
        note = f"To {places or 'no destination'}."
        with self._db.write() as tx:
            self.attribution.note(tx, job_id)
            job_states.move(tx, job_id, JobChange(state=JobState.SENDING, note=note, at=now))
            delivery_states.add(tx, job_id, pairs, confirm=confirm, now=now)
            return finish(tx, job_id, now)

    def claim(self, job_id: str, destination: str) -> list[Delivery]:
        """Start an attempt to send the unsent objects of a job to a destination; nothing if it was stopped.

        What a process was sending when it died is sent again, as the same attempt and the same object.
        """
        with self._db.write() as tx:
            self.attribution.note(tx, job_id)
            delivery_states.claim(tx, job_id, destination, self._now())
        return [d for d in self.deliveries(job_id) if d.destination == destination and d.state == "SENDING"]

    def record_delivery(
        self, delivery: Delivery, state: DeliveryState, *, status: int | None, note: str, next_at: datetime
    ) -> JobState:
        """Note the result of an attempt; the job is DONE or FAILED when nothing is left to send.

        Parameters
        ----------
        delivery : what was sent
        state : STORED, RETRY_WAIT or FAILED
        status : DICOM or HTTP status of the answer; None if there was no answer
        note : the result as a sentence
        next_at : when to try again, for RETRY_WAIT

        Returns
        -------
        The state of the job
        """
        now = self._now()
        with self._db.write() as tx:
            self.attribution.note(tx, delivery.job_id)
            result = Result(state=state, status=status, note=note, next_at=next_at)
            delivery_states.record_result(tx, delivery, result)
            if state is DeliveryState.STORED and not delivery.is_image:
                tx.run(
                    "UPDATE job SET delivered_at = coalesce(delivered_at, ?) WHERE job_id = ?",
                    (now, delivery.job_id),
                )
            return finish(tx, delivery.job_id, now)

    def divert(self, delivery: Delivery, alternate: Alternate, *, status: int | None, note: str) -> JobState:
        """Give an object that a destination did not accept to the alternate destination.

        Parameters
        ----------
        delivery : what was being sent
        alternate : the destination that gets it now
        status : DICOM or HTTP status of the last answer; None if there was no answer
        note : the result of the last attempt as a sentence

        Returns
        -------
        The state of the job
        """
        now = self._clock()
        result = Result(state=DeliveryState.DROPPED, status=status, note=note, next_at=now)
        with self._db.write() as tx:
            delivery_states.divert(tx, delivery, alternate, result)
            return finish(tx, delivery.job_id, stamp(now))

    def requeue_delivery(self, delivery: Delivery) -> None:
        """Make a delivery due again whose sender died."""
        with self._db.write() as tx:
            delivery_states.requeue(tx, delivery, self._now())

    def skip_attempt(self, delivery: Delivery) -> None:
        """Count an attempt that was never made, so that the next one has its own number."""
        with self._db.write() as tx:
            tx.run(
                "UPDATE delivery SET attempts = attempts + 1 WHERE job_id = ? AND destination = ?"
                " AND state IN ('PENDING', 'RETRY_WAIT')",
                (delivery.job_id, delivery.destination),
            )


def finish(tx: Transaction, job_id: str, now: str) -> JobState:
    """Finish the sending of a job if all its deliveries are final; drop what a stopped job has not sent.

    Parameters
    ----------
    tx : the transaction
    job_id : number of the job
    now : the time, as stored in the database

    Returns
    -------
    The state of the job
    """
    state = job_states.finish_sending(tx, job_id, now)
    if state in {JobState.CANCELLED, JobState.SUPERSEDED}:
        delivery_states.drop_unsent(tx, job_id, "stopped")  # it was being sent when the job was stopped
    return state
