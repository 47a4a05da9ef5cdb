"""pynetdicom drops the socket of a refused or broken connection without closing it.

Python tells so when the socket is collected, which may be in somebody else's test. A module that breaks
connections on purpose uses `LEAKS` as marks; sockets are then collected at the end of each of its tests.
"""

from __future__ import annotations

import gc
import threading
import time

import pytest

LEAKS = [
    pytest.mark.usefixtures("sockets_collected"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
    ),
]


def collect() -> None:
    """Wait for the threads of ended associations and let their sockets be collected now."""
    end = time.monotonic() + 2
    while any("pynetdicom" in type(t).__module__ for t in threading.enumerate()) and time.monotonic() < end:
        time.sleep(0.02)
    gc.collect()
