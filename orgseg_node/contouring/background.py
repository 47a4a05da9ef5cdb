"""Background processes: files made in a fork on another core, and processes that end with their parent."""

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
"""Content of files, by name."""

_CONTEXT: Final = multiprocessing.get_context("fork") if sys.platform == "linux" else None
_TIMEOUT_S: Final = 60.0
"""A fork that sends nothing for so long hangs, for example on a lock that another thread held at the fork."""

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)


class BackgroundProcess:
    """Makes files in a fork of this process, which starts at once.

    On a machine with one core, outside of Linux, and after any failure of the fork, the files are made in
    this process when they are requested. Only numpy, matplotlib and nibabel may run in the fork: OpenMP
    threads, which torch uses, do not continue after a fork. The fork has inherited all open files of this
    process, also the locks of the job and of the device, so it ends with this process.

    Parameters
    ----------
    make : makes the files
    timeout_s : longest wait for the next file, in seconds
    """

    def __init__(self, make: Callable[[], Files], *, timeout_s: float = _TIMEOUT_S) -> None:
        self._make = make
        self._timeout_s = timeout_s
        self._receiver: Connection | None = None
        if _CONTEXT is None or (os.cpu_count() or 1) < 2:
            return
        receiver, sender = _CONTEXT.Pipe(duplex=False)
        try:
            self._process = _CONTEXT.Process(
                target=_send_files, args=(make, sender, os.getpid()), daemon=True
            )
            self._process.start()
        except OSError:  # not enough memory for another process
            receiver.close()
        else:
            self._receiver = receiver
        finally:
            sender.close()

    def files(self) -> dict[str, bytes]:
        """Wait for the files and return them, by name. Raises what making them raises."""
        found: dict[str, bytes] = {}
        if self._receiver is not None:
            try:
                while name := self._receive(self._receiver):
                    found[name.decode()] = self._receive(self._receiver)
            except (EOFError, OSError):  # the fork has ended or hangs
                found = {}
                self._process.kill()
            self._receiver.close()
            self._process.join()
            if found and self._process.exitcode == 0:
                return found
        return dict(self._make())

    def _receive(self, receiver: Connection) -> bytes:
        if not receiver.poll(self._timeout_s):
            raise TimeoutError
        return receiver.recv_bytes()


def _send_files(make: Callable[[], Files], sender: Connection, parent: int) -> None:
    """In the fork: make the files and send name and content of each, then an empty name."""
    exit_with_parent(parent)
    for name, content in make().items():
        sender.send_bytes(name.encode())
        sender.send_bytes(content)
    sender.send_bytes(b"")


def exit_with_parent(parent: int) -> None:
    """End this process when its parent ends, for whatever reason.

    On Linux the kernel sends the signal (prctl PR_SET_PDEATHSIG). On other systems, and where the parent has
    ended before this call, a thread does so, which checks once a second. A fork inherits neither and must
    call this function itself.

    Parameters
    ----------
    parent : process number of the parent
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch_parent, daemon=True).start()
