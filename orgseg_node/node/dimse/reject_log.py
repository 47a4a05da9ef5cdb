"""Log of rejected callers: at most one line a minute for each, so that none can fill the disk."""

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
    """Logs the first rejection of a caller at once, and those of the next minute as one line.

    Callers beyond the first 200 of a minute are counted together, because AE titles and addresses can be
    forged.

    Parameters
    ----------
    clock : seconds that only increase
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._logged_at: dict[str, float] = {}
        self._since: dict[str, tuple[int, str, dict[str, Any]]] = {}

    def note(self, event: str, caller: str, **fields: Any) -> None:
        """Log a rejection, or count it.

        Parameters
        ----------
        event : what was rejected
        caller : key by which rejections are counted together
        fields : further fields of the log line
        """
        self.flush()
        with self._lock:
            if caller not in self._logged_at and len(self._logged_at) >= _MAX_CALLERS:
                caller, fields = _OTHERS, {}
            if caller in self._logged_at:
                count = self._since[caller][0] if caller in self._since else 0
                self._since[caller] = (count + 1, event, fields)
                return
            self._logged_at[caller] = self._clock()
        _log.warning(event, **fields)

    def flush(self, *, everything: bool = False) -> None:
        """Log what was counted for a minute, or everything that was counted."""
        now = self._clock()
        with self._lock:
            over = [name for name, at in self._logged_at.items() if everything or now - at >= INTERVAL_S]
            held = [self._since.pop(name) for name in over if name in self._since]
            for name in over:
                del self._logged_at[name]
        for count, event, fields in held:
            _log.warning(event, **fields, times=count)
