"""Ticks come when they are rung for, besides their usual times."""

from __future__ import annotations

import threading
import time

import structlog

from orgseg_node.node.scheduler import Bell, Pulse, _safely, start_ticks


def test_a_tick_comes_when_it_is_rung_for() -> None:
    came: list[float] = []
    rung = threading.Event()

    def tick() -> None:
        came.append(time.monotonic())
        rung.set()

    bell = Bell()
    bell.ring("judge", 0.0)  # nobody hears it yet
    clock = start_ticks([("judge", tick, 3600.0)], Pulse(), bell)
    try:
        bell.ring("nothing of this name", 0.0)
        assert not rung.wait(0.2)
        begun = time.monotonic()
        bell.ring("judge", 5.0)
        bell.ring("judge", 0.1)  # the new time counts
        assert rung.wait(4.0)
        assert came[0] - begun >= 0.1
        rung.clear()
        bell.ring("judge", 0.0)
        assert rung.wait(4.0)
    finally:
        clock.shutdown()
    bell.ring("judge", 0.0)  # the node is stopping: no error


def test_a_tick_that_fails_is_said_and_does_not_stop_the_clock() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with structlog.testing.capture_logs() as logs:
        _safely("purge", fail, Pulse())()
    assert logs[0]["tick"] == "purge"
    assert logs[0]["kind"] == "ZeroDivisionError"
