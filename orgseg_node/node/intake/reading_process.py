"""Reads received files in a child process with limits of memory and time.

A few megabytes can be made to use up a gigabyte or a minute when they are parsed, and decoders in C may end
their process. Here only the child ends; the next request starts another. `main` is the child:
``python -m`` this module.
"""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import psutil
import structlog

from orgseg_node.dicom.reading.same_image import Difference
from orgseg_node.errors import NotDurable, ReadingStopped, SurveyDied
from orgseg_node.node.intake.file_reader import DirectReader, SurveyedSeries, reading_error
from orgseg_node.node.monitoring.logs import silence_warning_texts

_MB: Final = 1_000_000
_CHECK_S: Final = 0.05  # the memory of the child is checked so often
_PER_FILE_S: Final = 0.1
_COMPARE_S: Final = 30.0
_START_S: Final = 60.0
_RETIRE_MB: Final = 300  # a child that needed more than this is replaced, since it keeps the memory
_SINGLE_ALLOCATION: Final = 2  # address space, in multiples of the limit
_ENVIRONMENT: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_NICE: Final = Path("/proc/self/oom_score_adj")

_log = structlog.get_logger("orgseg.inbox")


class ReadingProcess:
    """A `FileReader` that reads in a child process, which is started when it is first needed.

    Parameters
    ----------
    memory_mb : the child is ended when it uses more
    limit_s : longest time for the survey of a series, in seconds, and a tenth of a second more for each file
    command : program of the child
    """

    def __init__(
        self, *, memory_mb: int, limit_s: float, command: Sequence[str] = (sys.executable, "-m", __name__)
    ) -> None:
        self._memory_mb = memory_mb
        self._limit_s = limit_s
        self._command = tuple(command)
        self._surveying, self._comparing = (_Child(self._command, memory_mb) for _ in range(2))

    def survey(self, paths: Sequence[Path]) -> SurveyedSeries:
        """Read the headers of a series.

        Raises
        ------
        SurveyDied
            If the child ended, used too much memory, or took too long.
        ReadingStopped
            If the node stops.
        SeriesUnreadable, SeriesUnexpected
            As in `FileReader.survey`.
        """
        limit_s = self._limit_s + _PER_FILE_S * len(paths)
        result = self._surveying.request("survey", (list(paths),), limit_s)
        if not isinstance(result, SurveyedSeries):
            raise SurveyDied("Its answer is none.")
        return result

    def differences(self, one: Path, other: Path) -> tuple[Difference, ...]:
        """In what two files differ; if the child ends over them, one counts as unreadable.

        Raises
        ------
        NotDurable
            If the node stops: it must not keep an image of which it does not know whether it has it.
        """
        try:
            return tuple(self._comparing.request("differences", (one, other), _COMPARE_S))
        except ReadingStopped as error:
            raise NotDurable("The node stops.") from error
        except SurveyDied as error:
            _log.error("images not compared", why=error.detail)
            return (Difference.UNREADABLE,)

    def await_ready(self) -> None:
        """Wait until the child can read: what ends it from then on is in the files.

        Raises
        ------
        SurveyDied
            If it does not start.
        ReadingStopped
            If the node stops.
        """
        self._surveying.await_ready()

    def prepare(self) -> None:
        """Start the child that surveys if none runs; returns at once."""
        self._surveying.prepare()

    def stop(self) -> None:
        """End the children, since the node stops; what they are reading counts as not read."""
        self._surveying.stop()
        self._comparing.stop()


