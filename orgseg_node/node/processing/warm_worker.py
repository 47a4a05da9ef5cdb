"""A child process that waits for a request with all libraries loaded, so that no job waits for imports.

Each child is used for one job and then replaced. The node writes to it through a socket, one JSON object per
line. The socket also carries the file descriptors that the child must hold (the lock of the device), and the
child ends when the socket is closed, so it does not outlive the node. While it waits it can read a series
that will soon be a job (`orgseg_node.contouring.preload`).
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

from orgseg_node.node.processing.child_process import kill_process_group

if TYPE_CHECKING:  # only for type hints: the node process must not import the pixel code
    from orgseg_node.contouring.preload import SeriesPreloader

WAIT: Final = "--wait"
"""In place of the request file: wait for one on standard input, which is a socket."""

_MAX_BYTES: Final = 65536
_MAX_DESCRIPTORS: Final = 8
_PRELOAD: Final = "preload"
_REQUEST: Final = "request"
_EXPECTED_S: Final = 60.0
"""For so long a preloaded series is expected to become the next job; then it is dropped."""
_PRELOAD_S: Final = 30.0
"""For so long a job waits for a child that is still preloading; then another is started for the job."""


class WarmWorker:
    """Keeps one child ready; a thread of its own starts them, since Linux ends a child with that thread.

    Parameters
    ----------
    command : program that contours; None to keep none
    """

    def __init__(self, command: Sequence[str] | None) -> None:
        self._command = command
        self._lock = threading.Lock()
        self._ready: tuple[subprocess.Popen[bytes], socket.socket] | None = None
        self._preloaded: tuple[Path, float] | None = None
        self._unanswered = 0  # preload messages sent; the child answers each with one byte
        self._needed = threading.Event()
        self._stopped = False
        if command is not None:
            threading.Thread(target=self._start_children, name="warm worker", daemon=True).start()

    def prepare(self) -> None:
        """Have a child started in the background if none is ready; returns at once."""
        self._needed.set()

    def preload(self, folder: Path) -> None:
        """Have the waiting child read a series that will soon be a job; returns at once.

        It holds one series. Another one is ignored until the first is no longer expected to become a job:
        reading delays the job that the child is used for.

        Parameters
        ----------
        folder : holds the images of the series, and nothing else
        """
        now = time.monotonic()
        with self._lock:
            if self._ready is None:
                return
            if self._preloaded and self._preloaded[0] != folder and now - self._preloaded[1] < _EXPECTED_S:
                return
            with suppress(OSError):  # it is dead, or has not yet read the messages before
                self._ready[1].send(_line(_PRELOAD, folder), socket.MSG_DONTWAIT)
                self._preloaded = (folder, now)
                self._unanswered += 1

    def assign(
        self, request: Path, log: Path, inherited_fds: Sequence[int]
    ) -> subprocess.Popen[bytes] | None:
        """The child that was ready, now working on a request; None if none is ready.

        Parameters
        ----------
        request : the request file
        log : file for what the child writes to stderr
        inherited_fds : descriptors of open files that it holds from now on
        """
        with self._lock:
            ready, self._ready = self._ready, None
            unanswered, self._preloaded, self._unanswered = self._unanswered, None, 0
        if ready is None:
            return None
        child, connection = ready
        try:
            with connection, log.open("ab") as stderr:
                _await_answers(connection, unanswered)
                socket.send_fds(connection, [_line(_REQUEST, request)], [stderr.fileno(), *inherited_fds])
        except OSError:  # it died while it waited, or does not finish preloading
            _end(child)
            return None
        if child.poll() is not None:
            _end(child)
            return None
        return child

    def stop(self) -> None:
        """End the waiting child; no other is started."""
        with self._lock:
            self._stopped = True
            ready, self._ready = self._ready, None
        self._needed.set()
        if ready is not None:
            ready[1].close()
            _end(ready[0])

    def _start_children(self) -> None:
        while True:
            self._needed.wait()
            self._needed.clear()
            with self._lock:
                if self._stopped:
                    return
                if self._ready is None:
                    with suppress(OSError):  # no memory for it now: the job starts its own
                        self._ready = self._start()

    def _start(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        connection, of_child = socket.socketpair()
        try:
            child = subprocess.Popen(
                [*(self._command or ()), WAIT],
                stdin=of_child.fileno(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        except OSError:
            connection.close()
            raise
        finally:
            of_child.close()
        return child, connection


def _end(child: subprocess.Popen[bytes]) -> None:
    kill_process_group(child)
    if child.stdout is not None:
        child.stdout.close()


def _await_answers(connection: socket.socket, count: int) -> None:
    """Wait until a child has handled its preload messages. Raises OSError if it dies or takes too long."""
    connection.settimeout(_PRELOAD_S)
    while count:
        answers = connection.recv(_MAX_BYTES)
        if not answers:
            raise ConnectionError
        count -= len(answers)


def _line(key: str, path: Path) -> bytes:
    return json.dumps({key: str(path)}).encode() + b"\n"


def wait_for_request(preloader: SeriesPreloader | None = None) -> str:
    """In the child: wait for a request; its file, or an empty text if the node has ended.

    From then on stderr goes to the log that the node has chosen; the other descriptors stay open.

    Parameters
    ----------
    preloader : reads the series that is to be preloaded
    """
    request = ""
    with socket.socket(fileno=0) as node:
        for message, descriptors in _messages(node, preloader):
            if _PRELOAD in message:
                if preloader is not None:
                    preloader.preload(Path(message[_PRELOAD]))
                with suppress(OSError):  # the node has ended; the next read shows it
                    node.send(b".")
            if request := message.get(_REQUEST, ""):
                os.dup2(descriptors[0], 2)
                os.close(descriptors[0])
                break
        null = os.open(os.devnull, os.O_RDONLY)
        node.detach()
    os.dup2(null, 0)
    os.close(null)
    return request


def _messages(
    node: socket.socket, preloader: SeriesPreloader | None
) -> Iterator[tuple[dict[str, str], list[int]]]:
    """Each message of the node with the descriptors received so far; ends when the node has ended."""
    node.settimeout(_EXPECTED_S)
    rest, descriptors = b"", list[int]()
    while True:
        try:
            content, more, _, _ = socket.recv_fds(node, _MAX_BYTES, _MAX_DESCRIPTORS)
        except TimeoutError:
            if preloader is not None:
                preloader.clear()
            continue
        if not content:
            return
        rest, descriptors = rest + content, descriptors + more
        while b"\n" in rest:
            line, _, rest = rest.partition(b"\n")
            yield json.loads(line), descriptors
