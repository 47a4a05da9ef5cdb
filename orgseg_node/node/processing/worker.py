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
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from orgseg_node import durable
from orgseg_node.contouring.protocol import load_protocol
from orgseg_node.errors import (
    JobStopped,
    OrgsegError,
    Poisoned,
    StorageError,
    WorkerDied,
)
from orgseg_node.inference.engine.available import free_memory
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.destinations import ROLES, Destination, WebDestination
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.delivery.deliver import Deliverer
from orgseg_node.node.dimse.storage_scu import Sender
from orgseg_node.node.monitoring.metrics import Meters
from orgseg_node.node.processing import engine
from orgseg_node.node.processing.child_process import Message, attend, start_child
from orgseg_node.node.processing.child_request import ChildRequest
from orgseg_node.node.processing.device_lock import hold_device
from orgseg_node.node.processing.retry_policy import Failure, kind_of
from orgseg_node.node.processing.warm_worker import SpareChild
from orgseg_node.node.scheduler import DISPATCH, Ring, silent
from orgseg_node.node.store.clock import Clock, utc_now
from orgseg_node.node.store.data_folder import JOBS, LOCKS
from orgseg_node.node.store.model import RUNNING, Job, JobState, OutputObject
from orgseg_node.node.store.store import Store

CHILD_COMMAND: Final = (sys.executable, "-m", "orgseg_node.node.processing.child")
_RETRY_WAIT_S: Final = 10.0
_DEVICE_WAIT_S: Final = 1.0
_ORDER: Final = (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING)

_STOPPED: Final[dict[str, Any]] = {"outcome": "stopped"}