class _Child:
    """One child process, and the connection to it.

    Parameters
    ----------
    command : its program
    memory_mb : it is ended when it uses more
    """

    def __init__(self, command: Sequence[str], memory_mb: int) -> None:
        self._command = [*command, str(memory_mb)]
        self._memory_mb = memory_mb
        self._using = threading.Lock()
        self._changing = threading.Lock()
        self._is_ready = False
        self._stopped = False
        self._running: tuple[subprocess.Popen[bytes], Connection] | None = None

    def prepare(self) -> None:
        with self._changing, suppress(OSError):  # no memory for it now: tried again when it is needed
            self._running = self._running or (None if self._stopped else self._start())

    def stop(self) -> None:
        """End the child; no other is started."""
        self._stopped = True
        self.end()

    def end(self) -> None:
        """End the child; the next request starts another."""
        with self._changing:
            running, self._running = self._running, None
        if running is not None:
            running[0].kill()
            running[0].wait()

    def request(self, method: str, arguments: tuple[Any, ...], limit_s: float) -> Any:
        """What a method of the child's `DirectReader` returns.

        Raises SurveyDied, ReadingStopped, or what the method raises.
        """
        with self._using:
            answer = None
            child, connection = self._open()
            try:
                self._await_ready(child, connection)
                connection.send((method, arguments, limit_s))
                self._await_answer(child, connection, limit_s)
                answer = connection.recv()
            except SurveyDied:
                self._require_running()
                raise
            except (EOFError, OSError):
                self._require_running()
                raise SurveyDied(f"The process ended: {_status(child)}.") from None
            finally:
                if answer is None or answer[2]:
                    self.end()
                    connection.close()
        failure, result, _ = answer
        if failure is not None:
            raise failure
        return result

    def await_ready(self) -> None:
        """Start the child if none runs, and wait until it can read. Raises SurveyDied or ReadingStopped."""
        with self._using:
            child, connection = self._open()
            try:
                self._await_ready(child, connection)
            except (EOFError, OSError, SurveyDied):
                self.end()
                connection.close()
                self._require_running()
                raise SurveyDied(f"The process did not start: {_status(child)}.") from None

    def _open(self) -> tuple[subprocess.Popen[bytes], Connection]:
        """The child that runs, or a new one. Raises ReadingStopped."""
        if self._running is not None and self._running[0].poll() is not None:
            self.end()  # it was ended while it waited
        with self._changing:
            self._require_running()
            self._running = self._running or self._start()
            return self._running

    def _await_ready(self, child: subprocess.Popen[bytes], connection: Connection) -> None:
        if not self._is_ready:
            self._await_answer(child, connection, _START_S)
            self._is_ready = connection.recv()

    def _require_running(self) -> None:
        """Raise ReadingStopped if the node stops: what the child was reading says nothing about the files."""
        if self._stopped:
            raise ReadingStopped

    def _await_answer(self, child: subprocess.Popen[bytes], connection: Connection, limit_s: float) -> None:
        """Wait until the child answers or ends. Raises SurveyDied if it exceeds a limit."""
        deadline = time.monotonic() + limit_s
        while not connection.poll(_CHECK_S):
            if time.monotonic() > deadline:
                raise SurveyDied(f"It took more than {limit_s:.0f} s.")
            with suppress(psutil.Error):
                if psutil.Process(child.pid).memory_info().rss > self._memory_mb * _MB:
                    raise SurveyDied(f"It used more than {self._memory_mb} MB of memory.")

    def _start(self) -> tuple[subprocess.Popen[bytes], Connection]:
        self._is_ready = False
        ours, of_child = socket.socketpair()
        with of_child:
            child = subprocess.Popen(
                self._command,
                stdin=of_child.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, **_ENVIRONMENT},
            )
        return child, Connection(ours.detach())


def _status(child: subprocess.Popen[bytes]) -> str:
    try:
        status = child.wait(timeout=1.0)
    except subprocess.TimeoutExpired:
        return "it closed its connection"
    return f"signal {-status}" if status < 0 else f"status {status}"


def main(arguments: Sequence[str]) -> int:
    """Answer requests until the node ends; the argument is the limit of memory in megabytes."""
    silence_warning_texts()
    with suppress(OSError):  # if the memory of the machine runs out, the kernel ends this process first
        _NICE.write_text("1000", encoding="ascii")
    _limit_memory(int(arguments[0]) * _MB)
    reader = DirectReader()
    connection = Connection(os.dup(0))
    connection.send(True)  # noqa: FBT003  # ready
    while True:
        try:
            method, parameters, limit_s = connection.recv()
        except (EOFError, OSError):
            return 0  # the node has ended
        _limit_time(limit_s)
        failure, result = None, None
        try:
            result = getattr(reader, method)(*parameters)
        except MemoryError:
            return 2
        except Exception as error:  # noqa: BLE001  # whatever it is, the node has to know it
            failure = reading_error(error)
        connection.send((failure, result, psutil.Process().memory_info().rss > _RETIRE_MB * _MB))


def _limit_memory(limit: int) -> None:
    """Limit the address space, so that a single allocation cannot exceed the memory of the machine."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would contain patient data
    used = psutil.Process().memory_info().vms
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (used + _SINGLE_ALLOCATION * limit,) * 2)


def _limit_time(limit_s: float) -> None:
    """Limit the time of the processor for one request, so that the child ends even without its parent."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(usage.ru_utime + usage.ru_stime + limit_s) + 2
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
