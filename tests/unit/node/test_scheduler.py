"""Ticks run when they are triggered, besides their usual times."""

from __future__ import annotations

import threading
import time

import pytest
import structlog

from orgseg_node.errors import DatabaseUnreachable, ItemsFailed, StorageError
from orgseg_node.node.isolation import Isolation
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


def test_a_tick_that_fails_again_and_again_is_reported_until_it_succeeds() -> None:
    watchdog = Watchdog()
    watchdog.expect("judge", 601)
    watchdog.expect("purge", 4200)
    errors: dict[str, Exception | None] = {
        "judge": StorageError("node.sqlite: locked."),
        "purge": KeyError("x"),
    }

    def scan(name: str) -> None:
        error = errors[name]
        if error is not None:
            raise error

    def run(name: str) -> None:
        _safely(name, lambda: scan(name), watchdog)()

    for _ in range(2):
        run("judge")
        run("purge")
    (purge,) = watchdog.failing()  # it runs rarely: twice is enough
    assert (purge.name, purge.code, purge.times) == ("purge", "UNEXPECTED", 2)
    assert "KeyError" in purge.detail
    run("judge")
    assert {one.name: one.code for one in watchdog.failing()} == {"judge": "STORAGE", "purge": "UNEXPECTED"}
    errors["judge"] = None
    run("judge")
    assert [one.name for one in watchdog.failing()] == ["purge"]


def test_items_of_a_scan_are_isolated_and_the_scan_names_those_that_failed() -> None:
    isolation = Isolation("purge")
    done = []
    with structlog.testing.capture_logs() as logs:
        for n in range(8):
            with isolation.item(f"job {n}"):
                if n % 2 or n == 0:
                    raise ValueError("Mueller^Anna")
                done.append(n)
    assert done == [2, 4, 6]
    assert [(entry["item"], entry["kind"]) for entry in logs] == [
        (f"job {n}", "ValueError") for n in (0, 1, 3, 5, 7)
    ]
    with pytest.raises(ItemsFailed, match="job 0: UNEXPECTED; job 1") as caught:
        isolation.finish()
    assert "Mueller" not in str(logs) + str(caught.value)
    with pytest.raises(DatabaseUnreachable), isolation.item("job 9"):
        raise DatabaseUnreachable
