"""Runs the child process of one job: waits for the device, starts the child and stores its progress."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from orgseg_node import durable
from orgseg_node.errors import JobStopped, WorkerDied
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.monitoring.metrics import Meters
from orgseg_node.node.processing.child_process import Message, start_child, supervise
from orgseg_node.node.processing.device_lock import hold_device
from orgseg_node.node.processing.request_building import build_request
from orgseg_node.node.processing.warm_worker import WarmWorker
from orgseg_node.node.store.data_folder import JOBS, LOCKS
from orgseg_node.node.store.model import RUNNING, Job, JobState
from orgseg_node.node.store.store import Store

_DEVICE_WAIT_S: Final = 1.0
_ORDER: Final = (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildRunner:
    """Runs child processes, each for one job.

    Attributes
    ----------
    current : the configuration in force
    store : the node's database
    command : program that contours, `orgseg_node.node.processing.child`; the request file is appended
    warm_worker : keeps one of it waiting for the next job
    meters : count how long inference takes
    stopping : set when the node stops
    """

    current: CurrentConfig
    store: Store
    command: Sequence[str]
    warm_worker: WarmWorker
    meters: Meters
    stopping: threading.Event

    @property
    def _config(self) -> NodeConfig:
        return self.current.config

    def run(self, job: Job) -> dict[str, Any]:
        """Run the child for a job.

        Returns
        -------
        Its final message. The ``event`` in it is ``done``, with the written ``objects`` (role, path, sop_uid,
        sha256) and ``held``, the findings that need a review; or it is ``error``, with code, sentence,
        next_step and retryable.

        Raises
        ------
        WorkerDied, TimeLimit
            If the child ended without a final message, or took too long.
        JobStopped
            If the job was stopped, or the node stops.
        StorageError
            If the request cannot be written or the lock of the device cannot be opened.
        """
        folder = self._config.node.data_dir / JOBS / job.job_id
        folder.mkdir(parents=True, exist_ok=True, mode=0o770)
        request = folder / "request.json"
        instances = self.store.instances_of(job.series_uid)
        content = build_request(self._config, job, instances, folder).to_json()
        durable.write_durably(request, content.encode())
        final: dict[str, Any] = {}

        def on_message(message: Message) -> bool:
            if message.get("event") != "progress":
                final.update(message)
                return True
            self._store_progress(job.job_id, message)
            return False

        must_stop = self._must_stop(job.job_id)

        def while_busy() -> None:
            if must_stop():
                raise JobStopped
            self.store.progress(job.job_id, 0.0, "waiting for the device")
            self.stopping.wait(_DEVICE_WAIT_S)

        locks = self._config.node.data_dir / LOCKS
        with hold_device(locks, self._config.inference.device, while_busy) as device_lock:
            started = time.monotonic()
            child = self._start(request, folder / "child.log", device_lock)
            try:
                limit_s = self._config.inference.time_limit_s
                supervise(child, on_message, must_stop=must_stop, time_limit_s=limit_s)
            finally:
                self.warm_worker.prepare()  # for the next job, now that this one has freed its memory
            self.meters.infer_seconds.observe(time.monotonic() - started)
        if not final:
            raise WorkerDied("It ended without a final message.")
        return final

    def _start(self, request: Path, log: Path, device_lock: int) -> subprocess.Popen[bytes]:
        """The warm worker if one is ready, or else a new process; it inherits the lock of the device."""
        warm = self.warm_worker.assign(request, log, (device_lock,))
        return warm or start_child([*self.command, str(request)], log, (device_lock,))

    def _must_stop(self, job_id: str) -> Callable[[], bool]:
        """Whether the child must stop; reads the job each time, since anybody may stop it while it runs."""
        return lambda: self.stopping.is_set() or self.store.job(job_id).state not in RUNNING

    def _store_progress(self, job_id: str, message: Message) -> None:
        if message.get("state"):
            self.advance(job_id, JobState(message["state"]))
        self.store.progress(job_id, float(message["fraction"]), str(message["text"]))

    def advance(self, job_id: str, target: JobState) -> None:
        """Move a job forward to a state, step by step; never backward.

        The job is read again: one that was stopped meanwhile stays stopped.
        """
        state = self.store.job(job_id).state
        if state not in _ORDER or target not in _ORDER:
            return
        for following in _ORDER[_ORDER.index(state) + 1 : _ORDER.index(target) + 1]:
            self.store.move(job_id, following, "")
