"""Times add up, also when what is timed fails."""

from __future__ import annotations

import time

import pytest
import torch

from orgseg_node.inference.engine.stopwatch import Stopwatch


def test_only_the_time_between_entering_and_leaving_is_added() -> None:
    stopwatch, began = Stopwatch(torch.device("cpu")), time.perf_counter()
    assert stopwatch.seconds() == 0
    for _ in range(3):
        with stopwatch:
            time.sleep(0.01)
    timed, whole = stopwatch.seconds(), time.perf_counter() - began
    time.sleep(0.01)
    assert 0.03 <= timed <= whole
    assert stopwatch.seconds() == timed


def test_a_failure_is_timed_and_passed_on() -> None:
    stopwatch = Stopwatch(torch.device("cpu"))
    with pytest.raises(KeyError), stopwatch:
        raise KeyError
    assert stopwatch.seconds() > 0
