"""What the node does by the clock: every tick is a scan that may run at any time, as often as one likes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Final

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from orgseg_node.errors import OrgsegError, WorkerDied
from orgseg_node.node.clock import Clock, utc_now
from orgseg_node.node.config import NodeConfig
from orgseg_node.node.engine import Engine, Queue, RunState
from orgseg_node.node.inbox import INBOX, Inbox
from orgseg_node.node.jobs import NEEDS_WORKER, Delivery, Job, JobState
from orgseg_node.node.store import Store
from orgseg_node.node.worker import JOBS, Worker

CONTOUR_QUEUE: Final = "contour"
_log = structlog.get_logger("orgseg.housekeeping")


def queues_of(config: NodeConfig) -> tuple[Queue, ...]:
    """One waiting line for the device, one for each destination: a dead destination delays no other."""
    places = config.destinations.items()
    sends = tuple(Queue(name=_send_queue(name), at_once=place.at_once) for name, place in places)
    return (Queue(name=CONTOUR_QUEUE, at_once=1), *sends)


class Housekeeper:
    """Keeps the store and the engine in step, and the disk in order.

    Parameters
    ----------
    config : the node's configuration
    store : the node's memory
    engine : the durable engine
    worker : does what has no need of the engine
    clock : where the time comes from
    """

    def __init__(
        self, config: NodeConfig, store: Store, engine: Engine, worker: Worker, *, clock: Clock = utc_now
    ) -> None:
        self._config = config
        self._store = store
        self._engine = engine
        self._worker = worker
        self._clock = clock

    # ------------------------------------------------------------------ jobs

    def dispatch(self) -> None:
        """Give the engine every queued job and every due delivery that it does not have yet."""
        for job in self._store.jobs(states={JobState.QUEUED}):
            self._submit(job)
        by_attempts = sorted(self._store.due_deliveries(), key=lambda d: d.attempts)
        due = {(d.job_id, d.destination): d for d in by_attempts}
        for delivery in due.values():
            self._submit_delivery(delivery)

    def reconcile(self) -> None:
        """Look at every job that needs a worker: whoever has no live workflow gets one, or is failed."""
        for job in self._store.jobs(states=NEEDS_WORKER):
            state = self._engine.state(_workflow_id(job))
            now = self._store.job(job.job_id)
            if now.state not in NEEDS_WORKER or now.run != job.run or state is RunState.ALIVE:
                continue
            if state is RunState.ABSENT:
                self._submit(job)
                continue
            error = WorkerDied("It was started several times and died each time.")
            if state is not RunState.GIVEN_UP:
                error = WorkerDied("Its workflow ended without a result.")
            self._store.move(
                job.job_id, JobState.FAILED, f"{error.sentence} {error.next_step}", reason=error.code
            )
            _log.error("job failed", job=job.job_id, code=error.code)

        for delivery in self._store.sending_deliveries():
            # a workflow that was resumed may have claimed a delivery under the number of an earlier attempt
            recent = range(max(1, delivery.attempts - 2), delivery.attempts + 1)
            states = {self._engine.state(self._attempt_id(delivery, attempt)) for attempt in recent}
            if RunState.ALIVE not in states:
                self._store.free(delivery)

    def _attempt_id(self, delivery: Delivery, attempt: int) -> str:
        run = self._store.job(delivery.job_id).run
        return f"{delivery.job_id}.{run}.{delivery.destination}.{attempt}"

    def _submit(self, job: Job) -> None:
        workflow_id = _workflow_id(job)
        if self._engine.state(workflow_id) is RunState.ABSENT:
            self._engine.submit(CONTOUR_QUEUE, "contour", workflow_id, job.job_id)
            _log.info("job queued", job=job.job_id, slices=job.slices)

    def _submit_delivery(self, delivery: Delivery) -> None:
        if delivery.destination not in self._config.destinations:
            self._worker.send(
                delivery.job_id, delivery.destination
            )  # fails it: there is no such place any more
            return
        workflow_id = self._attempt_id(delivery, delivery.attempts + 1)
        state = self._engine.state(workflow_id)
        if state is RunState.ABSENT:
            queue = _send_queue(delivery.destination)
            self._engine.submit(queue, "deliver", workflow_id, delivery.job_id, delivery.destination)
        elif state is not RunState.ALIVE:
            self._store.skip_attempt(delivery)  # that workflow is over without having sent it: count on

    # ------------------------------------------------------------------ disk

    def purge(self) -> int:
        """Delete the files of series and jobs that were delivered longer ago than the retention time.

        Nothing that was not delivered is ever deleted; the rows and the history stay.
        """
        days = self._config.retention.days
        if days == 0:
            return 0
        jobs = self._store.purgeable(self._clock() - timedelta(days=days))
        for job in jobs:
            self._engine.forget_finished(self._workflow_ids(job))
            self._store.purged(job)
            for folder in (INBOX + "/" + job.series_uid, JOBS + "/" + job.job_id):
                shutil.rmtree(self._config.node.data_dir / folder, ignore_errors=True)
            _log.info("purged", job=job.job_id)
        return len(jobs)

    def _workflow_ids(self, job: Job) -> list[str]:
        """Every number the engine may know a job's workflows by."""
        runs = range(1, job.run + 1)
        sends = {
            (d.destination, n) for d in self._store.deliveries(job.job_id) for n in range(1, d.attempts + 1)
        }
        return [f"{job.job_id}.{run}" for run in runs] + [
            f"{job.job_id}.{run}.{name}.{attempt}" for run in runs for name, attempt in sorted(sends)
        ]

    def watch_disk(self) -> None:
        """Say so when senders are being turned away for want of disk space."""
        free_mb = shutil.disk_usage(self._config.node.data_dir).free // 1_000_000
        if free_mb < self._config.receiver.min_free_mb:
            _log.error("disk nearly full", free_mb=free_mb, limit_mb=self._config.receiver.min_free_mb)


Tick = tuple[str, Callable[[], object], float]
"""Name, scan, and seconds between two scans."""


def start_ticks(
    housekeeper: Housekeeper, inbox: Inbox, *, tick_s: float, more: Iterable[Tick] = ()
) -> BackgroundScheduler:
    """Start the clock: the inbox and the queues every tick, the rest by the minute and the hour."""
    scheduler = BackgroundScheduler(
        executors={"default": ThreadPoolExecutor(6)},
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        timezone="UTC",
    )
    every: tuple[Tick, ...] = (
        ("judge", inbox.judge_quiet_series, tick_s),
        ("dispatch", housekeeper.dispatch, tick_s),
        ("reconcile", housekeeper.reconcile, 60.0),
        ("disk", housekeeper.watch_disk, 60.0),
        ("purge", housekeeper.purge, 3600.0),
        *more,
    )
    for name, scan, seconds in every:
        scheduler.add_job(_safely(name, scan), "interval", seconds=seconds, id=name)
    scheduler.start()
    return scheduler


def _safely(name: str, scan: Callable[[], object]) -> Callable[[], None]:
    """A scan that reports its failure and is tried again at the next tick."""

    def tick() -> None:
        try:
            scan()
        except OrgsegError as error:
            _log.error("tick failed", tick=name, code=error.code, detail=error.sentence)
        except Exception as error:  # noqa: BLE001 (one bad tick must not stop the clock)
            _log.error("tick failed", tick=name, code="UNEXPECTED", kind=type(error).__name__)

    return tick


def _workflow_id(job: Job) -> str:
    return f"{job.job_id}.{job.run}"


def _send_queue(destination: str) -> str:
    return f"send-{destination}"
