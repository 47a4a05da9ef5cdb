"""Signals set events, whatever the main thread does."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from orgseg_node.node.signals import signal_events

ALL = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.mark.timeout(30)
def test_a_signal_that_arrives_when_the_main_thread_begins_to_wait_does_not_block_it() -> None:
    stop = threading.Event()
    with signal_events(stop):
        with stop._cond:  # type: ignore[attr-defined]  # as `wait` does before it waits
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(20)


@pytest.mark.parametrize("number", ALL)
def test_each_signal_sets_its_event_and_no_other(number: signal.Signals) -> None:
    handlers = [signal.getsignal(each) for each in ALL]
    stop, reload = threading.Event(), threading.Event()
    with signal_events(stop, reload):
        os.kill(os.getpid(), number)
        expected, other = (reload, stop) if number == signal.SIGHUP else (stop, reload)
        assert expected.wait(20)
        assert not other.is_set()
    assert [signal.getsignal(each) for each in ALL] == handlers


def test_outside_of_the_main_thread_nothing_is_changed() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def inside() -> None:
        with signal_events(threading.Event()):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [before]
