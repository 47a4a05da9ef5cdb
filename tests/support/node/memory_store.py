"""A job store without a database, for tests of what uses one; it keeps the same table of transitions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from orgseg_node.errors import IllegalTransition, UnknownJob
from orgseg_node.node.store.delivery_states import Alternate
from orgseg_node.node.store.model import (
    DELIVERY_TRANSITIONS,
    Delivery,
    DeliveryState,
    Instance,
    Job,
    JobState,
    OutputObject,
    require_job_transition,
)

_DELIVERED = {DeliveryState.STORED, DeliveryState.COMMITTED, DeliveryState.DROPPED}
_AGAIN = {DeliveryState.FAILED, DeliveryState.DROPPED}
_OPEN = {DeliveryState.PENDING, DeliveryState.RETRY_WAIT}
_STOPPED = {JobState.CANCELLED, JobState.SUPERSEDED}


class MemoryAttempts:
    """What jobs have been through, in their dictionary."""

    def __init__(self, jobs: dict[str, Job]) -> None:
        self._jobs = jobs
        self._objects: dict[str, list[OutputObject]] = {}

    def _set(self, job_id: str, **values: Any) -> int:
        self._jobs[job_id] = replace(self._jobs[job_id], **values)
        return self._jobs[job_id].deaths

    def begin(self, job_id: str) -> int:
        job = self._jobs[job_id]
        return self._set(job_id, deaths=job.deaths + job.at_risk, at_risk=1)

    def end(self, job_id: str, *, died: bool = False) -> int:
        return self._set(job_id, deaths=self._jobs[job_id].deaths + died, at_risk=0)

    def count_failed_run(self, job_id: str) -> int:
        job = self._jobs[job_id]
        return self._set(job_id, deaths=job.deaths + 1, at_risk=0, spent=job.spent + 1)

    def halve_memory_budget(self, job_id: str, memory_budget_mb: int) -> bool:
        if self._jobs[job_id].memory_budget_mb is not None:
            return False
        self._set(job_id, memory_budget_mb=memory_budget_mb)
        return True

    def keep_objects(self, job_id: str, objects: Iterable[OutputObject]) -> None:
        self._objects[job_id] = sorted(objects, key=lambda one: one.role)

    def objects(self, job_id: str) -> list[OutputObject]:
        return self._objects.get(job_id, [])


class MemoryStore:
    """Jobs and deliveries in dictionaries."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._deliveries: dict[tuple[str, str, str], Delivery] = {}
        self._instances: dict[str, list[Instance]] = {}
        self.attempts = MemoryAttempts(self._jobs)

    def put(self, job: Job, instances: Sequence[Instance] = ()) -> None:
        """Have a job."""
        self._jobs[job.job_id] = job
        self._instances[job.series_uid] = list(instances)

    def job(self, job_id: str) -> Job:
        if job_id not in self._jobs:
            raise UnknownJob(job_id)
        return self._jobs[job_id]

    def instances_of(self, series_uid: str) -> list[Instance]:
        return self._instances.get(series_uid, [])

    def move(self, job_id: str, target: JobState, note: str, *, reason: str = "") -> Job:
        job = self.job(job_id)
        if job.state is not target:
            require_job_transition(job.state, target)
        done = {JobState.QUEUED: 0.0, JobState.DONE: 1.0}.get(target, job.progress)
        self._jobs[job_id] = replace(job, state=target, note=note, reason=reason, stage="", progress=done)
        return self._jobs[job_id]

    def requeue(self, job: Job, note: str) -> Job:
        now = self.job(job.job_id)
        return self.move(job.job_id, JobState.QUEUED, note) if now.state is job.state else now

    def progress(self, job_id: str, fraction: float, stage: str) -> JobState:
        job = self.job(job_id)
        self._jobs[job_id] = replace(job, progress=min(max(fraction, 0.0), 1.0), stage=stage)
        return job.state

    def begin_sending(
        self, job_id: str, pairs: Sequence[tuple[OutputObject, str]], *, confirm: Collection[str] = ()
    ) -> JobState:
        self.move(job_id, JobState.SENDING, "")
        for item, name in pairs:
            self._deliveries[(job_id, item.role, name)] = Delivery(
                job_id=job_id,
                role=item.role,
                destination=name,
                path=item.path,
                sop_uid=item.sop_uid,
                state=DeliveryState.PENDING,
                attempts=0,
                status=None,
                note="",
                next_attempt_at=datetime.now(UTC),
                first_attempt_at=None,
                confirmation="WANTED" if name in confirm else "",
            )
        return self._finish(job_id)

    def deliveries(self, job_id: str) -> list[Delivery]:
        mine = [delivery for (owner, _, _), delivery in self._deliveries.items() if owner == job_id]
        return sorted(mine, key=lambda d: (d.destination, d.role))

    def claim(self, job_id: str, destination: str) -> list[Delivery]:
        claimed = []
        for delivery in self.deliveries(job_id):
            free = delivery.state in _OPEN or delivery.state is DeliveryState.SENDING
            if (
                delivery.destination != destination
                or not free
                or self.job(job_id).state is not JobState.SENDING
            ):
                continue
            taken = replace(
                delivery,
                state=DeliveryState.SENDING,
                attempts=delivery.attempts + (delivery.state in _OPEN),
                note="",
                first_attempt_at=delivery.first_attempt_at or datetime.now(UTC),
            )
            self._deliveries[(job_id, delivery.role, destination)] = taken
            claimed.append(taken)
        return claimed

    def record_delivery(
        self, delivery: Delivery, state: DeliveryState, *, status: int | None, note: str, next_at: datetime
    ) -> JobState:
        key = (delivery.job_id, delivery.role, delivery.destination)
        now = self._deliveries[key]
        if state is not now.state and state not in DELIVERY_TRANSITIONS[now.state]:
            raise IllegalTransition(f"{now.state} -> {state}")
        self._deliveries[key] = replace(now, state=state, status=status, note=note, next_attempt_at=next_at)
        if state is DeliveryState.STORED:
            job = self.job(delivery.job_id)
            self._jobs[job.job_id] = replace(job, delivered_at=job.delivered_at or datetime.now(UTC))
        return self._finish(delivery.job_id)

    def divert(self, delivery: Delivery, alternate: Alternate, *, status: int | None, note: str) -> JobState:
        self._divert(replace(delivery, status=status, note=note), alternate)
        return self.job(delivery.job_id).state

    def _divert(self, failed: Delivery, alternate: Alternate) -> None:
        note = f"Goes to {alternate.name} instead. {failed.note}"
        dropped = replace(failed, state=DeliveryState.DROPPED, note=note)
        self._deliveries[(failed.job_id, failed.role, failed.destination)] = dropped
        there = (failed.job_id, failed.role, alternate.name)
        if there in self._deliveries and self._deliveries[there].state not in _AGAIN:
            return
        self._deliveries[there] = replace(
            failed,
            destination=alternate.name,
            state=DeliveryState.PENDING,
            attempts=0,
            status=None,
            note=f"instead of {failed.destination}",
            first_attempt_at=None,
            confirmation="WANTED" if alternate.confirm else "",
            instead_of=failed.destination,
        )

    def _finish(self, job_id: str) -> JobState:
        now = self.job(job_id).state
        if now is not JobState.SENDING:
            for key, each in self._deliveries.items():
                if key[0] == job_id and now in _STOPPED and each.state in _OPEN | {DeliveryState.FAILED}:
                    self._deliveries[key] = replace(each, state=DeliveryState.DROPPED, note="stopped")
            return now
        mine = self.deliveries(job_id)
        if any(d.state is DeliveryState.STORED and d.confirmation == "WANTED" for d in mine):
            return self.job(job_id).state
        states = {delivery.state for delivery in mine}
        if states <= _DELIVERED:
            return self.move(job_id, JobState.DONE, "").state
        if states <= _DELIVERED | {DeliveryState.FAILED}:
            return self.move(job_id, JobState.FAILED, "not delivered", reason="NOT_DELIVERED").state
        return self.job(job_id).state
