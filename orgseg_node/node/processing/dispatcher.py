"""Gives the engine the jobs whose turn it is and the deliveries that are due; repairs what does not agree.

Both are scans of the store that may run at any time and as often as one likes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import structlog

from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.isolation import Isolation
from orgseg_node.node.processing.dead_letter import move_to_dead_letter
from orgseg_node.node.processing.engine import Engine, Queue, WorkflowState
from orgseg_node.node.processing.job_commands import JobCommands
from orgseg_node.node.processing.reconciliation import (
    DeliveryAction,
    JobAction,
    delivery_action,
    job_action,
)
from orgseg_node.node.processing.worker import CONTOUR, DELIVER, Worker
from orgseg_node.node.processing.workflow_ids import delivery_workflow_id
from orgseg_node.node.scheduler import DISPATCH, Tick
from orgseg_node.node.store.clock import Clock, utc_now
from orgseg_node.node.store.model import NEEDS_WORKER, Delivery, Job, JobState
from orgseg_node.node.store.store import Store

CONTOUR_QUEUE: Final = "contour"
_RECENT_ATTEMPTS: Final = 3
_log = structlog.get_logger("orgseg.dispatcher")


def queues_of(config: NodeConfig) -> tuple[Queue, ...]:
    """One queue for the device and one for each destination: one that does not answer delays no other."""
    places = config.destinations.items()
    sends = tuple(Queue(name=_send_queue(name), concurrency=place.at_once) for name, place in places)
    return (Queue(name=CONTOUR_QUEUE, concurrency=1), *sends)


class Dispatcher:
    """Keeps the store and the engine in agreement.

    Parameters
    ----------
    config : the node's configuration
    store : the node's database
    engine : the durable engine
    worker : does what the engine is not needed for
    clock : returns the time
    slots : returns how many jobs can run at once, by all workers together
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

    def ticks(self, tick_s: float) -> tuple[Tick, ...]:
        """What the scheduler runs: the dispatch every tick, the reconciliation every minute."""
        return ((DISPATCH, self.dispatch, tick_s), ("reconcile", self.reconcile, 60.0))

    # ------------------------------------------------------------------ dispatch

    def dispatch(self) -> None:
        """Release approved jobs, and give the engine jobs whose turn it is and deliveries that are due.

        The engine gets only as many jobs as can run now, so that a more urgent one overtakes all others.
        """
        with self._dispatching:
            isolation = Isolation("dispatch")
            for part in (self._release_approved, self._submit_jobs, self._submit_deliveries):
                with isolation.item(part.__name__.strip("_").replace("_", " ")):
                    part(isolation)
            isolation.finish()

    def _release_approved(self, isolation: Isolation) -> None:
        for job in self._commands.approved(self._config.review.persons):
            with isolation.item(f"job {job.job_id}"):
                self._worker.release_approved(job)
                self._commands.clear_approvals(job.job_id)

    def _submit_jobs(self, isolation: Isolation) -> None:
        busy = 0
        for job in self._store.jobs(states=NEEDS_WORKER - {JobState.QUEUED}):
            with isolation.item(f"job {job.job_id}"):
                busy += self._workflow_state(job) is WorkflowState.ACTIVE
        waiting = self._store.jobs(states={JobState.QUEUED})
        for job in queue_order(waiting, self._clock(), self._config.worker.ageing_per_hour):
            if busy >= self._slots():
                break
            with isolation.item(f"job {job.job_id}"):
                busy += self._submit_job(job)

    def _submit_job(self, job: Job) -> bool:
        """Have the engine run `Worker.contour`; whether it has the job. `reconcile` handles an ended one."""
        state = self._workflow_state(job)
        if state is WorkflowState.ABSENT:
            self._engine.submit(CONTOUR_QUEUE, CONTOUR, job.workflow_id, job.job_id)
            _log.info("job queued", job=job.job_id, slices=job.slices)
        return state in {WorkflowState.ABSENT, WorkflowState.ACTIVE}

    def _submit_deliveries(self, isolation: Isolation) -> None:
        by_attempts = sorted(self._store.due_deliveries(), key=lambda d: d.attempts)
        due = {(d.job_id, d.destination): d for d in by_attempts}  # the one with the most attempts counts
        for delivery in due.values():
            with isolation.item(f"job {delivery.job_id} to {delivery.destination}"):
                self._submit_delivery(delivery)

    def _submit_delivery(self, delivery: Delivery) -> None:
        """Have the engine run `Worker.deliver` for all objects of a job that are due at a destination."""
        if delivery.destination not in self._config.destinations:
            # fails at once: the destination is no longer configured
            self._worker.send(delivery.job_id, delivery.destination)
            return
        job = self._store.job(delivery.job_id)
        workflow_id = delivery_workflow_id(job, delivery.destination, delivery.attempts + 1)
        action = delivery_action(delivery.state, self._engine.state(workflow_id))
        if action is DeliveryAction.SUBMIT:
            queue = _send_queue(delivery.destination)
            self._engine.submit(queue, DELIVER, workflow_id, delivery.job_id, delivery.destination)
        elif action is DeliveryAction.SKIP_ATTEMPT:
            self._store.skip_attempt(delivery)

    # ------------------------------------------------------------------ reconcile

    def reconcile(self) -> None:
        """Carry out the action of the table for every job and delivery on which store and engine disagree."""
        isolation = Isolation("reconcile")
        for job in self._store.jobs(states=NEEDS_WORKER):  # the table leaves all other states alone
            with isolation.item(f"job {job.job_id}"):
                self._reconcile_job(job)
        for delivery in self._store.sending_deliveries():
            with isolation.item(f"job {delivery.job_id} to {delivery.destination}"):
                if self._is_abandoned(delivery):
                    self._store.requeue_delivery(delivery)
        isolation.finish()

    def _reconcile_job(self, job: Job) -> None:
        action = job_action(job.state, self._workflow_state(job))
        if action is JobAction.LEAVE:
            return
        now = self._store.job(job.job_id)  # it may have changed while the engine was asked
        if (now.state, now.workflow_id) == (job.state, job.workflow_id):
            self._repair(job, action)

    def _repair(self, job: Job, action: JobAction) -> None:
        """Carry out the action of the table for a job."""
        if action is JobAction.WAIT:
            return  # the next dispatch submits it when it is its turn
        if action is JobAction.REQUEUE:
            self._store.requeue(job, "The engine has lost it; it waits for its turn again.")
            _log.warning("job queued again", job=job.job_id)
            return
        deaths = self._store.attempts.count_failed_run(job.job_id)
        if deaths >= self._config.worker.deaths:
            move_to_dead_letter(
                self._store, job.job_id, deaths, "The last time, its workflow ended without a result."
            )
            return
        if job.state is not JobState.QUEUED:
            self._store.requeue(job, "Its workflow ended without a result; it gets another.")
        _log.warning("job gets another workflow", job=job.job_id, deaths=deaths)

    def _is_abandoned(self, delivery: Delivery) -> bool:
        """Whether no workflow sends a delivery that is in SENDING.

        A workflow that was resumed may have claimed it under the ID of an earlier attempt.
        """
        job = self._store.job(delivery.job_id)
        earliest = max(1, delivery.attempts - _RECENT_ATTEMPTS + 1)
        workflows = [
            self._engine.state(delivery_workflow_id(job, delivery.destination, attempt))
            for attempt in range(earliest, delivery.attempts + 1)
        ]
        actions = {delivery_action(delivery.state, workflow) for workflow in workflows}
        return actions == {DeliveryAction.MAKE_DUE}

    def _workflow_state(self, job: Job) -> WorkflowState:
        return self._engine.state(job.workflow_id)


def _send_queue(destination: str) -> str:
    return f"send-{destination}"


def queue_order(waiting: Sequence[Job], now: datetime, ageing_per_hour: float) -> list[Job]:
    """Jobs in the order in which they are to be run.

    A job's priority counts down by `ageing_per_hour` while it waits, so that a stream of urgent jobs does not
    keep one of low priority waiting for ever. Of equals, the one that has waited longest is first.

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
