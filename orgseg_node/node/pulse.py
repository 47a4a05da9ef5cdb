"""Whether the clock of the node still ticks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic


class Pulse:
    """Remembers when each tick last came to its end, whether it did its work or failed.

    Parameters
    ----------
    now : seconds that never go back
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._expected: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def expect(self, name: str, within_s: float) -> None:
        """A tick of this name comes to its end at least so often."""
        with self._lock:
            self._expected[name] = within_s
            self._last[name] = self._now()

    def beat(self, name: str) -> None:
        """A tick came to its end."""
        with self._lock:
            self._last[name] = self._now()

    def overdue(self) -> list[str]:
        """The ticks that should have come to an end by now and did not."""
        now = self._now()
        with self._lock:
            return [name for name, limit in self._expected.items() if now - self._last[name] > limit]
