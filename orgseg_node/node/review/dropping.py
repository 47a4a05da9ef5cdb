"""Drops an organ of a job in REVIEW: its objects are made anew without it, before anything is sent.

The new objects replace the list of those that are sent in one transaction, together with the entry in the
history. The objects before stay on the disk as long as the job.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from orgseg_node import durable
from orgseg_node.contouring.revision.kept_result import KEPT
from orgseg_node.errors import JobRefuses, ObjectsNotMade, OptionInvalid, ResultDeleted, StorageError
from orgseg_node.node.processing.child_process import Message, start_child, supervise
from orgseg_node.node.processing.child_request import ChildRequest
from orgseg_node.node.processing.job_commands import JobCommands, require_review
from orgseg_node.node.processing.job_objects import first_changed, stored_objects
from orgseg_node.node.review.child import COMMAND
from orgseg_node.node.store.clock import Clock, stamp, utc_now
from orgseg_node.node.store.data_folder import JOBS
from orgseg_node.node.store.model import Job, OutputObject
from orgseg_node.node.store.store import Store

DROP: Final = "drop-organ"
_LIMIT_S: Final = 600.0
_NOT_KEPT: Final = (
    "It was contoured by a version of the program that did not keep what is needed; cancel it and retry it,"
    " or reject it."
)
_BUSY: Final = "Another command is making its objects anew; wait until that has ended."


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """What dropping an organ did.

    Attributes
    ----------
    job : the job, still in REVIEW
    names : of the structures that its objects do not contain any more
    """

    job: Job
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    number: int
    objects: tuple[OutputObject, ...]
    names: tuple[str, ...]


class OrganDropper:
    """Drops organs of jobs in REVIEW.

    Parameters
    ----------
    store : the node's database
    data_dir : the node's data folder
    persons : how many persons have to approve a job
    clock : returns the time
    command : program that makes the objects, to which the request file is appended
    """

    def __init__(
        self,
        store: Store,
        data_dir: Path,
        *,
        persons: int = 1,
        clock: Clock = utc_now,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._store = store
        self._data = data_dir
        self._persons = persons
        self._clock = clock
        self._command = command

    def drop(self, job_id: str, structure: str, note: str) -> Dropped:
        """Make the objects of a job anew without a structure and what is derived from it.

        Approvals that were given before do not count for the new objects.

        Parameters
        ----------
        job_id : of the job
        structure : key or name of the organ, or of another structure
        note : who requests it, and why

        Raises
        ------
        JobRefuses
            If the job is not in REVIEW, was approved, or has no objects.
        OptionInvalid
            If there is no such structure, or no other.
        ObjectsNotMade, StorageError, ResultDeleted
            If the new objects could not be made; those before remain.
        """
        job = self._store.job(job_id)
        self._require(job)
        folder = self._data / JOBS / job.job_id
        with _locked(folder):
            before = self._store.attempts.objects(job.job_id)
            if not before:
                raise JobRefuses("It has no objects: its scan was held before it was contoured.")
            number = self._store.attempts.object_revision(job.job_id) + 1
            out = folder / f"objects-{number}"
            shutil.rmtree(out, ignore_errors=True)  # of a command that was interrupted
            try:
                answer = self._make(job, structure, before, number, out)
                objects = tuple(stored_objects(self._data, answer["objects"]))
                made = _Made(number=number, objects=objects, names=tuple(answer["names"]))
                self._replace(job, before, made, note)
            except BaseException:
                shutil.rmtree(out, ignore_errors=True)
                raise
        return Dropped(job=self._store.job(job.job_id), names=made.names)

    def _require(self, job: Job) -> None:
        with self._store.database.write() as tx:
            require_review(tx, job, "changed")
        if job.job_id in {one.job_id for one in JobCommands(self._store).approved(self._persons)}:
            raise JobRefuses("It is approved and about to be sent.")
        if job.purged_at is not None:
            raise ResultDeleted

    def _make(
        self, job: Job, structure: str, before: Sequence[OutputObject], number: int, out: Path
    ) -> dict[str, Any]:
        """Run the process that makes the objects, and return its answer."""
        folder = self._data / JOBS / job.job_id
        try:
            changed = first_changed(self._data, before)
            asked = ChildRequest.from_json((folder / "request.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError) as error:
            raise StorageError("The files of the job cannot be read.") from error
        if changed is not None:
            raise StorageError(f"{changed.role} is not the object that was proven.")
        place = (self._data / before[0].path).parent
        if not (place / KEPT).is_file():
            raise JobRefuses(_NOT_KEPT)
        request = {
            "parent_pid": os.getpid(),
            "structure": structure,
            "number": number,
            "created": self._clock().astimezone().isoformat(timespec="seconds"),
            "out": str(out),
            "before": str(place),
            "objects": {one.role: str(self._data / one.path) for one in before},
            "files": [str(self._data / one.path) for one in self._store.instances_of(job.series_uid)],
            "content_sha256": job.content_sha256,
            "protocol": asked.protocol,
            "requested_objects": asked.requested_objects,
        }
        path = folder / "revision.json"
        durable.write_durably(path, json.dumps(request).encode())
        answer = self._run(path, folder / "child.log")
        if answer.get("code") == OptionInvalid.code:
            raise OptionInvalid(str(answer["sentence"]).removeprefix(f"{OptionInvalid().sentence} "))
        if answer.get("event") != "done":
            raise ObjectsNotMade(str(answer.get("sentence", "The process ended without an answer.")))
        return answer

    def _run(self, request: Path, log: Path) -> dict[str, Any]:
        answer: dict[str, Any] = {}

        def on_message(message: Message) -> bool:
            answer.update(message)
            return True

        child = start_child([*self._command, str(request)], log)
        supervise(child, on_message, must_stop=lambda: False, time_limit_s=_LIMIT_S)
        return answer

    def _replace(self, job: Job, before: Sequence[OutputObject], made: _Made, note: str) -> None:
        """Have the new objects sent instead of those before, unless the job has changed meanwhile."""
        was = {one.role: one.sha256[:12] for one in before}
        hashes = ", ".join(
            f"{one.role} sha256:{one.sha256[:12]} (was {was[one.role]})" for one in made.objects
        )
        names = ", ".join(made.names)
        with self._store.database.write() as tx:
            require_review(tx, job, "changed")
            approved = tx.rows(
                "SELECT count(*) FROM job_approval WHERE job_id = ? AND run = ?", (job.job_id, job.run)
            )
            if approved[0][0] >= self._persons:
                raise JobRefuses("It was approved meanwhile.")
            tx.run("DELETE FROM job_approval WHERE job_id = ?", (job.job_id,))
            tx.run(
                "INSERT INTO object_revision (job_id, number, left_out, note, at) VALUES (?, ?, ?, ?, ?)",
                (job.job_id, made.number, names, note, stamp(self._clock())),
            )
            self._store.attempts.replace_objects(tx, job.job_id, made.objects)
            text = f"{names} left out; objects {made.number}: {hashes}; {note}"
            tx.append_event("job", job.job_id, DROP, text)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The files of a job, for this command alone."""
    try:
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise ResultDeleted from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JobRefuses(_BUSY) from None
        yield


def structures_of(report: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Names of the structures in the objects of a job, by the report of its result; each can be dropped."""
    if report is None:
        return ()
    organs = [one["name"] for one in report["organs"] if one["voxels"]]
    gone, done = set(report.get("removed", ())), report.get("protocol", {}).get("done", ())
    return (*organs, *(one["name"] for one in done if one.get("ml") and one["structure"] not in gone))
