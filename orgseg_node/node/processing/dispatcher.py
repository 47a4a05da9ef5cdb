"""What the node does by the clock: every tick is a scan that may run at any time, as often as one likes."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

import structlog

from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.processing.engine import Engine, Queue, RunState
from orgseg_node.node.processing.job_commands import JobCommands
from orgseg_node.node.processing.reconciliation import (
    DeliveryOutcome,
    Outcome,
    delivery_outcome_of,
    outcome_of,
)
from orgseg_node.node.processing.worker import Worker, bury
from orgseg_node.node.scheduler import Tick
from orgseg_node.node.store.clock import Clock, utc_now
from orgseg_node.node.store.data_folder import INBOX, JOBS, PURGING
from orgseg_node.node.store.model import NEEDS_WORKER, Delivery, Job, JobState
from orgseg_node.node.store.store import Store

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
    slots : how many jobs can run at once, by all workers together
    """

    def __init__(  # noqa: PLR0913
        self,
        config: NodeConfig | CurrentConfig,
        store: Store,
        engine: Engine,
        worker: Worker,
        *,
        clock: Clock = utc_now,
        slots: Callable[[], int] = lambda: 1,
    ) -> None:
        self._current = CurrentConfig.of(config)
        self._store = store
        self._engine = engine
        self._worker = worker
        self._clock = clock
        self._slots = slots
        self._dispatching = threading.Lock()
        self._commands = JobCommands(store, clock=clock)

    @property
    def _config(self) -> NodeConfig:
        return self._current.config

    # ------------------------------------------------------------------ jobs

    def dispatch(self) -> None:
        """Let go what a person approved; give the engine jobs whose turn it is, and deliveries that are due.

        The engine gets only as many jobs as can run now, so that one that is more urgent overtakes all
        others.
        """
        with self._dispatching:
            self._dispatch()

    def _dispatch(self) -> None:
        for job in self._commands.approved():
            self._worker.release_approved(job)
            self._commands.forget_approval(job.job_id)
        begun = self._store.jobs(states=NEEDS_WORKER - {JobState.QUEUED})
        busy = sum(self._run_state(job) is RunState.ALIVE for job in begun)
        waiting = self._store.jobs(states={JobState.QUEUED})
        for job in in_turn(waiting, self._clock(), self._config.worker.ageing_per_hour):
            if busy >= self._slots():
                break
            busy += self._hand_over(job)
        by_attempts = sorted(self._store.due_deliveries(), key=lambda d: d.attempts)
        due = {(d.job_id, d.destination): d for d in by_attempts}
        for delivery in due.values():
            self._submit_delivery(delivery)

    def reconcile(self) -> None:
        """Bring every job and every delivery that the store and the engine disagree on to its one outcome."""
        for job in self._store.jobs(states=NEEDS_WORKER):  # all others are left alone, says the table
            outcome = outcome_of(job.state, self._run_state(job))
            if outcome is Outcome.LEAVE:
                continue
            now = self._store.job(job.job_id)
            if (now.state, now.workflow_id) == (job.state, job.workflow_id):
                self._settle(job, outcome)
        for delivery in self._store.sending_deliveries():
            # a workflow that was resumed may have claimed a delivery under the number of an earlier attempt
            recent = range(max(1, delivery.attempts - 2), delivery.attempts + 1)
            runs = [self._engine.state(self._attempt_id(delivery, attempt)) for attempt in recent]
            outcomes = {delivery_outcome_of(delivery.state, run) for run in runs}
            if outcomes == {DeliveryOutcome.FREE}:
                self._store.free(delivery)

    def _settle(self, job: Job, outcome: Outcome) -> None:
        """Do what the table says about a job."""
        if outcome is Outcome.HAND_OVER:
            return  # the next dispatch does it in turn
        if outcome is Outcome.REQUEUE:
            self._store.move(
                job.job_id, JobState.QUEUED, "The engine had lost it; it waits for its turn again."
            )
            _log.warning("job queued again", job=job.job_id)
            return
        deaths = self._store.lives.spend(job.job_id)
        if deaths >= self._config.worker.deaths:
            bury(self._store, job.job_id, deaths, "The last time, its workflow ended without a result.")
            return
        if job.state is not JobState.QUEUED:
            self._store.move(
                job.job_id, JobState.QUEUED, "Its workflow ended without a result; it gets another."
            )
        _log.warning("job gets another workflow", job=job.job_id, deaths=deaths)

    def _run_state(self, job: Job) -> RunState:
        return self._engine.state(job.workflow_id)

    def _attempt_id(self, delivery: Delivery, attempt: int) -> str:
        run = self._store.job(delivery.job_id).run
        return f"{delivery.job_id}.{run}.{delivery.destination}.{attempt}"

    def _hand_over(self, job: Job) -> bool:
        """Give the engine a job; whether it has it now. What is over there is left to `reconcile`."""
        state = self._run_state(job)
        if state is RunState.ABSENT:
            self._engine.submit(CONTOUR_QUEUE, "contour", job.workflow_id, job.job_id)
            _log.info("job queued", job=job.job_id, slices=job.slices)
        return state in {RunState.ABSENT, RunState.ALIVE}

    def _submit_delivery(self, delivery: Delivery) -> None:
        if delivery.destination not in self._config.destinations:
            self._worker.send(
                delivery.job_id, delivery.destination
            )  # fails it: there is no such place any more
            return
        workflow_id = self._attempt_id(delivery, delivery.attempts + 1)
        outcome = delivery_outcome_of(delivery.state, self._engine.state(workflow_id))
        if outcome is DeliveryOutcome.SUBMIT:
            queue = _send_queue(delivery.destination)
            self._engine.submit(queue, "deliver", workflow_id, delivery.job_id, delivery.destination)
        elif outcome is DeliveryOutcome.COUNT_ON:
            self._store.skip_attempt(delivery)

    # ------------------------------------------------------------------ disk

    def purge(self) -> int:
        """Delete the files of series and jobs that were delivered longer ago than the retention time.

        Nothing that was not delivered is ever deleted; the rows and the history stay. The folder is moved
        away before its rows go: an image that is accepted meanwhile lies in a new one, which nobody deletes.
        """
        data = self._config.node.data_dir
        shutil.rmtree(data / PURGING, ignore_errors=True)  # of a node that stopped in the middle
        jobs = to_purge(self._store, self._config, self._clock())
        for job in jobs:
            self._engine.forget_finished(self._workflow_ids(job))
            aside = data / PURGING / job.job_id
            aside.parent.mkdir(mode=0o770, exist_ok=True)
            with suppress(FileNotFoundError):
                (data / INBOX / job.series_uid).rename(aside)
            self._store.purged(job)
            for folder in (aside, data / JOBS / job.job_id):
                shutil.rmtree(folder, ignore_errors=True)
            _log.info("purged", job=job.job_id)
        return len(jobs)

    def _workflow_ids(self, job: Job) -> list[str]:
        """Every number the engine may know a job's workflows by."""
        runs = range(1, job.run + 1)
        sends = {
            (d.destination, n) for d in self._store.deliveries(job.job_id) for n in range(1, d.attempts + 1)
        }
        spent = [f"{job.job_id}.{job.run}+{number}" for number in range(1, job.spent + 1)]
        return (
            [f"{job.job_id}.{run}" for run in runs]
            + spent
            + [f"{job.job_id}.{run}.{name}.{attempt}" for run in runs for name, attempt in sorted(sends)]
        )

    def ticks(self, tick_s: float) -> tuple[Tick, ...]:
        """What is done by the clock: the queues every tick, the rest by the minute and the hour."""
        return (
            ("dispatch", self.dispatch, tick_s),
            ("reconcile", self.reconcile, 60.0),
            ("disk", self.watch_disk, 60.0),
            ("purge", self.purge, 3600.0),
        )

    def watch_disk(self) -> None:
        """Say so when senders are being turned away for want of disk space."""
        free_mb = shutil.disk_usage(self._config.node.data_dir).free // 1_000_000
        if free_mb < self._config.receiver.min_free_mb:
            _log.error("disk nearly full", free_mb=free_mb, limit_mb=self._config.receiver.min_free_mb)


def to_purge(store: Store, config: NodeConfig, now: datetime) -> list[Job]:
    """The jobs whose files retention would delete now: delivered, and longer ago than the retention time."""
    days = config.retention.days
    return store.purgeable(now - timedelta(days=days)) if days else []


def _send_queue(destination: str) -> str:
    return f"send-{destination}"


def in_turn(waiting: Sequence[Job], now: datetime, ageing_per_hour: float) -> list[Job]:
    """Jobs in the order in which they are to be run.

    A job's priority counts down by `ageing_per_hour` while it waits, so that no stream of urgent jobs keeps
    one of low priority waiting for ever. Of equals, the one that has waited longest goes first.

    Parameters
    ----------
    waiting : jobs that are QUEUED
    now : the time
    ageing_per_hour : by how much an hour of waiting counts; 0 for strict priorities
    """

    def rank(job: Job) -> tuple[float, datetime, str]:
        hours = (now - job.updated_at).total_seconds() / 3600
        return job.priority - ageing_per_hour * max(hours, 0.0), job.updated_at, job.job_id

    return sorted(waiting, key=rank)
