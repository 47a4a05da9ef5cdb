"""The two workflows of a job: contour it in a child process, then send the objects.

The durable engine runs them. A step that finished is never repeated; one that did not may be run again after
a crash, so each step first reads the state of the job. The engine stores results under the names of the
steps, which therefore must not change while workflows are unfinished.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from orgseg_node.contouring.object_roles import CT
from orgseg_node.errors import (
    SCAN_CODES,
    DeadLetter,
    JobStopped,
    OrgsegError,
    StorageError,
    WorkerDied,
)
from orgseg_node.errors.unexpected import coded
from orgseg_node.inference.engine.available import free_memory
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.destinations import Destination, WebDestination
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.delivery.deliver import Deliverer
from orgseg_node.node.dimse.storage_scu import Sender
from orgseg_node.node.monitoring.metrics import Meters
from orgseg_node.node.processing import engine
from orgseg_node.node.processing.child_run import ChildRunner
from orgseg_node.node.processing.dead_letter import move_to_dead_letter
from orgseg_node.node.processing.job_objects import first_changed, pairs_to_send, planning_ct, stored_objects
from orgseg_node.node.processing.retry_policy import FailureKind, classify_failure
from orgseg_node.node.processing.warm_worker import WarmWorker
from orgseg_node.node.routing.decision import destinations_of
from orgseg_node.node.scheduler import DISPATCH, Trigger, no_trigger
from orgseg_node.node.store.clock import Clock, utc_now
from orgseg_node.node.store.model import BY_RULE, RUNNING, Job, JobState, OutputObject
from orgseg_node.node.store.store import Store

CONTOUR: Final = "contour"
DELIVER: Final = "deliver"
CHILD_COMMAND: Final = (sys.executable, "-m", "orgseg_node.node.processing.child")
_RETRY_WAIT_S: Final = 10.0
_STOPPED: Final[dict[str, Any]] = {"outcome": "stopped"}

_log = structlog.get_logger("orgseg.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The parts that a worker uses.

    Attributes
    ----------
    sender : sends objects to destinations
    child_command : program that contours, to which the request file is appended
    warm_worker : keeps one of it waiting for the next job
    clock : returns the time
    retry_wait_s : pause before a job is tried again
    free_mb : returns the free main memory in MB
    meters : measure durations
    trigger : has the objects to be sent dispatched at once
    """

    sender: Sender[Destination | WebDestination]
    child_command: Sequence[str] = CHILD_COMMAND
    warm_worker: WarmWorker = field(default_factory=lambda: WarmWorker(None))
    clock: Clock = utc_now
    retry_wait_s: float = _RETRY_WAIT_S
    free_mb: Callable[[], int] = lambda: free_memory() >> 20
    meters: Meters = field(default_factory=Meters)
    trigger: Trigger = no_trigger


