"""What is done for a job: contour it in a child process, then send what came out.

The two workflows here are run by the durable engine. Each step may be run again after a crash, so each first
looks where the job is; a step that finished is never repeated.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import structlog

from orgseg_node.errors import JobStopped, NetworkError, OrgsegError, StoreRefused, WorkerDied
from orgseg_node.node import alternates, engine, landing
from orgseg_node.node.alternates import Alternate
from orgseg_node.node.clock import Clock, utc_now
from orgseg_node.node.config import NodeConfig
from orgseg_node.node.destinations import Destination, WebDestination
from orgseg_node.node.jobs import RUNNING, Delivery, DeliveryState, Job, JobState, OutputObject
from orgseg_node.node.order import ChildRequest
from orgseg_node.node.protocols import load_protocol
from orgseg_node.node.sender import Answer, Sender
from orgseg_node.node.store import Store
from orgseg_node.node.supervise import Message, run_child

JOBS: Final = "jobs"
CHILD_COMMAND: Final = (sys.executable, "-m", "orgseg_node.node.child")
_RETRY_WAIT_S: Final = 10.0
_ORDER: Final = (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING)

_log = structlog.get_logger("orgseg.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What a worker needs from outside.

    Attributes
    ----------
    sender : how objects leave
    child_command : program that contours, to which the request file is appended
    clock : where the time comes from
    retry_wait_s : pause before a job is tried again
    """

    sender: Sender[Destination | WebDestination]
    child_command: Sequence[str] = CHILD_COMMAND
    clock: Clock = utc_now
    retry_wait_s: float = _RETRY_WAIT_S


