"""Every job has a workflow, every delivery an attempt, and the engine gets no more than can run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orgseg_node.errors import ItemsFailed
from orgseg_node.node.processing.dispatcher import queue_order, queues_of
from orgseg_node.node.processing.engine import WorkflowState
from orgseg_node.node.processing.heartbeat import live_workers
from orgseg_node.node.store.model import DeliveryState, JobState
from tests.support.node.job_bench import JobBench
from tests.support.node.memory_engine import MemoryEngine

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def bench(tmp_path: Path) -> JobBench:
    return JobBench(tmp_path)


def test_a_queued_job_is_submitted_once_under_its_number(bench: JobBench) -> None:
    job = bench.job()
    bench.dispatcher.dispatch()
    bench.dispatcher.dispatch()
    assert bench.engine.submitted == [("contour", "contour", f"{job.job_id}.1", job.job_id)]


def test_a_job_started_again_has_a_number_of_its_own(bench: JobBench) -> None:
    job = bench.job()
    bench.store.move(job.job_id, JobState.FAILED, "n", reason="R")
    bench.engine.states[f"{job.job_id}.1"] = WorkflowState.FINISHED
    bench.store.retry(job.job_id)
    bench.dispatcher.dispatch()
    assert bench.engine.submitted == [("contour", "contour", f"{job.job_id}.2", job.job_id)]


def test_a_running_job_that_the_engine_has_lost_gets_its_turn_again(bench: JobBench) -> None:
    job = bench.job()
    bench.store.move(job.job_id, JobState.PREPARING, "")
    bench.dispatcher.reconcile()
    assert bench.store.job(job.job_id).state is JobState.QUEUED
    bench.dispatcher.dispatch()
    assert [entry[2] for entry in bench.engine.submitted] == [f"{job.job_id}.1"]


@pytest.mark.parametrize("state", [WorkflowState.GIVEN_UP, WorkflowState.FAILED, WorkflowState.FINISHED])
def test_a_running_job_whose_workflow_ended_gets_another_until_it_failed_too_often(
    bench: JobBench, state: WorkflowState
) -> None:
    job = bench.job()
    for number in ("1", "1+1", "1+2"):
        bench.dispatcher.dispatch()
        assert bench.engine.submitted[-1][2] == f"{job.job_id}.{number}"
        bench.store.move(job.job_id, JobState.PREPARING, "")
        bench.engine.states[f"{job.job_id}.{number}"] = state
        bench.dispatcher.reconcile()
    failed = bench.store.job(job.job_id)
    assert (failed.state, failed.reason, failed.deaths) == (JobState.FAILED, "JOB_POISON", 3)


def test_a_job_whose_workflow_is_active_is_left_alone(bench: JobBench) -> None:
    job = bench.job()
    bench.dispatcher.dispatch()
    bench.dispatcher.reconcile()
    assert bench.store.job(job.job_id).state is JobState.QUEUED


def test_each_attempt_of_a_delivery_is_submitted_once_to_its_destinations_queue(
    bench: JobBench,
) -> None:
    job = bench.sending("tps")
    bench.dispatcher.dispatch()
    bench.dispatcher.dispatch()
    assert bench.engine.submitted == [("send-tps", "deliver", f"{job.job_id}.1.tps.1", job.job_id, "tps")]
    (delivery,) = bench.store.claim(job.job_id, "tps")
    bench.store.record_delivery(
        delivery, DeliveryState.RETRY_WAIT, status=None, note="down", next_at=datetime.now(UTC)
    )
    bench.dispatcher.dispatch()
    assert bench.engine.submitted[-1][2] == f"{job.job_id}.1.tps.2"


def test_a_delivery_whose_workflow_ended_without_sending_gets_another(bench: JobBench) -> None:
    job = bench.sending("tps")
    bench.engine.states[f"{job.job_id}.1.tps.1"] = WorkflowState.FAILED
    bench.dispatcher.dispatch()
    bench.dispatcher.dispatch()
    assert [entry[2] for entry in bench.engine.submitted] == [f"{job.job_id}.1.tps.2"]


def test_a_delivery_in_sending_without_a_workflow_is_due_again(bench: JobBench) -> None:
    job = bench.sending("tps")
    bench.store.claim(job.job_id, "tps")
    bench.engine.states[f"{job.job_id}.1.tps.1"] = WorkflowState.GIVEN_UP
    bench.dispatcher.reconcile()
    bench.dispatcher.dispatch()
    assert [entry[2] for entry in bench.engine.submitted] == [f"{job.job_id}.1.tps.2"]


def test_a_destination_that_left_the_configuration_fails_visibly(bench: JobBench) -> None:
    job = bench.sending("old")
    bench.dispatcher.dispatch()
    failed = bench.store.job(job.job_id)
    assert (failed.state, failed.reason) == (JobState.FAILED, "NOT_DELIVERED")
    (delivery,) = bench.store.deliveries(job.job_id)
    assert "NETWORK_UNKNOWN_DESTINATION" in delivery.note


def test_there_is_one_queue_for_the_device_and_one_for_each_destination(bench: JobBench) -> None:
    assert [(queue.name, queue.concurrency) for queue in queues_of(bench.config)] == [
        ("contour", 1),
        ("send-tps", 2),
    ]


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """As much of a job as decides on its turn."""

    job_id: str
    priority: int
    updated_at: datetime


def waiting(name: str, priority: int, hours: float) -> Any:
    return Waiting(job_id=name, priority=priority, updated_at=NOW - timedelta(hours=hours))


def turns(rate: float, *jobs: Any) -> str:
    return "".join(job.job_id for job in queue_order(jobs, NOW, rate))


def test_urgent_comes_first_and_of_equals_the_one_that_has_waited_longest() -> None:
    jobs = waiting("a", 50, 1), waiting("b", 10, 0), waiting("c", 50, 3)
    assert turns(0, *jobs) == "bca"


@pytest.mark.parametrize(("hours", "first"), [(5.9, "urgent"), (6.1, "low")])
def test_a_low_priority_overtakes_after_a_long_wait(hours: float, first: str) -> None:
    low, urgent = waiting("low", 70, hours), waiting("urgent", 10, 0)
    assert turns(10, urgent, low).startswith(first)
    assert turns(0, low, urgent) == "urgentlow"


def test_a_clock_that_goes_back_makes_no_job_less_urgent() -> None:
    assert turns(10, waiting("a", 50, -2), waiting("b", 51, 0)) == "ab"


def test_the_engine_gets_the_next_job_only_when_one_can_run(tmp_path: Path) -> None:
    bench = JobBench(tmp_path)
    first, second = bench.job("1.2"), bench.job("1.3")
    bench.dispatcher.dispatch()
    bench.dispatcher.dispatch()
    assert [entry[3] for entry in bench.engine.submitted] == [first.job_id]
    bench.store.move(first.job_id, JobState.PREPARING, "")
    bench.dispatcher.dispatch()
    assert len(bench.engine.submitted) == 1
    bench.store.move(first.job_id, JobState.FAILED, "n", reason="R")
    bench.engine.states[first.workflow_id] = WorkflowState.FINISHED
    bench.dispatcher.dispatch()
    assert [entry[3] for entry in bench.engine.submitted] == [first.job_id, second.job_id]


def test_the_engine_gets_as_many_jobs_as_workers_are_alive(tmp_path: Path) -> None:
    bench = JobBench(tmp_path, slots=live_workers)
    jobs = [bench.job(f"1.{number}") for number in range(2, 6)]
    bench.dispatcher.dispatch()
    assert len(bench.engine.submitted) == 1
    with bench.store.database.write() as tx:
        for name, state in (("one", "ALIVE"), ("two", "ALIVE"), ("three", "DEAD"), ("four", "STOPPED")):
            tx.run(
                "INSERT INTO worker (name, life, host, state, started_at, seen_at)"
                " VALUES (?, 'x', 'h', ?, 't', 't')",
                (name, state),
            )
    bench.dispatcher.dispatch()
    bench.dispatcher.dispatch()
    assert [entry[3] for entry in bench.engine.submitted] == [job.job_id for job in jobs[:2]]


class OddEngine(MemoryEngine):
    """An engine with workflows that it fails over."""

    odd: tuple[str, ...] = ()

    def state(self, workflow_id: str) -> WorkflowState:
        if workflow_id.startswith(self.odd):
            raise LookupError(workflow_id)
        return super().state(workflow_id)


@pytest.fixture
def odd_bench(tmp_path: Path) -> JobBench:
    return JobBench(tmp_path, engine=OddEngine())


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.PREPARING])
def test_a_job_that_the_engine_fails_over_does_not_stop_the_others(
    odd_bench: JobBench, state: JobState
) -> None:
    odd, good = odd_bench.job("1.1"), odd_bench.job("1.2")
    if state is not JobState.QUEUED:
        odd_bench.store.move(odd.job_id, state, "")
    odd_bench.engine.odd = (odd.job_id,)
    with pytest.raises(ItemsFailed, match=odd.job_id):
        odd_bench.dispatcher.dispatch()
    assert [submitted[-1] for submitted in odd_bench.engine.submitted] == [good.job_id]
    odd_bench.engine.states[good.workflow_id] = WorkflowState.FAILED
    with pytest.raises(ItemsFailed, match=odd.job_id):
        odd_bench.dispatcher.reconcile()
    assert odd_bench.store.job(good.job_id).spent == 1


def test_a_delivery_that_the_engine_fails_over_does_not_stop_the_others(odd_bench: JobBench) -> None:
    odd, good = odd_bench.sending("tps", series="1.1"), odd_bench.sending("tps", series="1.2")
    odd_bench.engine.odd = (odd.job_id,)
    with pytest.raises(ItemsFailed, match=f"job {odd.job_id} to tps: UNEXPECTED"):
        odd_bench.dispatcher.dispatch()
    assert [submitted[3:] for submitted in odd_bench.engine.submitted] == [(good.job_id, "tps")]