class Worker:
    """Contours and delivers.

    Parameters
    ----------
    config : the node's configuration
    store : the node's database
    tools : the parts that it uses
    """

    def __init__(self, config: NodeConfig | CurrentConfig, store: Store, tools: Tools) -> None:
        self._current = CurrentConfig.of(config)
        self._store = store
        self._tools = tools
        self._stopping = threading.Event()
        self._engine_stopped = threading.Event()
        self._deliverer = Deliverer(
            self._current, store, tools.sender, clock=tools.clock, meters=tools.meters
        )
        self._runner = ChildRunner(
            current=self._current,
            store=store,
            command=tools.child_command,
            warm_worker=tools.warm_worker,
            meters=tools.meters,
            stopping=self._stopping,
        )
        tools.warm_worker.prepare()

    @property
    def _config(self) -> NodeConfig:
        return self._current.config

    @property
    def workflows(self) -> dict[str, engine.Workflow]:
        """The workflows that the engine runs, by name."""
        return {CONTOUR: self.contour, DELIVER: self.deliver}

    # ------------------------------------------------------------------ workflow: contour

    def contour(self, job_id: str) -> None:
        """Workflow: contour one job and begin to send its objects."""
        result: dict[str, Any] = {}
        transient = 0
        while True:
            result = engine.step("infer", self.infer, job_id)
            transient += result.get("kind") == FailureKind.TRANSIENT
            if result["outcome"] != "retry" or transient >= self._config.inference.attempts:
                break
            engine.sleep(self._tools.retry_wait_s)
        engine.step("hand over", self.apply_result, job_id, json.dumps(result))

    def infer(self, job_id: str) -> dict[str, Any]:
        """Step: run the child for a job.

        The outcome is ``written``, ``retry``, ``failed``, ``held`` or ``stopped``.
        """
        job = self._store.job(job_id)  # fresh: this step may run again, or the job was stopped meanwhile
        if job.state in RUNNING or job.state is JobState.RETRY_WAIT:
            again = (
                "Tried again." if job.state is JobState.RETRY_WAIT else "The node stopped; it is run again."
            )
            job = self._store.requeue(job, again)
        if job.state is not JobState.QUEUED:
            return _STOPPED
        deaths = self._store.attempts.begin(job_id)
        if deaths >= self._config.worker.deaths:
            self._store.attempts.end(job_id)
            return self._give_up(job_id, deaths, "The last time, the node itself ended.")
        job = self._store.move(job_id, JobState.PREPARING, f"run {job.run}")
        _log.info("job started", job=job_id, slices=job.slices)
        try:
            return self._conclude(job, self._run_child(job))
        except JobStopped:
            self._wait_if_stopping()
            return _STOPPED
        except OrgsegError as error:
            if isinstance(error, WorkerDied):
                self._wait_if_stopping()
            return self._failed(
                job_id, error.code, f"{error.sentence} {error.next_step}", retryable=error.retryable
            )
        except Exception as error:  # noqa: BLE001  # otherwise the engine would repeat the job
            self._wait_if_stopping()
            return self._failed_unexpectedly(job_id, error)

    def apply_result(self, job_id: str, result_text: str) -> None:
        """Step: send what was written, hold it for review, or fail the job."""
        try:
            self._apply_result(job_id, json.loads(result_text))
        except OrgsegError:
            raise
        except Exception as error:  # noqa: BLE001  # otherwise the engine would repeat the job
            self._wait_if_stopping()
            self._failed_unexpectedly(job_id, error)

    def _apply_result(self, job_id: str, result: Mapping[str, Any]) -> None:
        job = self._store.job(job_id)  # fresh: this step may run again, or the job was stopped meanwhile
        if result["outcome"] == "retry" and job.state is JobState.RETRY_WAIT:
            self._store.move(job_id, JobState.FAILED, result["text"], reason=result["code"])
            _log.error("job failed", job=job_id, code=result["code"])
        elif result["outcome"] == "written" and job.state is JobState.CHECKING:
            objects = stored_objects(self._config.node.data_dir, result["objects"])
            self._store.attempts.keep_objects(job_id, objects)
            if result.get("left_out"):
                self._store.attempts.record_left_out(job_id, result["left_out"])
            if result["held"] or job.review:
                self._hold_for_review(job, result["held"])
            else:
                self.release(job, objects)

    def _hold_for_review(self, job: Job, findings: Sequence[str]) -> None:
        reason = "HELD_BY_FINDING" if findings else BY_RULE
        by_rule = [f"Rule {job.rule!r} asks for a review."] if job.review else []
        self._store.move(job.job_id, JobState.REVIEW, " ".join([*findings, *by_rule]), reason=reason)
        _log.warning("job held for review", job=job.job_id, reason=reason)

    def release(self, job: Job, objects: Iterable[OutputObject]) -> None:
        """Begin to send the objects of a job to every destination that gets them."""
        written = list(objects)
        pairs = pairs_to_send(self._config, job, [*written, *self._images(job, written)])
        state = self._store.begin_sending(job.job_id, pairs, confirm=self._config.committing)
        self._tools.trigger(DISPATCH, 0.0)
        _log.info("job computed", job=job.job_id, deliveries=len(pairs), state=state.value)

    def _images(self, job: Job, written: Sequence[OutputObject]) -> list[OutputObject]:
        """The images of the CT, if a destination gets them."""
        names = destinations_of(self._config, job)
        configured = self._config.destinations
        if not any(CT in configured[name].objects for name in names if name in configured):
            return []
        return planning_ct(self._store, self._config.node.data_dir, job, written)

    def release_approved(self, job: Job) -> None:
        """Send a job that was approved in REVIEW, if its objects are still those that were proven.

        A job whose scan was held before the network is contoured.
        """
        if job.reason in SCAN_CODES:
            self._store.release_scan(job.job_id)
            _log.warning("doubtful scan released", job=job.job_id, reason=job.reason)
            return
        objects = self._store.attempts.objects(job.job_id)
        if objects and self._are_unchanged(objects):
            self.release(job, objects)
            return
        error = StorageError("The objects are not those that were proven.")
        text = f"{error.sentence} Contour the series again with 'orgseg jobs retry'."
        self._store.move(job.job_id, JobState.FAILED, text, reason=error.code)
        _log.error("approved job cannot be sent", job=job.job_id)

    def _are_unchanged(self, objects: Iterable[OutputObject]) -> bool:
        try:
            return first_changed(self._config.node.data_dir, objects) is None
        except OSError:
            return False

    # ------------------------------------------------------------------ workflow: deliver

    def deliver(self, job_id: str, destination: str) -> None:
        """Workflow: one attempt to send the objects of a job that are due at a destination."""
        engine.step("send", self.send, job_id, destination)

    def send(self, job_id: str, destination: str) -> None:
        """Step: send each object that is due, and store the answer of the destination for each."""
        self._deliverer.send(job_id, destination)

    # ------------------------------------------------------------------ stop

    def stop_children(self) -> None:
        """Kill the children; their workflows wait until the engine has stopped, and it resumes them later."""
        self._stopping.set()
        self._tools.warm_worker.stop()

    def engine_stopped(self) -> None:
        """Let the waiting workflows end; the engine stores nothing of them any more."""
        self._engine_stopped.set()

    def _wait_if_stopping(self) -> None:
        if self._stopping.is_set():
            self._engine_stopped.wait()
            raise JobStopped("The node is stopping.")

    # ------------------------------------------------------------------ inside a job

    def _run_child(self, job: Job) -> dict[str, Any]:
        """Run the child of a job and count it if it dies; its final message, or what the runner raises."""
        died = False
        try:
            return self._runner.run(job)
        except WorkerDied:
            died = not self._stopping.is_set()
            raise
        finally:
            self._store.attempts.end(job.job_id, died=died)

    def _conclude(self, job: Job, final: Mapping[str, Any]) -> dict[str, Any]:
        """What the final message of a child means for its job."""
        if final["event"] == "error":
            text = f"{final['sentence']} {final['next_step']}"
            return self._failed(job.job_id, final["code"], text, retryable=final["retryable"])
        self._runner.advance(job.job_id, JobState.CHECKING)
        data = self._config.node.data_dir
        changed = first_changed(data, stored_objects(data, final["objects"]))
        if changed is not None:
            return self._failed(job.job_id, "STORAGE", f"{changed.role} changed after it was written.")
        described = {name: final.get(name, "") for name in ("objects", "held", "left_out")}
        return {"outcome": "written", **described}

    def _failed(self, job_id: str, code: str, text: str, *, retryable: bool = False) -> dict[str, Any]:
        """Store a failure: RETRY_WAIT if another try may help, FAILED if not (see `retry_policy`)."""
        job = self._store.job(job_id)  # fresh: its failed runs were just counted, or it was stopped meanwhile
        if job.state not in RUNNING:
            return _STOPPED
        if code in SCAN_CODES:
            self._store.move(job_id, JobState.REVIEW, text, reason=code)
            _log.warning("scan held", job=job_id, reason=code)
            return {"outcome": "held", "code": code}
        kind = classify_failure(code, retryable=retryable)
        if kind is FailureKind.CRASH and job.deaths >= self._config.worker.deaths:
            return self._give_up(job_id, job.deaths, text)
        again = kind in {FailureKind.CRASH, FailureKind.TRANSIENT}
        if kind is FailureKind.OUT_OF_MEMORY:
            half = max(1, (self._config.inference.memory_budget_mb or self._tools.free_mb()) // 2)
            again = self._store.attempts.halve_memory_budget(job_id, half)
            before = job.memory_budget_mb
            text += (
                f" Tried again with a memory budget of {half} MB."
                if again
                else f" It was tried twice, the second time with a memory budget of {before} MB."
            )
        target = JobState.RETRY_WAIT if again else JobState.FAILED
        self._store.move(job_id, target, text, reason=code)
        _log.error("job attempt failed", job=job_id, code=code, kind=kind.value, state=target.value)
        return {"outcome": "retry" if again else "failed", "code": code, "text": text, "kind": kind.value}

    def _failed_unexpectedly(self, job_id: str, error: Exception) -> dict[str, Any]:
        """Store an exception that has no code of its own, by its type and place."""
        known = coded(error)
        _log.error("unexpected failure", job=job_id, code=known.code, detail=known.detail)
        text = f"{known.sentence} {known.next_step}"
        return self._failed(job_id, known.code, text, retryable=known.retryable)

    def _give_up(self, job_id: str, deaths: int, last: str) -> dict[str, Any]:
        """Give up a job over which processes die again and again."""
        text = move_to_dead_letter(self._store, job_id, deaths, last)
        return {"outcome": "failed", "code": DeadLetter.code, "text": text, "kind": FailureKind.CRASH.value}
