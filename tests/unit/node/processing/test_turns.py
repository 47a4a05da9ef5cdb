"""Whose turn it is, and that the engine gets no more than can run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orgseg_node.node.processing.dispatcher import in_turn
from orgseg_node.node.processing.engine import RunState
from orgseg_node.node.store.model import JobState
from tests.unit.node.processing.test_dispatcher import House

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """As much of a job as decides on its turn."""

    job_id: str
    priority: int
    updated_at: datetime


def waiting(name: str, priority: int, hours: float) -> Any:
    return Waiting(job_id=name, priority=priority, updated_at=NOW - timedelta(hours=hours))


def turns(rate: float, *jobs: Any) -> str:
    return "".join(job.job_id for job in in_turn(jobs, NOW, rate))


def test_urgent_goes_first_and_of_equals_who_has_waited_longest() -> None:
    jobs = waiting("a", 50, 1), waiting("b", 10, 0), waiting("c", 50, 3)
    assert turns(0, *jobs) == "bca"


@pytest.mark.parametrize(("hours", "first"), [(5.9, "urgent"), (6.1, "low")])
def test_who_waits_overtakes_in_the_end(hours: float, first: str) -> None:
    low, urgent = waiting("low", 70, hours), waiting("urgent", 10, 0)
    assert turns(10, urgent, low).startswith(first)
    assert turns(0, low, urgent) == "urgentlow"


def test_a_clock_that_goes_back_makes_nobody_less_urgent() -> None:
    assert turns(10, waiting("a", 50, -2), waiting("b", 51, 0)) == "ab"


def test_the_engine_gets_the_next_job_only_when_one_can_run(tmp_path: Path) -> None:
    house = House(tmp_path)
    first, second = house.job("1.2"), house.job("1.3")
    house.keeper.dispatch()
    house.keeper.dispatch()
    assert [entry[3] for entry in house.engine.submitted] == [first.job_id]
    house.store.move(first.job_id, JobState.PREPARING, "")
    house.keeper.dispatch()
    assert len(house.engine.submitted) == 1
    house.store.move(first.job_id, JobState.FAILED, "n", reason="R")
    house.engine.states[first.workflow_id] = RunState.FINISHED
    house.keeper.dispatch()
    assert [entry[3] for entry in house.engine.submitted] == [first.job_id, second.job_id]
