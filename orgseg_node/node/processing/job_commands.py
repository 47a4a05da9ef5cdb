"""What a person may do with a job: retry, cancel, approve, reject or resend it.

Each command is written into the store, where the running node finds it at its next dispatch. So commands also
work from another process while the node runs, and before it starts. Who gave one, and why, is recorded in the
history of the job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from orgseg_node.contouring.object_roles import IMAGE, kind_of
from orgseg_node.errors import JobRefuses
from orgseg_node.node.processing.job_objects import pairs_of
from orgseg_node.node.store import delivery_states
from orgseg_node.node.store.clock import Clock, stamp, utc_now
from orgseg_node.node.store.database import Transaction
from orgseg_node.node.store.model import SENDING_STOPPED, Job, JobState, OutputObject
from orgseg_node.node.store.store import Store

_J: Final = JobState
_WORKING: Final = "It is being worked on; 'orgseg jobs cancel' stops it."
_SENT: Final = "It is done; 'orgseg jobs resend' sends its objects once more."
_OVER: Final = "A later revision of the series has taken its place; see 'orgseg jobs list'."
_RETRY: Final = "'orgseg jobs retry' starts it again."
_REVIEW: Final = "It waits for 'orgseg jobs approve' or 'orgseg jobs reject'."

_INSTEAD: Final[Mapping[JobState, str]] = {
    _J.QUEUED: "It waits for its turn; 'orgseg jobs cancel' stops it.",
    **dict.fromkeys((_J.PREPARING, _J.INFERRING, _J.WRITING, _J.CHECKING, _J.RETRY_WAIT), _WORKING),
    _J.REVIEW: _REVIEW,
    _J.SENDING: "It is being sent; 'orgseg jobs show' lists its destinations.",
    _J.DONE: _SENT,
    _J.FAILED: _RETRY,
    _J.CANCELLED: _RETRY,
    _J.SUPERSEDED: _OVER,
    _J.REJECTED: "It was rejected; nothing of it is sent.",
}
"""What can be done instead, or what the matter is, when a command is refused in a state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """That a person has approved a job in REVIEW.

    Attributes
    ----------
    job_id : number of the job
    person : name
    run : of the job
    note : who, and why
    at : time
    """

    job_id: str
    person: str
    run: int
    note: str
    at: datetime


