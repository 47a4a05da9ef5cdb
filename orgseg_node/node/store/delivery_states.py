"""Every statement that changes the state of a delivery: one object of a job on its way to one destination.

===============  =============================================  ===========================================
function         change                                         when
===============  =============================================  ===========================================
`add`            new -> PENDING                                 the job goes to SENDING
`claim`          PENDING, RETRY_WAIT -> SENDING                 a sender starts an attempt
`record_result`  SENDING -> STORED, RETRY_WAIT, FAILED          the destination answered, or did not
`confirm`        STORED -> COMMITTED                            storage commitment: it is kept
`reject_stored`  STORED -> RETRY_WAIT, FAILED                   storage commitment: it is not kept
`fail_doubtful`  STORED -> RETRY_WAIT -> FAILED                  neither answered nor confirmed
`requeue`        SENDING -> RETRY_WAIT                          the process that was sending it died
`divert`         SENDING -> FAILED -> DROPPED; new -> PENDING   the alternate destination gets the object
`drop_unsent`    PENDING, RETRY_WAIT, FAILED -> DROPPED         the job was stopped, replaced or rerouted
`restart`        FAILED, DROPPED -> PENDING                     a person or a rule has it tried again
`restart_all`    any other state -> PENDING                     the whole job is run again
`resend`         any state, or new -> PENDING                   a person has the objects sent again
===============  =============================================  ===========================================

The database refuses every change that `DELIVERY_TRANSITIONS` in `orgseg_node.node.store.model` does not list
and appends each change to the history. The functions run inside a transaction of the caller.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from orgseg_node.node.store.clock import stamp
from orgseg_node.node.store.database import Transaction, marks
from orgseg_node.node.store.model import Confirmation, Delivery, DeliveryState, OutputObject

_UNSENT: Final = (DeliveryState.PENDING, DeliveryState.RETRY_WAIT, DeliveryState.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternate:
    """The destination that gets an object instead of another one.

    Attributes
    ----------
    name : of the destination
    confirm : whether it has to confirm the object by storage commitment
    variant : what it gets: the same content without references to objects that it may not get; None for the
        very object
    """

    name: str
    confirm: bool
    variant: OutputObject | None = None


def add(
    tx: Transaction,
    job_id: str,
    pairs: Iterable[tuple[OutputObject, str]],
    *,
    confirm: Collection[str],
    now: str,
) -> None:
    """Add the deliveries of a job; one that exists keeps its state and gets the new object.

    Parameters
    ----------
    tx : the transaction
    job_id : number of the job
    pairs : objects, each with the name of a destination
    confirm : names of the destinations that have to confirm by storage commitment
    now : the time, as stored in the database
    """
    for item, name in pairs:
        tx.run(
            "INSERT INTO delivery (job_id, role, destination, path, sop_uid, state, next_attempt_at,"
            " confirmation) VALUES (?, ?, ?, ?, ?, 'PENDING', ?, ?)"
            " ON CONFLICT (job_id, role, destination) DO UPDATE SET path = excluded.path,"
            " sop_uid = excluded.sop_uid, confirmation = excluded.confirmation, instead_of = ''",
            (
                job_id,
                item.role,
                name,
                item.path,
                item.sop_uid,
                now,
                Confirmation.WANTED if name in confirm else Confirmation.NONE,
            ),
        )


def claim(tx: Transaction, job_id: str, destination: str, now: str) -> None:
    """Start an attempt to send the unsent objects of a job to a destination; nothing if it is not in SENDING.

    A delivery found in SENDING belongs to a process that died: the same attempt is made again.

    Parameters
    ----------
    tx : the transaction
    job_id : number of the job
    destination : name of the destination
    now : the time, as stored in the database
    """
    key = (job_id, destination)
    tx.run(
        "UPDATE delivery SET state = 'RETRY_WAIT', note = 'the node stopped while sending',"
        " attempts = attempts - 1 WHERE job_id = ? AND destination = ? AND state = 'SENDING'",
        key,
    )
    tx.run(
        "UPDATE delivery SET state = 'SENDING', attempts = attempts + 1, note = '',"
        " first_attempt_at = coalesce(first_attempt_at, ?)"
        " WHERE job_id = ? AND destination = ? AND state IN ('PENDING', 'RETRY_WAIT')"
        " AND (SELECT state FROM job j WHERE j.job_id = delivery.job_id) = 'SENDING'",
        (now, *key),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of an attempt to send an object.

    Attributes
    ----------
    state : STORED, RETRY_WAIT or FAILED
    status : DICOM or HTTP status of the answer; None if there was no answer
    note : the result as a sentence
    next_at : when to try again, for RETRY_WAIT
    """

    state: DeliveryState
    status: int | None
    note: str
    next_at: datetime


