"""A task that works in a thread of its own, of which one at a time works on a data folder."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from orgseg_node import durable

_STOP_S: Final = 10.0


class BackgroundTask:
    """Runs one piece of work after the other in a thread.

    Parameters
    ----------
    name : of the task, its thread and its lock file
    locks : folder of the lock files of the data folder
    """

    def __init__(self, name: str, locks: Path) -> None:
        self._name = name
        self._locks = locks
        self.stopping = threading.Event()
        """Set once the task has to stop; the work looks at it."""
        self._thread: threading.Thread | None = None

    @property
    def is_free(self) -> bool:
        """Whether work can begin: nothing runs, and the task has not been stopped."""
        return not self.stopping.is_set() and (self._thread is None or not self._thread.is_alive())

    def begin(self, work: Callable[[], object]) -> None:
        """Run work in a thread, if `is_free`; called by one thread only.

        Parameters
        ----------
        work : catches its own errors
        """
        if self.is_free:
            self._thread = threading.Thread(target=work, name=self._name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Let the work stop, and wait for it for a while."""
        self.stopping.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether no other process of the data folder does this work; it is kept out meanwhile."""
        durable.make_folder(self._locks)
        with (self._locks / f"{self._name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
