"""Work done beside other work, on another core: a fork of this process makes files and hands them over."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Final

Files = Mapping[str, bytes]

_CONTEXT: Final = multiprocessing.get_context("fork") if sys.platform == "linux" else None
_LONGEST_S: Final = 60.0
"""So long its next file is waited for: a fork hangs on a lock that another thread held when it was made."""


class Beside:
    """Begins to make files at once where there is a core for it; the files are there when they are asked for.

    Only numpy, matplotlib and nibabel run in the fork: OpenMP's threads, which torch uses, survive none.
    Whatever goes wrong there, the files are made here instead. The fork holds all that this process has open,
    the locks of the job and of the device among it, so it dies with this process.

    Parameters
    ----------
    make : makes the files, by name
    longest_s : so long the next file is waited for before all are made here
    """

    def __init__(self, make: Callable[[], Files], *, longest_s: float = _LONGEST_S) -> None:
        self._make = make
        self._longest_s = longest_s
        self._ours: Connection | None = None
        if _CONTEXT is None or (os.cpu_count() or 1) < 2:
            return
        ours, theirs = _CONTEXT.Pipe(duplex=False)
        try:
            self._process = _CONTEXT.Process(target=_work, args=(make, theirs, os.getpid()), daemon=True)
            self._process.start()
        except OSError:  # no memory for another process
            ours.close()
        else:
            self._ours = ours
        finally:
            theirs.close()

    def files(self) -> dict[str, bytes]:
        """The files; waits for them. Raises what making them raises."""
        found: dict[str, bytes] = {}
        if self._ours is not None:
            try:
                while name := self._next(self._ours):
                    found[name.decode()] = self._next(self._ours)
            except (EOFError, OSError):  # it died, or it hangs
                found = {}
                self._process.kill()
            self._ours.close()
            self._process.join()
            if found and self._process.exitcode == 0:
                return found
        return dict(self._make())

    def _next(self, pipe: Connection) -> bytes:
        if not pipe.poll(self._longest_s):
            raise TimeoutError
        return pipe.recv_bytes()


def _work(make: Callable[[], Files], pipe: Connection, parent: int) -> None:
    die_with_parent(parent)
    for name, content in make().items():
        pipe.send_bytes(name.encode())
        pipe.send_bytes(content)
    pipe.send_bytes(b"")


_PR_SET_PDEATHSIG: Final = 1


def die_with_parent(parent: int) -> None:
    """End this process when its parent ends, however that happens.

    Linux sends the signal itself (prctl PR_SET_PDEATHSIG); a thread that looks once a second does it
    elsewhere, and where the parent died before this was called. A fork does not inherit either: it must
    call this itself.

    Parameters
    ----------
    parent : process number of the parent
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=look, daemon=True).start()