def record_result(tx: Transaction, delivery: Delivery, result: Result) -> None:
    """Note the result of an attempt to send an object.

    Parameters
    ----------
    tx : the transaction
    delivery : what was sent
    result : how it went
    """
    tx.run(
        "UPDATE delivery SET state = ?, status = ?, note = ?, next_attempt_at = ?"
        " WHERE job_id = ? AND role = ? AND destination = ?",
        (result.state, result.status, result.note, stamp(result.next_at), *_key(delivery)),
    )


def confirm(tx: Transaction, job_id: str, destination: str, sop_uids: Iterable[str]) -> int:
    """Note that a destination confirmed objects by storage commitment, even after nobody waited for it.

    Parameters
    ----------
    tx : the transaction
    job_id : number of the job
    destination : name of the destination
    sop_uids : SOP Instance UIDs of the confirmed objects

    Returns
    -------
    How many objects became COMMITTED
    """
    return sum(
        tx.run(
            "UPDATE delivery SET state = 'COMMITTED', note = 'confirmed by the archive',"
            " confirmation = 'WANTED' WHERE job_id = ? AND destination = ? AND sop_uid = ?"
            " AND state = 'STORED'",
            (job_id, destination, sop_uid),
        )
        for sop_uid in sop_uids
    )


def reject_stored(
    tx: Transaction, key: tuple[str, str], failed: Mapping[str, int], *, retry_at: str, give_up_before: str
) -> None:
    """Note that a destination did not keep objects: each is sent again, or FAILED after too long a time.

    If the job is no longer in SENDING, the delivery stays STORED and only gets the note.

    Parameters
    ----------
    tx : the transaction
    key : number of the job, name of the destination
    failed : Failure Reason (0008,1197) for each SOP Instance UID
    retry_at : when to send again, as stored in the database
    give_up_before : what was first sent before this time is FAILED instead
    """
    for sop_uid, reason in failed.items():
        note = f"The archive does not keep it: 0x{reason:04X}."
        tx.run(
            "UPDATE delivery SET note = ?, status = ?"
            " WHERE job_id = ? AND destination = ? AND sop_uid = ? AND state = 'STORED'",
            (note, reason, *key, sop_uid),
        )
        tx.run(
            "UPDATE delivery SET state = 'RETRY_WAIT', next_attempt_at = ?"
            " WHERE job_id = ? AND destination = ? AND sop_uid = ? AND state = 'STORED'"
            " AND (SELECT state FROM job j WHERE j.job_id = delivery.job_id) = 'SENDING'",
            (retry_at, *key, sop_uid),
        )
        tx.run(
            "UPDATE delivery SET state = 'FAILED' WHERE job_id = ? AND destination = ? AND sop_uid = ?"
            " AND state = 'RETRY_WAIT' AND note = ? AND first_attempt_at < ?",
            (*key, sop_uid, note, give_up_before),
        )


def fail_doubtful(tx: Transaction, key: tuple[str, str]) -> None:
    """Note that nobody knows whether a destination has objects: it neither answered nor confirmed them.

    Parameters
    ----------
    tx : the transaction
    key : number of the job, name of the destination
    """
    note = "Neither answered nor confirmed; see at the destination whether the object is there."
    tx.run(
        "UPDATE delivery SET state = 'RETRY_WAIT', note = ? WHERE job_id = ? AND destination = ?"
        " AND state = 'STORED' AND confirmation = 'WANTED' AND status IS NULL",
        (note, *key),
    )
    tx.run(
        "UPDATE delivery SET state = 'FAILED' WHERE job_id = ? AND destination = ?"
        " AND state = 'RETRY_WAIT' AND note = ?",
        (*key, note),
    )


def requeue(tx: Transaction, delivery: Delivery, now: str) -> None:
    """Make a delivery due again whose sender died.

    Parameters
    ----------
    tx : the transaction
    delivery : as it was when its sender was found dead; it is left alone if another attempt began since
    now : the time, as stored in the database
    """
    tx.run(
        "UPDATE delivery SET state = 'RETRY_WAIT', note = 'the node stopped while sending',"
        " next_attempt_at = ? WHERE job_id = ? AND role = ? AND destination = ?"
        " AND state = 'SENDING' AND attempts = ?",
        (now, *_key(delivery), delivery.attempts),
    )