class Worker:
    """Contours and delivers.

    Parameters
    ----------
    config : the node's configuration
    store : the node's memory
    tools : sender, child program and clock
    """

    def __init__(self, config: NodeConfig, store: Store, tools: Tools) -> None:
        self._config = config
        self._store = store
        self._tools = tools
        self._stopping = threading.Event()
        self._engine_gone = threading.Event()

    # ------------------------------------------------------------------ workflow: contour

    def contour(self, job_id: str) -> None:
        """Workflow: contour one job and put its objects into the outgoing box."""
        result: dict[str, Any] = {}
        for attempt in range(1, self._config.inference.attempts + 1):
            result = engine.step("infer", self.infer, job_id)
            if result["outcome"] != "retry" or attempt == self._config.inference.attempts:
                break
            engine.sleep(self._tools.retry_wait_s)
        engine.step("hand over", self.hand_over, job_id, json.dumps(result))

    def infer(self, job_id: str) -> dict[str, Any]:
        """Step: run the child for a job; what came out, or ``retry``, or ``stopped``."""
        job = self._store.job(job_id)
        if job.state in RUNNING or job.state is JobState.RETRY_WAIT:
            again = (
                "Tried again." if job.state is JobState.RETRY_WAIT else "The node stopped; it is run again."
            )
            job = self._store.move(job_id, JobState.QUEUED, again)
        if job.state is not JobState.QUEUED:
            return {"outcome": "stopped"}
        self._store.move(job_id, JobState.PREPARING, f"run {job.run}")
        _log.info("job started", job=job_id, slices=job.slices)
        try:
            result = self._run_child(job)
        except JobStopped:
            self._hold_if_node_stops()
            return {"outcome": "stopped"}
        except OrgsegError as error:
            return self._failed(
                job_id, error.code, f"{error.sentence} {error.next_step}", retryable=error.retryable
            )
        except Exception:
            self._hold_if_node_stops()
            raise
        if result["event"] == "error":
            text = f"{result['sentence']} {result['next_step']}"
            return self._failed(job_id, result["code"], text, retryable=result["retryable"])
        self._advance(job_id, JobState.CHECKING)
        for item in result["objects"]:
            if hashlib.sha256(Path(item["path"]).read_bytes()).hexdigest() != item["sha256"]:
                return self._failed(job_id, "STORAGE", f"{item['role']} changed after it was written.")
        return {"outcome": "written", "objects": result["objects"], "held": result["held"]}

    def hand_over(self, job_id: str, result_text: str) -> None:
        """Step: send what was written, hold it for review, or give the job up."""
        result = json.loads(result_text)
        state = self._store.job(job_id).state
        if result["outcome"] == "retry" and state is JobState.RETRY_WAIT:
            self._store.move(job_id, JobState.FAILED, result["text"], reason=result["code"])
            _log.error("job failed", job=job_id, code=result["code"])
        elif result["outcome"] == "written" and state is JobState.CHECKING:
            if result["held"]:
                self._store.move(job_id, JobState.REVIEW, " ".join(result["held"]), reason="HELD_BY_FINDING")
                _log.warning("job held for review", job=job_id)
            else:
                self.release(job_id, result["objects"])

    def release(self, job_id: str, objects: Sequence[dict[str, str]]) -> None:
        """Begin to send the objects of a job to every destination that gets them."""
        pairs = [
            (OutputObject(role=item["role"], path=self._short(item["path"]), sop_uid=item["sop_uid"]), name)
            for name, destination in self._config.destinations.items()
            for item in objects
            if item["role"] in destination.roles and name not in self._config.standby
        ]
        state = self._store.begin_sending(job_id, pairs, confirm=self._config.confirming)
        _log.info("job computed", job=job_id, deliveries=len(pairs), state=state.value)

    # ------------------------------------------------------------------ workflow: deliver

    def deliver(self, job_id: str, destination: str) -> None:
        """Workflow: one attempt to send what a job still owes a destination."""
        engine.step("send", self.send, job_id, destination)

    def send(self, job_id: str, destination: str) -> None:
        """Step: send each object that is due; each gets the peer's own answer."""
        due = self._store.claim(job_id, destination)
        if not due:
            return
        try:
            place = self._config.destination(destination)
        except OrgsegError as error:
            for delivery in due:
                self._note(delivery, None, error)
            return
        paths = [self._config.node.data_dir / delivery.path for delivery in due]
        answers = self._tools.sender.send_each(place, self._config.calling_ae_for(place), paths)
        for delivery, answer in zip(due, answers, strict=True):
            self._note(delivery, place, answer)

    def _note(self, delivery: Delivery, place: Destination | WebDestination | None, answer: Answer) -> None:
        """Remember what became of one object."""
        now = self._tools.clock()
        if isinstance(answer, OrgsegError):
            status = answer.status if isinstance(answer, StoreRefused) else None
            note, code = f"{answer.code}: {answer.sentence}", answer.code
            limit = timedelta(hours=self._config.delivery.give_up_after_h)
            over = delivery.first_attempt_at is not None and now - delivery.first_attempt_at >= limit
            alternate = self._alternate(delivery, place, answer)
            if alternate is not None:
                state = DeliveryState.DROPPED
                job_state = self._store.divert(delivery, alternate, status=status, note=note)
            else:
                final = over or not (isinstance(answer, NetworkError) and answer.retryable)
                state = DeliveryState.FAILED if final else DeliveryState.RETRY_WAIT
                wait = timedelta(seconds=self._config.delivery.wait_s(delivery.attempts))
                job_state = self._store.settle(delivery, state, status=status, note=note, next_at=now + wait)
            told = _log.warning if state is DeliveryState.RETRY_WAIT else _log.error
        else:
            state, code, told = DeliveryState.STORED, "", _log.info
            note = (
                f"{answer.note} instead of {delivery.instead_of}".strip()
                if delivery.instead_of
                else answer.note
            )
            job_state = self._store.settle(delivery, state, status=answer.status, note=note, next_at=now)
        told(
            "delivery",
            job=delivery.job_id,
            role=delivery.role,
            destination=delivery.destination,
            state=state.value,
            code=code,
            attempt=delivery.attempts,
            job_state=job_state.value,
        )

    def _alternate(
        self, delivery: Delivery, place: Destination | WebDestination | None, error: OrgsegError
    ) -> Alternate | None:
        """Where a delivery that has just failed goes instead, if its time has come."""
        if place is None or place.alternate is None:
            return None
        if not alternates.is_due(delivery, place, error, self._tools.clock()):
            return None
        other = self._config.destinations[place.alternate]
        return Alternate(name=place.alternate, confirm=isinstance(other, Destination) and other.commitment)

    # ------------------------------------------------------------------ stop

    def stop_children(self) -> None:
        """Kill the children and let their workflows hang until the engine is gone: it resumes them."""
        self._stopping.set()

    def engine_is_gone(self) -> None:
        """Let the workflows that hang end; nothing they do is remembered any more."""
        self._engine_gone.set()

    def _hold_if_node_stops(self) -> None:
        if self._stopping.is_set():
            self._engine_gone.wait()
            raise JobStopped("The node is stopping.")

    # ------------------------------------------------------------------ inside a job

    def _run_child(self, job: Job) -> dict[str, Any]:
        """Run the child; its last word. Raises WorkerDied, TimeLimit, JobStopped or StorageError."""
        folder = self._config.node.data_dir / JOBS / job.job_id
        folder.mkdir(parents=True, exist_ok=True, mode=0o770)
        request = folder / "request.json"
        landing.write_durably(request, self._request(job, folder).to_json().encode())
        last: dict[str, Any] = {}

        def listen(message: Message) -> None:
            if message.get("event") == "progress":
                if message.get("state"):
                    self._advance(job.job_id, JobState(message["state"]))
                self._store.progress(job.job_id, float(message["fraction"]), str(message["text"]))
            else:
                last.update(message)

        run_child(
            [*self._tools.child_command, str(request)],
            folder / "child.log",
            listen,
            must_stop=self._must_stop(job.job_id),
            time_limit_s=self._config.inference.time_limit_s,
        )
        if not last:
            raise WorkerDied("It ended without a word.")
        return last

    def _must_stop(self, job_id: str) -> Callable[[], bool]:
        return lambda: self._stopping.is_set() or self._store.job(job_id).state not in RUNNING

    def _advance(self, job_id: str, target: JobState) -> None:
        """Move a job forward to a state, step by step; never backward."""
        state = self._store.job(job_id).state
        if state not in _ORDER or target not in _ORDER:
            return
        for nxt in _ORDER[_ORDER.index(state) + 1 : _ORDER.index(target) + 1]:
            self._store.move(job_id, nxt, "")

    def _request(self, job: Job, folder: Path) -> ChildRequest:
        data = self._config.node.data_dir
        return ChildRequest(
            job_id=job.job_id,
            created=job.created_at.isoformat(timespec="seconds"),
            files=tuple(str(data / i.path) for i in self._store.instances_of(job.series_uid)),
            content_sha256=job.content_sha256,
            out=str(folder / "out"),
            bundles=job.bundles,
            bundle_folders=tuple(map(str, self._config.bundle_paths)),
            settings=self._config.inference.settings(),
            protocol=load_protocol(self._config.contours.protocol).as_json,
            wanted={"roles": self._config.roles, "seg": self._config.contours.seg.upper()},
            parent=os.getpid(),
        )

    def _failed(self, job_id: str, code: str, text: str, *, retryable: bool = False) -> dict[str, Any]:
        """Note a failure: RETRY_WAIT if another try may help, FAILED if not."""
        if self._store.job(job_id).state not in RUNNING:
            return {"outcome": "stopped"}
        target = JobState.RETRY_WAIT if retryable else JobState.FAILED
        self._store.move(job_id, target, text, reason=code)
        _log.error("job attempt failed", job=job_id, code=code, state=target.value)
        return {"outcome": "retry" if retryable else "failed", "code": code, "text": text}

    def _short(self, path: str) -> str:
        return str(Path(path).relative_to(self._config.node.data_dir))
