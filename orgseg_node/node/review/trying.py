"""Tries a protocol on a contoured case of the node: nothing of the job changes, and nothing is sent."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from orgseg_node import durable
from orgseg_node.contouring.protocol import Protocol
from orgseg_node.contouring.revision.found_result import FOUND
from orgseg_node.contouring.revision.kept_result import KEPT
from orgseg_node.errors import JobRefuses, ResultDeleted, StorageError, TrialFailed
from orgseg_node.node.processing.child_process import Message, start_child, supervise
from orgseg_node.node.processing.child_request import ChildRequest
from orgseg_node.node.review.trial_child import COMMAND, LINES
from orgseg_node.node.store.data_folder import JOBS
from orgseg_node.node.store.model import Job, JobState
from orgseg_node.node.store.store import Store

_LIMIT_S: Final = 600.0
_NOT_KEPT: Final = (
    "Its result does not hold what the networks found: it has none, or a version of the program made it that"
    " did not keep that. Choose a case that was contoured later."
)
_MOST_CASES: Final = 50
_LATEST: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tried:
    """What a protocol would do with a case.

    Attributes
    ----------
    job : the case
    document : see `contouring.revision.trial.trial_document`; with ``lines``, the structures that are
        drawn as a second line, and ``models_missing``, whether a model of the case is not here any more
    points : of the lines, in their order: pairs of float32, little-endian
    """

    job: Job
    document: Mapping[str, Any]
    points: bytes


class ProtocolTrier:
    """Tries protocols on cases.

    Parameters
    ----------
    store : the node's database
    data_dir : the node's data folder
    command : program that tries one, to which the request file is appended
    """

    def __init__(self, store: Store, data_dir: Path, *, command: Sequence[str] = COMMAND) -> None:
        self._store = store
        self._data = data_dir
        self._command = command

    def cases(self) -> list[Job]:
        """Cases on which a protocol can be tried, the latest first."""
        wanted = {JobState.DONE, JobState.REVIEW, JobState.SENDING}
        jobs = self._store.jobs(states=wanted, limit=_LATEST)
        found = (job for job in jobs if job.purged_at is None and self._found_folder(job) is not None)
        return list(islice(found, _MOST_CASES))

    def try_on(self, job_id: str, protocol: Protocol) -> Tried:
        """Apply a protocol to what the networks found in a case, and compare with what was delivered.

        Parameters
        ----------
        job_id : of the case
        protocol : that is tried; checked against the organ table

        Raises
        ------
        ResultDeleted, JobRefuses
            If the case does not hold what is needed.
        TrialFailed, StorageError, WorkerDied, TimeLimit
            If it could not be done.
        """
        job = self._store.job(job_id)
        if job.purged_at is not None:
            raise ResultDeleted
        found = self._found_folder(job)
        kept = self._data / self._store.attempts.result_folder(job.job_id)
        if found is None or not (kept / KEPT).is_file():
            raise JobRefuses(_NOT_KEPT)
        folder = self._data / JOBS / job.job_id
        work = folder / f"trial-{secrets.token_hex(4)}"
        try:
            asked = ChildRequest.from_json((folder / "request.json").read_text(encoding="utf-8"))
            durable.make_folder(work)
        except (OSError, ValueError, TypeError) as error:
            raise StorageError("The files of the job cannot be read.") from error
        try:
            request = {
                "parent_pid": os.getpid(),
                "out": str(work),
                "found": str(found),
                "kept": str(kept),
                "files": [str(self._data / one.path) for one in self._store.instances_of(job.series_uid)],
                "content_sha256": job.content_sha256,
                "bundles": list(asked.bundles),
                "bundle_folders": list(asked.bundle_folders),
                "before": asked.protocol,
                "protocol": protocol.as_json,
            }
            path = work / "request.json"
            path.write_text(json.dumps(request), encoding="utf-8")
            document = self._run(path, folder / "child.log")
            points = (work / LINES).read_bytes()
        except OSError as error:
            raise StorageError(f"The files of the trial: {error.strerror}.") from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return Tried(job=job, document=document, points=points)

    def _found_folder(self, job: Job) -> Path | None:
        """Where what the networks found is kept; objects that were made anew do not have it again."""
        out = self._data / JOBS / job.job_id / "out"
        return out if (out / FOUND).is_file() else None

    def _run(self, request: Path, log: Path) -> dict[str, Any]:
        answer: dict[str, Any] = {}

        def on_message(message: Message) -> bool:
            answer.update(message)
            return True

        child = start_child([*self._command, str(request)], log)
        supervise(child, on_message, must_stop=lambda: False, time_limit_s=_LIMIT_S)
        if answer.get("event") != "done":
            raise TrialFailed(str(answer.get("sentence", "The process ended without an answer.")))
        return answer