def divert(tx: Transaction, delivery: Delivery, alternate: Alternate, result: Result) -> None:
    """Give an object that a destination did not accept to the alternate destination.

    The delivery itself is DROPPED. What the alternate already has, or is about to get, is not sent twice.

    Parameters
    ----------
    tx : the transaction
    delivery : what was being sent
    alternate : the destination that gets it now, at `next_at` of the result
    result : the result of the last attempt
    """
    for state, note in (
        ("FAILED", result.note),
        ("DROPPED", f"Goes to {alternate.name} instead. {result.note}"),
    ):
        tx.run(
            "UPDATE delivery SET state = ?, note = ?, status = ?"
            " WHERE job_id = ? AND role = ? AND destination = ?",
            (state, note, result.status, *_key(delivery)),
        )
    given = alternate.variant or delivery
    tx.run(
        "INSERT INTO delivery (job_id, role, destination, path, sop_uid, state, next_attempt_at, note,"
        " confirmation, instead_of) VALUES (?, ?, ?, ?, ?, 'PENDING', ?, ?, ?, ?)"
        " ON CONFLICT (job_id, role, destination) DO UPDATE SET state = 'PENDING', attempts = 0,"
        " first_attempt_at = NULL, next_attempt_at = excluded.next_attempt_at, note = excluded.note,"
        " confirmation = excluded.confirmation, instead_of = excluded.instead_of"
        " WHERE delivery.state IN ('FAILED', 'DROPPED')",
        (delivery.job_id, given.role, alternate.name, given.path, given.sop_uid,
         stamp(result.next_at), f"instead of {delivery.destination}",
         Confirmation.WANTED if alternate.confirm else Confirmation.NONE,
         delivery.destination),
    )  # fmt: skip


def drop_unsent(tx: Transaction, job_id: str, why: str, *, destination: str | None = None) -> int:
    """Drop what a job has not sent yet.

    Parameters
    ----------
    tx : the transaction
    job_id : number of the job
    why : note of the dropped deliveries
    destination : drop only what was for this destination

    Returns
    -------
    How many objects were dropped
    """
    return tx.run(
        f"UPDATE delivery SET state = 'DROPPED', note = ? WHERE job_id = ? AND state IN ({marks(_UNSENT)})"  # noqa: S608 (question marks only)
        " AND (? IS NULL OR destination = ?)",
        (why, job_id, *_UNSENT, destination, destination),
    )


def restart(tx: Transaction, job_id: str, states: Collection[DeliveryState], now: str) -> None:
    """Have the deliveries of a job that failed or were dropped tried again.

    Parameters
    ----------
    tx : the transaction
    job_id : number of the job
    states : the states that are restarted
    now : the time, as stored in the database
    """
    tx.run(
        "UPDATE delivery SET state = 'PENDING', first_attempt_at = NULL, next_attempt_at = ?"  # noqa: S608
        f" WHERE job_id = ? AND state IN ({marks(states)})",  # question marks only
        (now, job_id, *states),
    )


def restart_all(tx: Transaction, job_id: str, now: str) -> None:
    """Have everything of a job sent again to the destinations that its rule names.

    Parameters
    ----------
    tx : the transaction
    job_id : number of the job
    now : the time, as stored in the database
    """
    tx.run(
        "UPDATE delivery SET state = 'PENDING', attempts = 0, next_attempt_at = ? WHERE job_id = ?"
        " AND state <> 'PENDING' AND instead_of = ''",
        (now, job_id),
    )


def resend(tx: Transaction, job_id: str, pairs: Iterable[tuple[OutputObject, str]], now: str) -> None:
    """Have objects of a job sent again, whatever became of them before.

    Parameters
    ----------
    tx : the transaction
    job_id : number of the job
    pairs : objects, each with the name of a destination
    now : the time, as stored in the database
    """
    for item, name in pairs:
        tx.run(
            "INSERT INTO delivery (job_id, role, destination, path, sop_uid, state, next_attempt_at)"
            " VALUES (?, ?, ?, ?, ?, 'PENDING', ?) ON CONFLICT (job_id, role, destination)"
            " DO UPDATE SET state = 'PENDING', attempts = 0, first_attempt_at = NULL, status = NULL,"
            " note = '', next_attempt_at = excluded.next_attempt_at",
            (job_id, item.role, name, item.path, item.sop_uid, now),
        )


def _key(delivery: Delivery) -> tuple[str, str, str]:
    return delivery.job_id, delivery.role, delivery.destination
