"""When what one destination does not take goes to another, and that it never silently goes to both."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from orgseg_node.errors import NetworkError, OrgsegError, StoreRefused
from orgseg_node.node.database import Transaction
from orgseg_node.node.destinations import Destination, WebDestination
from orgseg_node.node.jobs import Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternate:
    """The destination that gets an object in another's stead, and whether it shall confirm it."""

    name: str
    confirm: bool


def is_permanent(error: OrgsegError) -> bool:
    """Whether the very same object will be refused again.

    Too few resources (A7xx, 0213) and a failure while processing (0110) may pass; that an object is not of
    its class, not understood or not supported (A9xx, Cxxx, 0122 and others; PS3.4 B.2.3, PS3.7 C) does not.
    """
    if not isinstance(error, StoreRefused):
        return False
    return error.status is None or not (error.status & 0xFF00 == 0xA700 or error.status in (0x0110, 0x0213))


def is_due(
    delivery: Delivery, place: Destination | WebDestination, error: OrgsegError, now: datetime
) -> bool:
    """Whether a delivery that has just failed shall go to the alternate of its destination."""
    if place.alternate is None or not isinstance(error, NetworkError):
        return False
    since = delivery.first_attempt_at or now
    return is_permanent(error) or now - since >= timedelta(hours=place.alternate_after_h)


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
