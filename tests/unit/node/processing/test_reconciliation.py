"""Every pair of the states in store and engine has one action, which the dispatcher carries out."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from orgseg_node.node.processing.engine import WorkflowState
from orgseg_node.node.processing.reconciliation import (
    DeliveryAction,
    JobAction,
    delivery_action,
    job_action,
)
from orgseg_node.node.store.model import NEEDS_WORKER, DeliveryState, JobState
from tests.support.node.job_bench import JobBench

FINAL_DELIVERY = {DeliveryState[name] for name in ("STORED", "COMMITTED", "FAILED", "DROPPED")}
WAY = (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING)


@pytest.mark.parametrize(("job", "run"), list(itertools.product(JobState, WorkflowState)))
def test_every_pair_of_a_job_and_its_workflow_has_one_action(job: JobState, run: WorkflowState) -> None:
    outcome = job_action(job, run)
    if job not in NEEDS_WORKER or run is WorkflowState.ACTIVE:
        assert outcome is JobAction.LEAVE
    elif run is WorkflowState.ABSENT:
        assert outcome is (JobAction.WAIT if job is JobState.QUEUED else JobAction.REQUEUE)
    else:
        assert outcome is JobAction.RESTART


@pytest.mark.parametrize(("delivery", "run"), list(itertools.product(DeliveryState, WorkflowState)))
def test_every_pair_of_a_delivery_and_its_attempt_has_one_action(
    delivery: DeliveryState, run: WorkflowState
) -> None:
    outcome = delivery_action(delivery, run)
    if delivery in FINAL_DELIVERY or run is WorkflowState.ACTIVE:
        assert outcome is DeliveryAction.LEAVE
    elif delivery is DeliveryState.SENDING:
        assert outcome is DeliveryAction.MAKE_DUE
    else:
        assert outcome is (
            DeliveryAction.SUBMIT if run is WorkflowState.ABSENT else DeliveryAction.SKIP_ATTEMPT
        )


@pytest.mark.parametrize(
    ("steps", "run"), list(itertools.product(range(len(WAY) + 1), WorkflowState)), ids=str
)
def test_a_job_that_needs_a_worker_has_or_gets_one_whatever_the_engine_says(
    tmp_path: Path, steps: int, run: WorkflowState
) -> None:
    bench = JobBench(tmp_path)
    job = bench.job()
    for state in WAY[:steps]:
        bench.store.move(job.job_id, state, "")
    if run is not WorkflowState.ABSENT:
        bench.engine.states[job.workflow_id] = run
    bench.dispatcher.reconcile()
    bench.dispatcher.dispatch()
    now = bench.store.job(job.job_id)
    assert bench.engine.state(now.workflow_id) is WorkflowState.ACTIVE
    alive = [name for name, state in bench.engine.states.items() if state is WorkflowState.ACTIVE]
    assert alive == [now.workflow_id], "and no second one"
    assert now.deaths == (run not in {WorkflowState.ABSENT, WorkflowState.ACTIVE})
