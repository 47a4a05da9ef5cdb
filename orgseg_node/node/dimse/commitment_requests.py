"""What senders asked this node to confirm, remembered until they have been told (storage commitment SCP)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from orgseg_node.dicom.objects.storage_commitment import Item
from orgseg_node.node.store.clock import Clock, stamp, utc_now
from orgseg_node.node.store.database import Database

_ANSWERED_BY: Final = timedelta(seconds=1)
"""The request has its answer by then; the report shall not overtake it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of one sender.

    Attributes
    ----------
    outcome : empty while the report is owed; then ``REPORTED`` or ``GIVEN_UP``
    """

    transaction_uid: str
    calling_ae: str
    outcome: str
    note: str
    attempts: int
    created_at: datetime
    next_attempt_at: datetime


class CommitmentRequests:
    """Requests in the node's database.

    Parameters
    ----------
    database : the node's
    clock : where the time comes from
    """

    def __init__(self, database: Database, *, clock: Clock = utc_now) -> None:
        self._db = database
        self._clock = clock

    def _now(self) -> str:
        return stamp(self._clock())

    def add(self, calling_ae: str, transaction_uid: str, items: Sequence[Item]) -> bool:
        """Remember a request; it is on the disk when this returns.

        The very same request again, as of a sender that did not get the answer, is reported once more.

        Returns
        -------
        False, with nothing done, if the sender used this transaction UID for other objects.
        """
        now, key = self._now(), (transaction_uid, calling_ae)
        due = stamp(self._clock() + _ANSWERED_BY)
        with self._db.write() as tx:
            known = tx.rows(
                "SELECT sop_class_uid, sop_uid FROM commitment_request_item"
                " WHERE transaction_uid = ? AND calling_ae = ? ORDER BY place",
                key,
            )
            if known and [tuple(row) for row in known] != [(i.sop_class_uid, i.sop_uid) for i in items]:
                return False
            tx.run(
                "INSERT INTO commitment_request (transaction_uid, calling_ae, created_at, next_attempt_at)"
                " VALUES (?, ?, ?, ?) ON CONFLICT (transaction_uid, calling_ae) DO UPDATE SET outcome = '',"
                " attempts = 0, created_at = excluded.created_at, next_attempt_at = excluded.next_attempt_at",
                (*key, now, due),
            )
            for place, item in enumerate(items if not known else ()):
                tx.run(
                    "INSERT INTO commitment_request_item"
                    " (transaction_uid, calling_ae, place, sop_class_uid, sop_uid) VALUES (?, ?, ?, ?, ?)",
                    (*key, place, item.sop_class_uid, item.sop_uid),
                )
        return True

    def due(self) -> list[Request]:
        """Requests whose report is owed now."""
        return self._db.read(
            Request,
            "SELECT * FROM commitment_request WHERE outcome = '' AND next_attempt_at <= ?"
            " ORDER BY created_at",
            (self._now(),),
        )

    def all(self) -> list[Request]:
        """Every request that is remembered, the oldest first."""
        return self._db.read(Request, "SELECT * FROM commitment_request ORDER BY created_at")

    def items(self, request: Request) -> list[Item]:
        """The objects of a request, in the sender's order."""
        return self._db.read(
            Item,
            "SELECT sop_class_uid, sop_uid FROM commitment_request_item"
            " WHERE transaction_uid = ? AND calling_ae = ? ORDER BY place",
            (request.transaction_uid, request.calling_ae),
        )

    def note(self, request: Request, outcome: str, note: str, next_at: datetime) -> None:
        """Remember how an attempt to report went."""
        with self._db.write() as tx:
            tx.run(
                "UPDATE commitment_request SET outcome = ?, note = ?, attempts = attempts + 1,"
                " next_attempt_at = ? WHERE transaction_uid = ? AND calling_ae = ? AND created_at = ?",
                (outcome, note, stamp(next_at), request.transaction_uid, request.calling_ae,
                 stamp(request.created_at)),
            )  # fmt: skip

    def forget(self, before: datetime) -> None:
        """Delete requests that were answered, or given up, before a moment."""
        with self._db.write() as tx:
            tx.run(
                "DELETE FROM commitment_request_item WHERE EXISTS (SELECT 1 FROM commitment_request r"
                " WHERE r.transaction_uid = commitment_request_item.transaction_uid"
                " AND r.calling_ae = commitment_request_item.calling_ae AND r.outcome <> ''"
                " AND r.next_attempt_at < ?)",
                (stamp(before),),
            )
            tx.run(
                "DELETE FROM commitment_request WHERE outcome <> '' AND next_attempt_at < ?",
                (stamp(before),),
            )
