"""Processes forked from one with all libraries of the node imported, used as those of `subprocess` are."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.support.processes.once import once, owner

ROOT: Final = Path(__file__).resolve().parents[3]
_START_S: Final = 120.0
LONGEST: Final = 1 << 17  # a request: arguments and environment
STREAMS: Final = 3


class ForkedProcess:
    """A process like ``python -m MODULE ARGUMENTS`` in a session of its own.

    Parameters
    ----------
    module, arguments : what it runs, and its arguments
    environment : its environment variables; those of this process where None
    streams : descriptors that it has as standard input, output and error
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str] = (),
        *,
        environment: Mapping[str, str] | None = None,
        streams: Sequence[int] = (0, 1, 2),
    ) -> None:
        request = {
            "module": module,
            "arguments": [*arguments],
            "folder": str(ROOT),
            "environment": dict(os.environ if environment is None else environment),
        }
        self.returncode: int | None = None
        self._finishing = threading.Lock()  # one thread may wait while another kills
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._server.connect(str(once("fork-server", _start)))
        socket.send_fds(self._server, [json.dumps(request).encode()], [*streams])
        self.pid = self._number()

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._finish() if self._has_finished(0) else None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status once it has finished.

        Raises
        ------
        subprocess.TimeoutExpired
            If it has not within the time.
        """
        if not self._has_finished(timeout):
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return self._finish()

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has finished."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to finish."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.send_signal(signal.SIGKILL)

    def __del__(self) -> None:
        self._server.close()  # not before: another thread may be waiting on it

    def _has_finished(self, seconds: float | None) -> bool:
        return self.returncode is not None or bool(select.select([self._server], [], [], seconds)[0])

    def _finish(self) -> int:
        with self._finishing:
            if self.returncode is None:
                self.returncode = self._number()
        return self.returncode

    def _number(self) -> int:
        content = self._server.recv(LONGEST)
        assert content, "the fork server is gone"
        number: int = json.loads(content)
        return number


def _start(folder: Path) -> Path:
    """Start the server of this run, and return where it listens."""
    path = folder / "socket"
    command = [sys.executable, "-m", "tests.support.processes.fork_server", str(path), str(owner())]
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment = {**os.environ, **one_thread}  # a process with threads must not be forked
    subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, check=True, timeout=_START_S)
    return path
