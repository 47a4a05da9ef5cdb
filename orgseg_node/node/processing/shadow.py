"""Runs the version in the shadow on scans that the live version has contoured; nothing of it is sent.

It works only while no job waits or runs, at a low priority, and stops for the first job that comes.
What it writes is deleted as soon as it is compared with the result of the live version.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import structlog

from orgseg_node import durable
from orgseg_node.errors import JobStopped, OrgsegError, StorageError, TimeLimit, WorkerDied
from orgseg_node.errors.unexpected import coded
from orgseg_node.node.background_task import BackgroundTask
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.models.agreement import compare_results
from orgseg_node.node.models.shadow_rows import ShadowRuns
from orgseg_node.node.models.version_rows import ModelVersion, in_state, versions
from orgseg_node.node.processing.child_process import Message, start_child, supervise
from orgseg_node.node.processing.device_lock import hold_device
from orgseg_node.node.processing.request_building import build_request
from orgseg_node.node.store.data_folder import JOBS, LOCKS, SHADOW
from orgseg_node.node.store.model import NEEDS_WORKER, Job, ModelState
from orgseg_node.node.store.store import Store

_LOW_PRIORITY: Final = 10  # it gives way to patients anyway; at 19 a busy machine gives it nearly no time

_log = structlog.get_logger("orgseg.shadow")


class ShadowRunner:
    """Runs the version in the shadow, one scan at a time, in a thread of its own.

    Parameters
    ----------
    current : the configuration in force
    store : the node's database
    command : program that contours, to which the request file is appended
    """

    def __init__(self, current: CurrentConfig, store: Store, command: Sequence[str]) -> None:
        self._current = current
        self._store = store
        self._command = tuple(command)
        self._runs = ShadowRuns(store.database)
        self._task = BackgroundTask("shadow", current.config.node.data_dir / LOCKS)

    def __enter__(self) -> Self:
        with self._task.alone() as alone:
            if alone:  # what an earlier process left when it was killed
                shutil.rmtree(self._current.config.node.data_dir / SHADOW, ignore_errors=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def poll(self) -> None:
        """Begin with the next scan, unless one is running, a job waits, or there is none."""
        if not self._task.is_free or self._patients_wait():
            return
        wanted = self._next()
        if wanted is not None:
            self._task.begin(partial(self._in_thread, *wanted))

    def stop(self) -> None:
        """Stop; a scan that is running is contoured again later."""
        self._task.stop()

    def _patients_wait(self) -> bool:
        return bool(self._store.jobs(states=NEEDS_WORKER, limit=1))

    def _next(self) -> tuple[ModelVersion, ModelVersion, Job] | None:
        """A version in the shadow, the live one, and the job of a scan to compare."""
        database = self._store.database
        cases = self._current.config.models.shadow_cases
        for shadow in versions(database):
            live = in_state(database, shadow.family, ModelState.LIVE)
            if shadow.state is not ModelState.SHADOW or live is None:
                continue
            job = self._runs.next_job(live, shadow, cases)
            if job is not None:
                return shadow, live, job
        return None

    def _in_thread(self, shadow: ModelVersion, live: ModelVersion, job: Job) -> None:
        try:
            self.run(shadow, live, job)
        except OrgsegError as error:
            _log.error("shadow failed", job=job.job_id, code=error.code, detail=error.detail)
        except Exception as error:  # noqa: BLE001  # whatever it is, it belongs to this scan
            known = coded(error)
            _log.error("shadow failed", job=job.job_id, code=known.code, detail=known.detail)
        finally:
            self._store.close()

    def run(self, shadow: ModelVersion, live: ModelVersion, job: Job) -> None:
        """Contour one scan with the version in the shadow, and compare; it may be interrupted at any time.

        Parameters
        ----------
        shadow, live : versions of one family
        job : of the live version, which was contoured
        """
        data = self._current.config.node.data_dir
        folder = data / SHADOW / f"{job.job_id}-{shadow.sha256[:12]}"
        with self._task.alone() as alone:
            if not alone or not self._runs.begin(shadow, job.job_id):
                return
            try:
                final = self._contour(shadow, live, job, folder)
                if final.get("event") == "done":
                    rows = compare_results(data / JOBS / job.job_id / "out", folder / "out")
                    self._runs.compared(shadow, job.job_id, rows)
                    _log.info("shadow compared", job=job.job_id, bundle=shadow.bundle)
                else:
                    self._fail(shadow, job, f"{final.get('code', '')} {final.get('sentence', '')}".strip())
            except JobStopped:
                self._runs.take_back(shadow, job.job_id)
            except (WorkerDied, TimeLimit) as error:
                _log.warning("shadow died", job=job.job_id, code=error.code)  # tried again, or given up
            except StorageError as error:
                self._fail(shadow, job, error.sentence)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def _fail(self, shadow: ModelVersion, job: Job, note: str) -> None:
        self._runs.failed(shadow, job.job_id, note)
        _log.warning("shadow not compared", job=job.job_id, bundle=shadow.bundle, why=note)

    def _contour(self, shadow: ModelVersion, live: ModelVersion, job: Job, folder: Path) -> dict[str, Any]:
        """Run the child; its final message."""
        shutil.rmtree(folder, ignore_errors=True)
        durable.make_folder(folder)
        request = folder / "request.json"
        instances = self._store.instances_of(job.series_uid)
        content = build_request(self._current.config, _in_shadow(job, live, shadow), instances, folder)
        durable.write_durably(request, content.to_json().encode())
        final: dict[str, Any] = {}

        def on_message(message: Message) -> bool:
            if message.get("event") == "progress":
                return False
            final.update(message)
            return True

        config = self._current.config
        with hold_device(config.node.data_dir / LOCKS, config.inference.device, _give_way) as lock:
            child = start_child([*self._command, str(request)], folder / "child.log", (lock,))
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, child.pid, _LOW_PRIORITY)
            limit_s = config.inference.time_limit_s
            supervise(child, on_message, must_stop=self._must_stop, time_limit_s=limit_s)
        if not final:
            raise WorkerDied("It ended without a final message.")
        return final

    def _must_stop(self) -> bool:
        return self._task.stopping.is_set() or self._patients_wait()


def _give_way() -> None:
    """Another process computes on the device: a patient's job, which goes first."""
    raise JobStopped


def _in_shadow(job: Job, live: ModelVersion, shadow: ModelVersion) -> Job:
    """The job with the other version, for nobody, under a number of its own."""
    number = hashlib.sha256(f"shadow {job.job_id} {shadow.sha256}".encode()).hexdigest()[:16]
    return replace(
        job,
        job_id=number,
        bundles=tuple(shadow.bundle if name == live.bundle else name for name in job.bundles),
        models=tuple(shadow.sha256 if sha256 == live.sha256 else sha256 for sha256 in job.models),
        destinations=(),
    )
