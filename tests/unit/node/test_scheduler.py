"""Ticks run when they are triggered, besides their usual times."""

from __future__ import annotations

import threading
import time

import structlog

from orgseg_node.node.scheduler import Wakeup, Watchdog, _safely, start_scheduler


def test_a_triggered_tick_runs_at_once() -> None:
    times: list[float] = []
    ran = threading.Event()

    def tick() -> None:
        times.append(time.monotonic())
        ran.set()

    wakeup = Wakeup()
    wakeup.trigger("judge", 0.0)  # not attached yet: no effect
    scheduler = start_scheduler([("judge", tick, 3600.0)], Watchdog(), wakeup)
    try:
        wakeup.trigger("nothing of this name", 0.0)
        assert not ran.wait(0.2)
        started = time.monotonic()
        wakeup.trigger("judge", 5.0)
        wakeup.trigger("judge", 0.1)  # the new time counts
        assert ran.wait(4.0)
        assert times[0] - started >= 0.1
        ran.clear()
        wakeup.trigger("judge", 0.0)
        assert ran.wait(4.0)
    finally:
        scheduler.shutdown()
    wakeup.trigger("judge", 0.0)  # the node is stopping: no error


def test_a_tick_that_fails_is_logged_and_does_not_stop_the_scheduler() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with structlog.testing.capture_logs() as logs:
        _safely("purge", fail, Watchdog())()
    assert logs[0]["tick"] == "purge"
    assert logs[0]["kind"] == "ZeroDivisionError"
