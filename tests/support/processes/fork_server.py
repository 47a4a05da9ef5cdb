"""Forks processes that have all libraries of the node imported: ``fork_server SOCKET OWNER``.

A fresh interpreter needs more than a second of processor time for these imports alone. From then on a forked
process is like one that was started by ``python -m MODULE ARGUMENTS`` in a session of its own: it has its own
arguments, environment, folder, standard streams and signals, and finishes in the same way.

SOCKET is where the server listens. It finishes when the process OWNER does, and so do all that it has forked.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import orgseg_node.cli.app
import orgseg_node.node.operations.reload
import orgseg_node.node.processing.child
import orgseg_node.node.service
import orgseg_node.web.http_server
import orgseg_node.web.stow  # noqa: F401  # what is imported here need not be by what is forked
from tests.support.processes.forked import LONGEST, STREAMS


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a process is to be: module, arguments, folder, environment and standard streams."""

    module: str
    arguments: list[str]
    folder: str
    environment: dict[str, str]
    streams: list[int]


@dataclass(kw_only=True)
class Server:
    """Forks what it is asked for, and reports how it ended on the connection that asked."""

    listener: socket.socket
    owner: int
    _asked: dict[int, socket.socket] = field(default_factory=dict)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def serve(self) -> Request | None:
        """Fork until the owner ends. In each forked process: what it is to be; in the server: None."""
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self.listener, selectors.EVENT_READ, self._fork)
        self._selector.register(woken, selectors.EVENT_READ, lambda: self._reap(woken))
        self._selector.register(os.pidfd_open(self.owner), selectors.EVENT_READ, self._end)
        while True:
            for key, _ in self._selector.select():
                act: Callable[[], Request | None] = key.data
                if (request := act()) is not None:
                    return request

    def _fork(self) -> Request | None:
        connection, _ = self.listener.accept()
        content, streams, _, _ = socket.recv_fds(connection, LONGEST, STREAMS)
        pid = os.fork()
        self._asked[pid] = connection
        if pid == 0:
            self._leave()
            return Request(streams=streams, **json.loads(content))
        for stream in streams:
            os.close(stream)
        connection.send(json.dumps(pid).encode())
        return None

    def _leave(self) -> None:
        """In a forked process: close what the server has open, so that no object closes it later."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        self._selector.close()
        for each in (self.listener, *self._asked.values()):
            each.close()

    def _reap(self, woken: int) -> None:
        os.read(woken, 4096)
        while self._asked:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with self._asked.pop(pid) as connection, contextlib.suppress(OSError):  # who asked is gone
                connection.send(json.dumps(os.waitstatus_to_exitcode(status)).encode())

    def _end(self) -> None:
        for pid in self._asked:
            os.kill(pid, signal.SIGKILL)
        sys.exit()


def become(request: Request) -> None:
    """Be what was asked for, to the end. Everything that was open in the server is closed."""
    for number, stream in enumerate(request.streams):
        os.dup2(stream, number)
    os.closerange(STREAMS, os.sysconf("SC_OPEN_MAX"))
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    sys.argv[1:] = request.arguments
    runpy.run_module(request.module, run_name="__main__", alter_sys=True)


def main(path: Path, owner: int) -> None:
    """Listen and fork, in a process that is nobody's child: who started it may finish before it."""
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a process with threads must not be forked"
    gc.collect()
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen(64)
    if os.fork():
        os._exit(0)
    os.setsid()
    request = Server(listener=listener, owner=owner).serve()
    if request is not None:
        become(request)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
