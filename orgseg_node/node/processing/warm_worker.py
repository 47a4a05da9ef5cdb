"""A child process that waits for work with everything imported, so that a job does not wait for Python.

It is used for one job and then replaced. It is asked through a socket, one JSON object per line, which also
carries the descriptors that it must hold (the lock of the device), and ends when the socket does: a spare
child outlives no node. While it waits it may be shown a series that will soon be a job (`ahead.py`).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orgseg_node.node.processing.child_process import kill_group

if TYPE_CHECKING:  # the node itself reads no pixels
    from orgseg_node.contouring.preload import Ahead

WAIT: Final = "--wait"
"""In place of the request file: wait for one on standard input, a socket."""

_LONGEST: Final = 65536
_DESCRIPTORS: Final = 8
_KEEP_S: Final = 60.0
"""So long a series that was shown is expected to become the next job; then it is forgotten."""
_LOOK_S: Final = 30.0
"""So long a job waits for a child that is still reading what it was shown; then another is started for it."""


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
        self._shown: tuple[Path, float] | None = None
        self._looking = 0  # looks it was told to take; it answers each with one byte
        self._wanted = threading.Event()
        self._over = False
        if command is not None:
            threading.Thread(target=self._raise_children, name="spare child", daemon=True).start()

    def prepare(self) -> None:
        """Have a child ready by and by; returns at once."""
        self._wanted.set()

    def show(self, folder: Path) -> None:
        """Have the child that waits read a series that will soon be a job; returns at once.

        It reads one series. Another is shown to it in vain until the first is no longer expected: what it
        is busy with delays the job that it is taken for.

        Parameters
        ----------
        folder : where the images of the series lie, and nothing else
        """
        now = time.monotonic()
        with self._lock:
            if self._ready is None:
                return
            if self._shown and self._shown[0] != folder and now - self._shown[1] < _KEEP_S:
                return
            with suppress(OSError):  # it is dead, or has not read what it was told before
                self._ready[1].send(_line(look=str(folder)), socket.MSG_DONTWAIT)
                self._shown = (folder, now)
                self._looking += 1

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
            looking, self._shown, self._looking = self._looking, None, 0
        if ready is None:
            return None
        child, ours = ready
        try:
            with ours, log.open("ab") as stderr:
                _await_looks(ours, looking)
                socket.send_fds(ours, [_line(do=str(request))], [stderr.fileno(), *keep])
        except OSError:  # it died while it waited, or hangs over what it was shown
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


def _await_looks(ours: socket.socket, looks: int) -> None:
    """Wait until a child has taken its looks. Raises OSError if it dies over one or takes too long."""
    ours.settimeout(_LOOK_S)
    while looks:
        answered = ours.recv(_LONGEST)
        if not answered:
            raise ConnectionError
        looks -= len(answered)


def _line(**message: str) -> bytes:
    return json.dumps(message).encode() + b"\n"


def wait_for_request(ahead: Ahead | None = None) -> str:
    """In the child: wait for work; the request file, or nothing if the node is gone.

    What it says on stderr goes where the node wants it from then on; the other descriptors stay open.

    Parameters
    ----------
    ahead : reads the series that is shown meanwhile
    """
    request = ""
    with socket.socket(fileno=0) as node:
        for message, descriptors in _heard(node, ahead):
            if "look" in message:
                if ahead is not None:
                    ahead.look(Path(message["look"]))
                with suppress(OSError):  # the node is gone, as the next word will tell
                    node.send(b".")
            if request := message.get("do", ""):
                os.dup2(descriptors[0], 2)
                os.close(descriptors[0])
                break
        null = os.open(os.devnull, os.O_RDONLY)
        node.detach()
    os.dup2(null, 0)
    os.close(null)
    return request


def _heard(node: socket.socket, ahead: Ahead | None) -> Iterator[tuple[dict[str, str], list[int]]]:
    """What the node says, each with the descriptors that came so far; ends when the node is gone."""
    node.settimeout(_KEEP_S)
    rest, descriptors = b"", list[int]()
    while True:
        try:
            content, more, _, _ = socket.recv_fds(node, _LONGEST, _DESCRIPTORS)
        except TimeoutError:
            if ahead is not None:
                ahead.forget()
            continue
        if not content:
            return
        rest, descriptors = rest + content, descriptors + more
        while b"\n" in rest:
            line, _, rest = rest.partition(b"\n")
            yield json.loads(line), descriptors
