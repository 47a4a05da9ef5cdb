"""The log of refused callers: one line a minute for each, so that none can fill the disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

import structlog

INTERVAL_S: Final = 60.0
_MAX_CALLERS: Final = 200
_OTHERS: Final = "(others)"

_log = structlog.get_logger("orgseg.receiver")


class RateLimitedRejectLog:
    """Tells of refusals: the first of a caller at once, those within a minute after it as one line.

    Callers beyond the first 200 of a minute are counted together: titles and addresses can be made up.

    Parameters
    ----------
    clock : seconds that only grow
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._told_at: dict[str, float] = {}
        self._since: dict[str, tuple[int, str, dict[str, Any]]] = {}

    def note(self, event: str, caller: str, **said: Any) -> None:
        """Note a refusal.

        Parameters
        ----------
        event : what was refused
        caller : whose lines are counted together
        said : what else the line holds
        """
        self.flush()
        with self._lock:
            if caller not in self._told_at and len(self._told_at) >= _MAX_CALLERS:
                caller, said = _OTHERS, {}
            if caller in self._told_at:
                count = self._since[caller][0] if caller in self._since else 0
                self._since[caller] = (count + 1, event, said)
                return
            self._told_at[caller] = self._clock()
        _log.warning(event, **said)

    def flush(self, *, everything: bool = False) -> None:
        """Tell of what was held back for a minute, or of everything."""
        now = self._clock()
        with self._lock:
            over = [name for name, at in self._told_at.items() if everything or now - at >= INTERVAL_S]
            held = [self._since.pop(name) for name in over if name in self._since]
            for name in over:
                del self._told_at[name]
        for count, event, said in held:
            _log.warning(event, **said, times=count)