_log = structlog.get_logger("orgseg.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What a worker needs from outside.

    Attributes
    ----------
    sender : how objects leave
    child_command : program that contours, to which the request file is appended
    spare : keeps one of it waiting for the next job
    clock : where the time comes from
    retry_wait_s : pause before a job is tried again
    free_mb : main memory that is free, in MB
    meters : count how long things take
    ring : has what is to be sent dispatched at once
    """

    sender: Sender[Destination | WebDestination]
    child_command: Sequence[str] = CHILD_COMMAND
    spare: SpareChild = field(default_factory=lambda: SpareChild(None))
    clock: Clock = utc_now
    retry_wait_s: float = _RETRY_WAIT_S
    free_mb: Callable[[], int] = lambda: free_memory() >> 20
    meters: Meters = field(default_factory=Meters)
    ring: Ring = silent


class Worker:
    """Contours and delivers.

    Parameters
    ----------
    config : the node's configuration
    store : the node's memory
    tools : sender, child program and clock
    """

    def __init__(self, config: NodeConfig | CurrentConfig, store: Store, tools: Tools) -> None:
        self._current = CurrentConfig.of(config)
        self._store = store
        self._tools = tools
        self._stopping = threading.Event()
        self._engine_gone = threading.Event()
        self._deliverer = Deliverer(
            self._current, store, tools.sender, clock=tools.clock, meters=tools.meters
        )
        self._spare = tools.spare
        self._spare.prepare()

    @property
    def _config(self) -> NodeConfig:
        return self._current.config

    # ------------------------------------------------------------------ workflow: contour

    def contour(self, job_id: str) -> None:
        """Workflow: contour one job and put its objects into the outgoing box."""
        result: dict[str, Any] = {}
        transient = 0
        while True:
            result = engine.step("infer", self.infer, job_id)
            transient += result.get("kind") == Failure.TRANSIENT
            if result["outcome"] != "retry" or transient >= self._config.inference.attempts:
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
            return _STOPPED
        deaths = self._store.lives.begin(job_id)
        if deaths >= self._config.worker.deaths:
            self._store.lives.end(job_id)
            return self._bury(job_id, deaths, "The last time, the node ended with it.")
        self._store.move(job_id, JobState.PREPARING, f"run {job.run}")
        _log.info("job started", job=job_id, slices=job.slices)
        try:
            return self._settle_child(job_id, self._at_risk(job))
        except JobStopped:
            self._hold_if_node_stops()
            return _STOPPED
        except OrgsegError as error:
            if isinstance(error, WorkerDied):
                self._hold_if_node_stops()
            return self._failed(
                job_id, error.code, f"{error.sentence} {error.next_step}", retryable=error.retryable
            )
        except Exception:
            self._hold_if_node_stops()
            raise

    def _settle_child(self, job_id: str, result: Mapping[str, Any]) -> dict[str, Any]:
        """What a child's last word means for its job."""
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
        if result["outcome"] == "written" and state is JobState.CHECKING:
            self._store.lives.keep_objects(job_id, map(self._object, result["objects"]))
        if result["outcome"] == "retry" and state is JobState.RETRY_WAIT:
            self._store.move(job_id, JobState.FAILED, result["text"], reason=result["code"])
            _log.error("job failed", job=job_id, code=result["code"])
        elif result["outcome"] == "written" and state is JobState.CHECKING:
            job = self._store.job(job_id)
            if result["held"] or job.review:
                reason = "HELD_BY_FINDING" if result["held"] else "REVIEW_BY_RULE"
                by_rule = [f"Rule {job.rule!r} asks for a review."] if job.review else []
                self._store.move(
                    job_id, JobState.REVIEW, " ".join([*result["held"], *by_rule]), reason=reason
                )
                _log.warning("job held for review", job=job_id, reason=reason)
            else:
                self.release(job_id, result["objects"])

    def release(self, job_id: str, objects: Sequence[dict[str, str]]) -> None:
        """Begin to send the objects of a job to every destination that the job carries."""
        pairs = [
            (self._object(item), name)
            for name in self._destinations(self._store.job(job_id))
            for item in objects
            if item["role"] in self._roles_at(name)
        ]
        state = self._store.begin_sending(job_id, pairs, confirm=self._config.confirming)
        self._tools.ring(DISPATCH, 0.0)
        _log.info("job computed", job=job_id, deliveries=len(pairs), state=state.value)

    def release_approved(self, job: Job) -> None:
        """Send a job that a person let go from REVIEW, if its objects are still those that were proven."""
        objects = self._store.lives.objects(job.job_id)
        if not objects or not all(map(self._is_unchanged, objects)):
            error = StorageError("The objects are not those that were proven.")
            text = f"{error.sentence} Contour the series again with 'orgseg jobs retry'."
            self._store.move(job.job_id, JobState.FAILED, text, reason=error.code)
            _log.error("approved job cannot be sent", job=job.job_id)
            return
        self.release(job.job_id, [{**asdict(item), "path": str(self._long(item.path))} for item in objects])

    def _is_unchanged(self, item: OutputObject) -> bool:
        try:
            return hashlib.sha256(self._long(item.path).read_bytes()).hexdigest() == item.sha256
        except OSError:
            return False

    def _destinations(self, job: Job) -> tuple[str, ...]:
        config = self._config
        usual = tuple(name for name in config.destinations if name not in config.standby)
        return usual if job.destinations is None else job.destinations

    def _roles_at(self, name: str) -> tuple[str, ...]:
        """What a destination gets; one that is no more in the configuration fails visibly for each object."""
        place = self._config.destinations.get(name)
        return ROLES if place is None else place.roles

    # ------------------------------------------------------------------ workflow: deliver

    def deliver(self, job_id: str, destination: str) -> None:
        """Workflow: one attempt to send what a job still owes a destination."""
        engine.step("send", self.send, job_id, destination)

    def send(self, job_id: str, destination: str) -> None:
        """Step: send each object that is due; each gets the peer's own answer."""
        self._deliverer.send(job_id, destination)

    # ------------------------------------------------------------------ stop

    def stop_children(self) -> None:
        """Kill the children and let their workflows hang until the engine is gone: it resumes them."""
        self._stopping.set()
        self._spare.stop()

    def engine_is_gone(self) -> None:
        """Let the workflows that hang end; nothing they do is remembered any more."""
        self._engine_gone.set()

    def _hold_if_node_stops(self) -> None:
        if self._stopping.is_set():
            self._engine_gone.wait()
            raise JobStopped("The node is stopping.")

    # ------------------------------------------------------------------ inside a job

    def _at_risk(self, job: Job) -> dict[str, Any]:
        """Run the child; what happens to the job until it ends counts as a death of its process."""
        died = False
        try:
            return self._run_child(job)
        except WorkerDied:
            died = not self._stopping.is_set()
            raise
        finally:
            self._store.lives.end(job.job_id, died=died)

    def _run_child(self, job: Job) -> dict[str, Any]:
        """Run the child; its last word. Raises WorkerDied, TimeLimit, JobStopped or StorageError."""
        folder = self._config.node.data_dir / JOBS / job.job_id
        folder.mkdir(parents=True, exist_ok=True, mode=0o770)
        request = folder / "request.json"
        durable.write_durably(request, self._request(job, folder).to_json().encode())
        last: dict[str, Any] = {}

        def listen(message: Message) -> bool:
            if message.get("event") != "progress":
                last.update(message)
                return True
            if message.get("state"):
                self._advance(job.job_id, JobState(message["state"]))
            self._store.progress(job.job_id, float(message["fraction"]), str(message["text"]))
            return False

        must_stop = self._must_stop(job.job_id)

        def wait() -> None:
            if must_stop():
                raise JobStopped
            self._store.progress(job.job_id, 0.0, "waiting for the device")
            self._stopping.wait(_DEVICE_WAIT_S)

        locks = self._config.node.data_dir / LOCKS
        with hold_device(locks, self._config.inference.device, wait) as held:
            started = time.monotonic()
            log = folder / "child.log"
            child = self._spare.take(request, log, (held,)) or start_child(
                [*self._tools.child_command, str(request)], log, (held,)
            )
            try:
                limit_s = self._config.inference.time_limit_s
                attend(child, listen, must_stop=must_stop, time_limit_s=limit_s)
            finally:
                self._spare.prepare()  # for the next job, when this one has given its memory back
            self._tools.meters.infer_seconds.observe(time.monotonic() - started)
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
            settings=self._settings(job),
            protocol=self._protocol(job),
            wanted={
                "roles": self._config.roles_for(self._destinations(job)),
                "seg": self._config.contours.seg.upper(),
            },
            parent=os.getpid(),
            remark=job.remark,
        )

    def _settings(self, job: Job) -> dict[str, Any]:
        """How the networks are run; a smaller memory budget changes no label."""
        settings = self._config.inference.settings()
        if job.memory_budget_mb is not None:
            settings["memory_budget_mb"] = job.memory_budget_mb
        return settings

    def _protocol(self, job: Job) -> dict[str, Any]:
        """The protocol as it was when the job was made; that of the node for a job that carries none."""
        if not job.protocol_json:
            return load_protocol(self._config.contours.protocol).as_json
        found: dict[str, Any] = json.loads(job.protocol_json)
        return found

    def _failed(self, job_id: str, code: str, text: str, *, retryable: bool = False) -> dict[str, Any]:
        """Note a failure: RETRY_WAIT if another try may help, FAILED if not (see `failures.py`)."""
        job = self._store.job(job_id)
        if job.state not in RUNNING:
            return _STOPPED
        kind = kind_of(code, retryable=retryable)
        if kind is Failure.DEATH and job.deaths >= self._config.worker.deaths:
            return self._bury(job_id, job.deaths, text)
        again = kind in {Failure.DEATH, Failure.TRANSIENT}
        if kind is Failure.MEMORY:
            half = max(1, (self._config.inference.memory_budget_mb or self._tools.free_mb()) // 2)
            again = self._store.lives.spare(job_id, half)
            tried = job.memory_budget_mb
            text += (
                f" Tried again with a memory budget of {half} MB."
                if again
                else f" It was tried twice, the second time with a memory budget of {tried} MB."
            )
        target = JobState.RETRY_WAIT if again else JobState.FAILED
        self._store.move(job_id, target, text, reason=code)
        _log.error("job attempt failed", job=job_id, code=code, kind=kind.value, state=target.value)
        return {"outcome": "retry" if again else "failed", "code": code, "text": text, "kind": kind.value}

    def _bury(self, job_id: str, deaths: int, last: str) -> dict[str, Any]:
        """Give up a job over which processes keep dying."""
        text = bury(self._store, job_id, deaths, last)
        return {"outcome": "failed", "code": Poisoned.code, "text": text, "kind": Failure.DEATH.value}

    def _object(self, item: Mapping[str, str]) -> OutputObject:
        return OutputObject(**{**item, "path": self._short(item["path"])})

    def _long(self, path: str) -> Path:
        return self._config.node.data_dir / path

    def _short(self, path: str) -> str:
        return str(Path(path).relative_to(self._config.node.data_dir))


def bury(store: Store, job_id: str, deaths: int, last: str) -> str:
    """Put a job over which processes keep dying into the dead letter; the sentence for the operator."""
    error = Poisoned(f"That was {deaths} times.")
    text = f"{error.sentence} {last} {error.next_step}"
    store.move(job_id, JobState.FAILED, text, reason=error.code)
    _log.error("job given up", job=job_id, code=error.code, deaths=deaths)
    return text
