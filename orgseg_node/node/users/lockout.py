"""Lock-out: after several wrong passwords a name, and an address, have to wait."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

ALLOWED: Final = 5
"""Wrong passwords of one name before it has to wait."""

ALLOWED_OF_ADDRESS: Final = 20
"""Wrong passwords from one address, whatever the names are."""

_FIRST_S: Final = 30.0
_LONGEST_S: Final = 900.0
_FORGET_S: Final = 3600.0
_MOST_KEYS: Final = 10_000


@dataclass(slots=True)
class _Failures:
    count: int = 0
    last_s: float = 0.0
    waits_until_s: float = 0.0


class Lockout:
    """Counts wrong passwords in the memory of this process.

    Parameters
    ----------
    clock_s : monotonic time in seconds
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def wait_s(self, name: str, address: str) -> float:
        """How long this name, or this address, still has to wait; 0 if it may try."""
        now = self._clock_s()
        with self._lock:
            ends = [
                self._failures[key].waits_until_s for key in _keys(name, address) if key in self._failures
            ]
        return max(0.0, max(ends, default=0.0) - now)

    def attempt(self, name: str, address: str) -> bool:
        """Count an attempt as failed before it is looked at, so that many at once are counted, too.

        Parameters
        ----------
        name : that was given
        address : of the caller

        Returns
        -------
        Whether the name or the address has to wait after it, unless it succeeds
        """
        now, is_locked = self._clock_s(), False
        with self._lock:
            for key, allowed in zip(_keys(name, address), (ALLOWED, ALLOWED_OF_ADDRESS), strict=True):
                found = self._failures.pop(key, _Failures())
                if now - found.last_s > _FORGET_S:
                    found = _Failures()
                found.count += 1
                found.last_s = now
                if found.count >= allowed:
                    wait_s = min(_LONGEST_S, _FIRST_S * 2.0 ** min(found.count - allowed, 10))
                    found.waits_until_s = now + wait_s
                    is_locked = True
                self._failures[key] = found
            while len(self._failures) > _MOST_KEYS:
                self._failures.popitem(last=False)
        return is_locked

    def succeeded(self, name: str, address: str) -> None:
        """Forget the failures of a name, and count this attempt of the address no longer."""
        of_name, of_address = _keys(name, address)
        with self._lock:
            self._failures.pop(of_name, None)
            found = self._failures.get(of_address)
            if found is not None:
                found.count = max(0, found.count - 1)
                if found.count < ALLOWED_OF_ADDRESS:
                    found.waits_until_s = 0.0


def _keys(name: str, address: str) -> tuple[str, str]:
    return f"name {name.lower()[:100]}", f"address {address}"
