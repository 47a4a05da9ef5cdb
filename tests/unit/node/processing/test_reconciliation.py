"""The tables of what store and engine may say: walked whole, and done by the housekeeper."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from orgseg_node.node.processing.engine import RunState
from orgseg_node.node.processing.reconciliation import (
    DeliveryOutcome,
    Outcome,
    delivery_outcome_of,
    outcome_of,
)
from orgseg_node.node.store.model import FINAL_DELIVERY, NEEDS_WORKER, DeliveryState, JobState
from tests.support.node.job_bench import JobBench

WAY = (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING)


@pytest.mark.parametrize(("job", "run"), list(itertools.product(JobState, RunState)))
def test_every_pair_of_a_job_and_its_workflow_has_one_outcome(job: JobState, run: RunState) -> None:
    outcome = outcome_of(job, run)
    if job not in NEEDS_WORKER or run is RunState.ALIVE:
        assert outcome is Outcome.LEAVE
    elif run is RunState.ABSENT:
        assert outcome is (Outcome.HAND_OVER if job is JobState.QUEUED else Outcome.REQUEUE)
    else:
        assert outcome is Outcome.ANEW


@pytest.mark.parametrize(("delivery", "run"), list(itertools.product(DeliveryState, RunState)))
def test_every_pair_of_a_delivery_and_its_attempt_has_one_outcome(
    delivery: DeliveryState, run: RunState
) -> None:
    outcome = delivery_outcome_of(delivery, run)
    if delivery in FINAL_DELIVERY or run is RunState.ALIVE:
        assert outcome is DeliveryOutcome.LEAVE
    elif delivery is DeliveryState.SENDING:
        assert outcome is DeliveryOutcome.FREE
    else:
        assert outcome is (DeliveryOutcome.SUBMIT if run is RunState.ABSENT else DeliveryOutcome.COUNT_ON)


@pytest.mark.parametrize(("steps", "run"), list(itertools.product(range(len(WAY) + 1), RunState)), ids=str)
def test_a_job_that_needs_a_worker_has_or_gets_one_whatever_the_engine_says(
    tmp_path: Path, steps: int, run: RunState
) -> None:
    bench = JobBench(tmp_path)
    job = bench.job()
    for state in WAY[:steps]:
        bench.store.move(job.job_id, state, "")
    if run is not RunState.ABSENT:
        bench.engine.states[job.workflow_id] = run
    bench.dispatcher.reconcile()
    bench.dispatcher.dispatch()
    now = bench.store.job(job.job_id)
    assert bench.engine.state(now.workflow_id) is RunState.ALIVE
    alive = [name for name, state in bench.engine.states.items() if state is RunState.ALIVE]
    assert alive == [now.workflow_id], "and no second one"
    assert now.deaths == (run not in {RunState.ABSENT, RunState.ALIVE})
