"""Storage commitment requests that were sent, and their reports (storage commitment SCU)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from orgseg_node.dicom.objects.storage_commitment import Report
from orgseg_node.node.store import delivery_states
from orgseg_node.node.store.clock import Clock, stamp, utc_now
from orgseg_node.node.store.database import Database, Transaction
from orgseg_node.node.store.deliveries import finish
from orgseg_node.node.store.model import Confirmation, Delivery, DeliveryState


@dataclass(frozen=True, slots=True, kw_only=True)
class Unconfirmed:
    """The objects of a job that a destination stored and has not confirmed.

    Attributes
    ----------
    job_id : number of the job
    destination : name of the destination
    asks : how often the destination accepted a request
    tries : how often a request could not be sent since then
    created_at : time of the first attempt to ask
    """

    job_id: str
    destination: str
    asks: int
    tries: int
    created_at: datetime


class Confirmations:
    """Requests and reports in the node's database.

    Parameters
    ----------
    database : the node's database
    clock : source of the time
    """

    def __init__(self, database: Database, *, clock: Clock = utc_now) -> None:
        self._db = database
        self._clock = clock

    def _now(self) -> str:
        return stamp(self._clock())

    def due(self) -> list[Unconfirmed]:
        """Destinations to ask now: those to which everything of a job has been sent."""
        now = self._now()
        return self._db.read(
            Unconfirmed,
            "SELECT g.job_id, g.destination, coalesce(c.asks, 0) AS asks, coalesce(c.tries, 0) AS tries,"
            " coalesce(c.created_at, ?) AS created_at FROM (SELECT d.job_id, d.destination FROM delivery d"
            " JOIN job j ON j.job_id = d.job_id WHERE j.state = 'SENDING' GROUP BY d.job_id, d.destination"
            " HAVING sum(CASE WHEN d.state = 'STORED' AND d.confirmation = 'WANTED' THEN 1 ELSE 0 END) > 0"
            " AND sum(CASE WHEN d.state IN ('PENDING', 'SENDING', 'RETRY_WAIT') THEN 1 ELSE 0 END) = 0) g"
            " LEFT JOIN confirmation c ON c.job_id = g.job_id AND c.destination = g.destination"
            " WHERE c.next_attempt_at IS NULL OR c.next_attempt_at <= ? ORDER BY g.job_id, g.destination",
            (now, now),
        )

    def objects(self, one: Unconfirmed) -> list[Delivery]:
        """The deliveries that are to be confirmed."""
        return self._db.read(
            Delivery,
            "SELECT * FROM delivery WHERE job_id = ? AND destination = ? AND state = 'STORED'"
            " AND confirmation = 'WANTED' ORDER BY role",
            (one.job_id, one.destination),
        )

    def begin(self, one: Unconfirmed, transaction_uid: str) -> None:
        """Store a request before it is sent, so that its report is recognised whenever it comes."""
        with self._db.write() as tx:
            tx.run(
                "INSERT INTO confirmation_question (transaction_uid, job_id, destination, created_at)"
                " VALUES (?, ?, ?, ?)",
                (transaction_uid, one.job_id, one.destination, self._now()),
            )

    def asked(self, one: Unconfirmed, next_at: datetime, note: str) -> None:
        """Note that the destination accepted a request.

        Parameters
        ----------
        one : what it was asked to confirm
        next_at : when to ask again if no report comes
        note : a sentence for the deliveries
        """
        self._reschedule(one, (one.asks + 1, 0), next_at, note)

    def not_asked(self, one: Unconfirmed, next_at: datetime, note: str) -> None:
        """Note that a request could not be sent.

        Parameters
        ----------
        one : what was to be confirmed
        next_at : when to try again
        note : a sentence for the deliveries
        """
        self._reschedule(one, (one.asks, one.tries + 1), next_at, note)

    def _reschedule(self, one: Unconfirmed, counts: tuple[int, int], next_at: datetime, note: str) -> None:
        with self._db.write() as tx:
            left = self._note(tx, one, note)
            if not left:
                return  # the report came first
            tx.run(
                "INSERT INTO confirmation (job_id, destination, asks, tries, created_at, next_attempt_at)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (job_id, destination) DO UPDATE SET"
                " asks = excluded.asks, tries = excluded.tries, next_attempt_at = excluded.next_attempt_at",
                (one.job_id, one.destination, *counts, stamp(one.created_at), stamp(next_at)),
            )

    @staticmethod
    def _note(
        tx: Transaction, one: Unconfirmed, note: str, confirmation: Confirmation = Confirmation.WANTED
    ) -> int:
        return tx.run(
            "UPDATE delivery SET note = ?, confirmation = ? WHERE job_id = ? AND destination = ?"
            " AND state = 'STORED' AND confirmation = 'WANTED'",
            (note, confirmation, one.job_id, one.destination),
        )

    def waive(self, one: Unconfirmed, note: str) -> None:
        """Wait no longer for a report: the objects are stored, and shown as not confirmed."""
        with self._db.write() as tx:
            delivery_states.fail_doubtful(tx, (one.job_id, one.destination))
            self._note(tx, one, note, Confirmation.WAIVED)
            self._forget(tx, one.job_id, one.destination)
            finish(tx, one.job_id, self._now())

    @staticmethod
    def _forget(tx: Transaction, job_id: str, destination: str) -> None:
        tx.run("DELETE FROM confirmation WHERE job_id = ? AND destination = ?", (job_id, destination))

    def destination_of(self, transaction_uid: str) -> str | None:
        """The destination of a request; None if there was no request with this Transaction UID."""
        with self._db.write() as tx:
            rows = tx.rows(
                "SELECT destination FROM confirmation_question WHERE transaction_uid = ?", (transaction_uid,)
            )
        return str(rows[0][0]) if rows else None

    def answered(self, report: Report, *, retry_at: datetime, give_up_before: datetime) -> tuple[int, int]:
        """Apply a report: an object that is kept becomes COMMITTED, one that is not kept is sent again.

        Failures count only in the report on the latest request: an earlier report may be about an object that
        has been sent again since.

        Parameters
        ----------
        report : the report
        retry_at : when to send again what is not kept
        give_up_before : what was first sent before this time is FAILED instead

        Returns
        -------
        How many objects became COMMITTED, and how many are not kept
        """
        with self._db.write() as tx:
            rows = tx.rows(
                "SELECT q.job_id, q.destination, (SELECT count(*) FROM confirmation_question n"
                " WHERE n.job_id = q.job_id AND n.destination = q.destination"
                " AND n.created_at > q.created_at) FROM confirmation_question q WHERE q.transaction_uid = ?",
                (report.transaction_uid,),
            )
            if not rows:
                return 0, 0
            job_id, destination, later = rows[0]
            key = (str(job_id), str(destination))
            kept = delivery_states.confirm(tx, *key, [item.sop_uid for item in report.kept])
            failed = {} if later else {item.sop_uid: reason for item, reason in report.failed.items()}
            delivery_states.reject_stored(
                tx, key, failed, retry_at=stamp(retry_at), give_up_before=stamp(give_up_before)
            )
            if failed or not _still_wanted(tx, key):
                self._forget(tx, *key)
            finish(tx, key[0], self._now())
        return kept, len(failed)


def _still_wanted(tx: Transaction, key: tuple[str, str]) -> bool:
    state = DeliveryState.STORED.value
    sql = (
        "SELECT count(*) FROM delivery WHERE job_id = ? AND destination = ? AND state = ?"
        " AND confirmation = 'WANTED'"
    )
    ((count,),) = tx.rows(sql, (*key, state))
    return bool(count)
