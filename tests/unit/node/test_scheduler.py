"""Ticks come when they are rung for, besides their usual times."""

from __future__ import annotations

import threading
import time

import structlog

from orgseg_node.node.scheduler import Wakeup, Watchdog, _safely, start_scheduler


def test_a_tick_comes_when_it_is_rung_for() -> None:
    came: list[float] = []
    rung = threading.Event()

    def tick() -> None:
        came.append(time.monotonic())
        rung.set()

    wakeup = Wakeup()
    wakeup.trigger("judge", 0.0)  # nobody hears it yet
    clock = start_scheduler([("judge", tick, 3600.0)], Watchdog(), wakeup)
    try:
        wakeup.trigger("nothing of this name", 0.0)
        assert not rung.wait(0.2)
        begun = time.monotonic()
        wakeup.trigger("judge", 5.0)
        wakeup.trigger("judge", 0.1)  # the new time counts
        assert rung.wait(4.0)
        assert came[0] - begun >= 0.1
        rung.clear()
        wakeup.trigger("judge", 0.0)
        assert rung.wait(4.0)
    finally:
        clock.shutdown()
    wakeup.trigger("judge", 0.0)  # the node is stopping: no error


def test_a_tick_that_fails_is_said_and_does_not_stop_the_clock() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with structlog.testing.capture_logs() as logs:
        _safely("purge", fail, Watchdog())()
    assert logs[0]["tick"] == "purge"
    assert logs[0]["kind"] == "ZeroDivisionError"