class JobCommands:
    """The commands of a person on jobs.

    Parameters
    ----------
    store : the node's database
    clock : returns the time
    """

    def __init__(self, store: Store, *, clock: Clock = utc_now) -> None:
        self._store = store
        self._clock = clock

    def retry(self, job_id: str, note: str) -> Job:
        """Start a job again that failed or was cancelled. Raises JobRefuses."""
        job = self._store.job(job_id)
        _require(job, {_J.FAILED, _J.CANCELLED}, "started again")
        newer = [j for j in self._store.jobs_of(job.series_uid) if j.revision > job.revision]
        if newer:
            raise JobRefuses(f"Job {newer[-1].job_id} is of a later revision of its series.")
        return self._store.retry(job.job_id, f"retry: {note}")

    def cancel(self, job_id: str, note: str) -> Job:
        """Stop a job; what it has not sent yet is not sent. Raises JobRefuses."""
        job = self._store.job(job_id)
        with self._store.database.write() as tx:
            now = _state(tx, job.job_id)
            _require(job, set(JobState) - {_J.DONE, _J.FAILED, _J.CANCELLED, _J.SUPERSEDED, _J.REJECTED},
                     "cancelled", now)  # fmt: skip
            reason = SENDING_STOPPED if now is _J.SENDING else ""
            text = f"cancel: {note}"
            if now is _J.SENDING:
                delivery_states.drop_unsent(tx, job.job_id, "cancelled")
                text = f"{text}{_sent_so_far(tx, job.job_id)}"
            self._store.move_within(tx, job.job_id, _J.CANCELLED, text, reason)
        return self._store.job(job.job_id)

    def approve(self, job_id: str, note: str, person: str, *, seen: int | None = None) -> Job:
        """Approve a job in REVIEW; once enough persons have, the node sends it at its next dispatch.

        Parameters
        ----------
        job_id : of the job
        note : who approves it, and why
        person : name of who approves it; the same name counts once
        seen : number of the objects that the person looked at; None if that is not known

        Raises
        ------
        JobRefuses
            If the job is not in REVIEW, or its objects were made anew meanwhile.
        """
        job = self._store.job(job_id)
        with self._store.database.write() as tx:
            require_review(tx, job, "approved")
            ((number,),) = tx.rows("SELECT max(number) FROM object_revision WHERE job_id = ?", (job.job_id,))
            if seen is not None and seen != (number or 1):
                raise JobRefuses("Its objects were made anew meanwhile; look at them first.")
            tx.append_event("job", job.job_id, "approve", note)
            tx.run(
                "INSERT INTO job_approval (job_id, person, run, note, at) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (job_id, person) DO UPDATE"
                " SET run = excluded.run, note = excluded.note, at = excluded.at",
                (job.job_id, person.strip().casefold(), job.run, note, stamp(self._clock())),
            )
        return job

    def approvals(self, job: Job) -> list[Approval]:
        """Who has approved a job in its present run, the first first."""
        return self._store.database.read(
            Approval,
            "SELECT * FROM job_approval WHERE job_id = ? AND run = ? ORDER BY at, person",
            (job.job_id, job.run),
        )

    def reject(self, job_id: str, note: str) -> Job:
        """Reject a job in REVIEW: none of its objects is sent. Raises JobRefuses."""
        job = self._store.job(job_id)
        _require(job, {_J.REVIEW}, "rejected")
        return self._store.move(job.job_id, _J.REJECTED, f"reject: {note}", reason="REJECTED_BY_PERSON")

    def approved(self, persons: int) -> list[Job]:
        """Jobs in REVIEW that so many persons have approved."""
        return self._store.database.read(
            Job,
            "SELECT j.* FROM job j WHERE j.state = 'REVIEW' AND ? <= (SELECT count(*) FROM job_approval a"
            " WHERE a.job_id = j.job_id AND a.run = j.run)",
            (persons,),
        )

    def clear_approvals(self, job_id: str) -> None:
        """Delete the approvals that have been carried out."""
        with self._store.database.write() as tx:
            tx.run("DELETE FROM job_approval WHERE job_id = ?", (job_id,))

    def resend(
        self,
        job_id: str,
        note: str,
        places: Mapping[str, Sequence[str]],
        images: Sequence[OutputObject] = (),
    ) -> Job:
        """Send the objects of a job once more: the same objects with the same UIDs.

        Parameters
        ----------
        job_id : of the job
        note : who requests it, and why
        places : names of destinations, with the roles of the objects that each gets
        images : of the CT, for destinations that get it

        Raises
        ------
        JobRefuses
            If the job has no objects, or is in a state in which they cannot be sent.
        """
        job = self._store.job(job_id)
        objects = self._store.attempts.objects(job.job_id)
        if job.purged_at is not None:
            raise JobRefuses("Its files were deleted after the retention time; send the series again.")
        with self._store.database.write() as tx:
            now = _state(tx, job.job_id)
            stopped = now is _J.FAILED and job.reason != "NOT_DELIVERED"
            if stopped or not objects:
                raise JobRefuses(f"It has no objects to send. {_INSTEAD[now]}")
            _require(job, {_J.DONE, _J.FAILED}, "sent again", now)
            pairs = pairs_of([*objects, *images], places)
            if not pairs:
                raise JobRefuses("There is no destination that gets any of its objects.")
            self._store.move_within(tx, job.job_id, _J.SENDING, f"resend to {', '.join(places)}: {note}")
            self._store.attempts.next_run(tx, job.job_id)
            delivery_states.resend(tx, job.job_id, pairs, stamp(self._clock()))
        return self._store.job(job.job_id)


def require_review(tx: Transaction, job: Job, what: str) -> None:
    """Raise JobRefuses unless a job is in REVIEW.

    Parameters
    ----------
    tx : a transaction
    job : the job
    what : what would be done with it, such as ``approved``
    """
    _require(job, {_J.REVIEW}, what, _state(tx, job.job_id))


def _state(tx: Transaction, job_id: str) -> JobState:
    ((state,),) = tx.rows("SELECT state FROM job WHERE job_id = ?", (job_id,))
    return JobState(state)


def _require(job: Job, states: set[JobState], what: str, now: JobState | None = None) -> None:
    """Raise JobRefuses unless a job is in one of these states."""
    state = job.state if now is None else now
    if state not in states:
        raise JobRefuses(f"A job that is {state} cannot be {what}. {_INSTEAD[state]}")


def _sent_so_far(tx: Transaction, job_id: str) -> str:
    """Which objects of a job that is stopped while sending were sent, and which are being sent."""
    rows = tx.rows(
        "SELECT role, destination, state FROM delivery WHERE job_id = ? ORDER BY destination, role", (job_id,)
    )
    places = [
        (f"{kind_of(role) if role.startswith(IMAGE) else role} to {name}", state)
        for role, name, state in rows
    ]
    sent = dict.fromkeys(place for place, state in places if state in {"STORED", "COMMITTED"})
    going = dict.fromkeys(place for place, state in places if state == "SENDING")
    text = f"; sent before: {', '.join(sent) or 'nothing'}"
    return text + (f"; on its way: {', '.join(going)}" if going else "")
