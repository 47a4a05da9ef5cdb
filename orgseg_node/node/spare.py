"""A child process that waits for work with everything imported, so that a job does not wait for Python.

It is used for one job and then replaced. It is asked through a socket, which also carries the descriptors
that it must hold (the lock of the device), and ends when the socket does: a spare child outlives no node.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from orgseg_node.node.supervise import kill_group

WAIT: Final = "--wait"
"""In place of the request file: wait for one on standard input, a socket."""

_LONGEST: Final = 65536
_DESCRIPTORS: Final = 8


class SpareChild:
    """Keeps one child ready; a thread of its own starts them, since Linux ends a child with that thread.

    Parameters
    ----------
    command : program that contours; None to keep none
    """

    def __init__(self, command: Sequence[str] | None) -> None:
        self._command = command
        self._lock = threading.Lock()
        self._ready: tuple[subprocess.Popen[bytes], socket.socket] | None = None
        self._wanted = threading.Event()
        self._over = False
        if command is not None:
            threading.Thread(target=self._raise_children, name="spare child", daemon=True).start()

    def prepare(self) -> None:
        """Have a child ready by and by; returns at once."""
        self._wanted.set()

    def take(self, request: Path, log: Path, keep: Sequence[int]) -> subprocess.Popen[bytes] | None:
        """The child that was ready, at work on a request; None if none is.

        Parameters
        ----------
        request : file that says what to do
        log : file for what it says on stderr
        keep : descriptors it holds from now on
        """
        with self._lock:
            ready, self._ready = self._ready, None
        if ready is None:
            return None
        child, ours = ready
        try:
            with ours, log.open("ab") as stderr:
                socket.send_fds(ours, [os.fsencode(request)], [stderr.fileno(), *keep])
        except OSError:  # it died while it waited
            _end(child)
            return None
        if child.poll() is not None:
            _end(child)
            return None
        return child

    def stop(self) -> None:
        """End the child that waits; no other is started."""
        with self._lock:
            self._over = True
            ready, self._ready = self._ready, None
        self._wanted.set()
        if ready is not None:
            ready[1].close()
            _end(ready[0])

    def _raise_children(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            with self._lock:
                if self._over:
                    return
                if self._ready is None:
                    with suppress(OSError):  # no memory for it now: the job starts its own
                        self._ready = self._start()

    def _start(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        ours, theirs = socket.socketpair()
        try:
            child = subprocess.Popen(
                [*(self._command or ()), WAIT],
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return child, ours


def _end(child: subprocess.Popen[bytes]) -> None:
    kill_group(child)
    if child.stdout is not None:
        child.stdout.close()


def wait_for_request() -> str:
    """In the child: wait for work; the request file, or nothing if the node is gone.

    What it says on stderr goes where the node wants it from then on; the other descriptors stay open.
    """
    with socket.socket(fileno=0) as node:
        content, descriptors, _, _ = socket.recv_fds(node, _LONGEST, _DESCRIPTORS)
        if content:
            os.dup2(descriptors[0], 2)
            os.close(descriptors[0])
        null = os.open(os.devnull, os.O_RDONLY)
        node.detach()
    os.dup2(null, 0)
    os.close(null)
    return os.fsdecode(content)
