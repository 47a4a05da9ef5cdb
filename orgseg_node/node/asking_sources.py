"""Every source is asked in a thread of its own, so that one that does not answer holds up no other."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import structlog

from orgseg_node.errors import OrgsegError
from orgseg_node.node.completeness import Completer
from orgseg_node.node.current import CurrentConfig

_AT_ONCE = 16

_log = structlog.get_logger("orgseg.completeness")


class SourceRounds:
    """Goes round the sources of the configuration in force.

    Parameters
    ----------
    config : which sources are asked
    completer : asks one
    """

    def __init__(self, config: CurrentConfig, completer: Completer) -> None:
        self._current = config
        self._completer = completer
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="source")
        self._lock = threading.Lock()
        self._busy: set[str] = set()

    @property
    def busy(self) -> frozenset[str]:
        """The sources that are being asked now."""
        with self._lock:
            return frozenset(self._busy)

    def go_round(self) -> None:
        """Begin to ask every source that is not being asked already; does not wait for answers."""
        for name in self._current.config.asked_sources:
            with self._lock:
                if name in self._busy:
                    continue
                self._busy.add(name)
            self._pool.submit(self._ask, name)

    def _ask(self, name: str) -> None:
        try:
            self._completer.look(name)
        except OrgsegError as error:
            _log.error("asking failed", source=name, code=error.code, detail=error.sentence)
        except Exception as error:  # noqa: BLE001 (the next round asks again)
            _log.error("asking failed", source=name, code="UNEXPECTED", kind=type(error).__name__)
        finally:
            with self._lock:
                self._busy.discard(name)

    def stop(self) -> None:
        """Wait for those that are being asked; ask no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)
