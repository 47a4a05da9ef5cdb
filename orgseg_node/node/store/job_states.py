"""Every statement that changes the state of a job.

A job is added in QUEUED by `add`; every later change is a `move`. Who moves a job:

============================================  ===============================================================
change                                        where
============================================  ===============================================================
new -> QUEUED                                 `routing_rows.write_job`: its series became READY
QUEUED -> PREPARING -> ... -> CHECKING        `Worker`, `ChildRunner`: as the child reports its progress
CHECKING -> REVIEW                            `Worker`: a finding or a rule asks for a review
PREPARING -> REVIEW                           `Worker`: the scan is doubtful and was not contoured
REVIEW -> QUEUED                              `Store.release_scan`: a person has it contoured anyway
CHECKING, REVIEW -> SENDING                   `DeliveryRows.begin_sending`
SENDING -> DONE, FAILED                       `finish_sending`: every object is delivered or failed
running -> RETRY_WAIT, FAILED                 `Worker`: the child failed
running, RETRY_WAIT -> QUEUED                 `Worker`, `Dispatcher`: the job is run again
any open state -> SUPERSEDED                  `Store.accept`: a later revision of the series replaces it
DONE, SUPERSEDED, CANCELLED -> QUEUED         `routing_rows.write_job`: the same images were sent again
DONE, FAILED -> QUEUED                        `routing_rows.write_job`: it has a new destination
FAILED, CANCELLED -> QUEUED, SENDING          `Store.retry`: a person starts it again
open state -> CANCELLED, REJECTED             `JobCommands`: a person stops or rejects it
DONE, FAILED -> SENDING                       `JobCommands`: a person has the objects sent again
============================================  ===============================================================

The database refuses every change that `JOB_TRANSITIONS` in `orgseg_node.node.store.model` does not list
and appends each change to the history. The functions run inside a transaction of the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from orgseg_node.contouring.object_roles import IMAGE
from orgseg_node.errors import UnknownJob
from orgseg_node.node.store.database import Transaction, marks
from orgseg_node.node.store.model import (
    COMPUTING,
    NOT_DELIVERED,
    Confirmation,
    DeliveryState,
    Job,
    JobState,
    NewJob,
    Series,
)

_ARRIVED: Final = (DeliveryState.STORED, DeliveryState.COMMITTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobChange:
    """A change of a job's state.

    Attributes
    ----------
    state : the new state
    note : a sentence for the history
    reason : stable code of the reason, or empty
    at : the time, as stored in the database
    """

    state: JobState
    note: str
    reason: str = ""
    at: str


def add(tx: Transaction, series: Series, new: NewJob, now: str) -> None:
    """Add a job in QUEUED.

    Parameters
    ----------
    tx : the transaction
    series : the series that is contoured
    new : the job
    now : the time, as stored in the database
    """
    tx.run(
        "INSERT INTO job (job_id, series_uid, revision, content_sha256, bundles, models, slices, state,"
        " note, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, 'QUEUED', ?, ?, ?)",
        (new.job_id, new.series_uid, series.revision, new.content_sha256, ",".join(new.bundles),
         ",".join(new.models), new.slices, f"{new.slices} slices, revision {series.revision}", now, now),
    )  # fmt: skip


def move(tx: Transaction, job_id: str, change: JobChange) -> None:
    """Change the state of a job.

    Parameters
    ----------
    tx : the transaction
    job_id : its number
    change : the new state, and why

    Raises
    ------
    UnknownJob
        If there is no such job.
    IllegalTransition
        If the job cannot go there from its present state.
    """
    progress = {JobState.QUEUED: 0.0, JobState.DONE: 1.0}.get(change.state)
    changed = tx.run(
        "UPDATE job SET state = ?, reason = ?, note = ?, stage = '', updated_at = ?,"
        " progress = coalesce(?, progress) WHERE job_id = ?",
        (change.state, change.reason, change.note, change.at, progress, job_id),
    )
    if not changed:
        raise UnknownJob(f"{job_id!r}.")


def mark_purged(tx: Transaction, job: Job, is_here: Callable[[str], bool], now: str) -> None:
    """Note that the files of a job are deleted, and delete the rows of the images without a file.

    Parameters
    ----------
    tx : the transaction
    job : the job
    is_here : whether there is a file at a path, relative to the data folder
    now : the time, as stored in the database
    """
    tx.run("UPDATE job SET purged_at = ? WHERE job_id = ?", (now, job.job_id))
    for (path,) in tx.rows("SELECT path FROM instance WHERE series_uid = ?", (job.series_uid,)):
        if not is_here(str(path)):
            tx.run("DELETE FROM instance WHERE path = ?", (path,))
    tx.append_event("job", job.job_id, "purged", "Its files were deleted after the retention time.")


def undelivered(tx: Transaction, series_uid: str) -> list[str]:
    """Open jobs of a series of which no destination has received, or is receiving, an object but a CT."""
    touched = (DeliveryState.SENDING, DeliveryState.STORED, DeliveryState.COMMITTED)
    open_states = (*sorted(COMPUTING), JobState.FAILED, JobState.REJECTED, JobState.SENDING)
    rows = tx.rows(
        f"SELECT job_id FROM job j WHERE series_uid = ? AND state IN ({marks(open_states)})"  # noqa: S608 (question marks only)
        " AND delivered_at IS NULL AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.job_id = j.job_id"
        f" AND d.state IN ({marks(touched)}) AND d.role NOT LIKE ?)",
        (series_uid, *open_states, *touched, f"{IMAGE}%"),
    )
    return [str(job_id) for (job_id,) in rows]


def finish_sending(tx: Transaction, job_id: str, now: str) -> JobState:
    """Move a job from SENDING to DONE or FAILED once each of its deliveries is final.

    A delivery that the destination has to confirm is final when it is COMMITTED, or STORED and no longer
    waited for.

    Parameters
    ----------
    tx : the transaction
    job_id : number of the job
    now : the time, as stored in the database

    Returns
    -------
    The state of the job
    """
    ((value,),) = tx.rows("SELECT state FROM job WHERE job_id = ?", (job_id,))
    state = JobState(value)
    if state is not JobState.SENDING:
        return state
    rows = tx.rows(
        "SELECT state, confirmation, count(*) FROM delivery WHERE job_id = ? GROUP BY state, confirmation",
        (job_id,),
    )
    counts = {(DeliveryState(found), Confirmation(wanted)): int(count) for found, wanted, count in rows}
    states = {found for found, _ in counts}
    final = {*_ARRIVED, DeliveryState.DROPPED, DeliveryState.FAILED}
    if not states <= final or (DeliveryState.STORED, Confirmation.WANTED) in counts:
        return state
    failed = sum(count for (found, _), count in counts.items() if found is DeliveryState.FAILED)
    if failed:
        found = tx.rows(
            "SELECT DISTINCT destination FROM delivery WHERE job_id = ? AND state = 'FAILED'"
            " ORDER BY destination",
            (job_id,),
        )
        places = ", ".join(str(name) for (name,) in found)
        note = f"{failed} objects could not be delivered to {places}; they are kept."
        change = JobChange(state=JobState.FAILED, note=note, reason=NOT_DELIVERED, at=now)
    else:
        change = JobChange(state=JobState.DONE, note=_summary(counts), at=now)
    move(tx, job_id, change)
    return change.state


def _summary(counts: Mapping[tuple[DeliveryState, Confirmation], int]) -> str:
    """Where the objects of a job went, in one sentence."""
    arrived = sum(count for (state, _), count in counts.items() if state in _ARRIVED)
    confirmed = sum(count for (state, _), count in counts.items() if state is DeliveryState.COMMITTED)
    unconfirmed = counts.get((DeliveryState.STORED, Confirmation.WAIVED), 0)
    if not counts:
        return "Kept here; no destination is set."
    note = f"{arrived} objects delivered"
    if confirmed:
        note += f", {confirmed} of them confirmed by the archive"
    return note + (f", {unconfirmed} stored but not confirmed." if unconfirmed else ".")
