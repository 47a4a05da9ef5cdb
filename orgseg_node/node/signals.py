"""Signals of the operating system, as events.

A Python signal handler runs in the main thread between any two instructions. One that sets an event while
the main thread is about to wait for it waits forever for the lock of the event, which the main thread holds.
So the handlers here do nothing, and a thread sets the events.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def signal_events(stop: threading.Event, reload: threading.Event | None = None) -> Iterator[None]:
    """Let SIGTERM and SIGINT set `stop`, and SIGHUP set `reload`; only possible in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    events = {signal.SIGTERM: stop, signal.SIGINT: stop}
    if reload is not None:
        events[signal.SIGHUP] = reload
    arrived, wakeup = socket.socketpair()
    wakeup.setblocking(False)  # noqa: FBT003  # the standard library's signature

    def set_events() -> None:
        while number := arrived.recv(1):
            if event := events.get(signal.Signals(number[0])):
                event.set()

    thread = threading.Thread(target=set_events, name="signals", daemon=True)
    thread.start()
    descriptor_before = signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
    before = {number: signal.signal(number, _nothing) for number in events}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(descriptor_before)
        wakeup.close()
        thread.join()
        arrived.close()


def _nothing(*_: object) -> None:
    """A handler is needed, or the signal would end the process."""
