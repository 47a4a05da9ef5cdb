"""Processes that are killed and come back, as a service manager would bring them back."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_ROOT: Final = Path(__file__).resolve().parents[2]
_LOOK_S: Final = 0.05


@dataclass(kw_only=True)
class SupervisedProcess:
    """A process that a `Supervisor` starts again when it dies.

    Attributes
    ----------
    name : how it is called in the counts
    command : program and arguments
    log : file for what it says
    ends : whether it may end by itself, with status 0, and is then not started again
    may_end : by what it logs last: why it may end by itself, to be started again
    starts, own_deaths : how often it was started, and how often it died of something else than the killer
    ended : how often it ended by itself as it may
    gone_for_good : the supervisor leaves it dead
    """

    name: str
    command: Sequence[str]
    log: Path
    ends: bool = False
    may_end: Mapping[str, str] = field(default_factory=dict)
    ended: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    own_deaths: list[str] = field(default_factory=list)
    gone_for_good: bool = False
    done: bool = False
    _begins: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _killed: bool = False
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def start(self) -> None:
        """Start it, in a session of its own."""
        with self._lock, self.log.open("ab") as log:
            self._begins = log.tell()
            self._process = subprocess.Popen(
                self.command,
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "TCP_NODELAY": "1"},
            )
            self.starts += 1
            self._killed = False

    @property
    def pid(self) -> int | None:
        """Its number while it lives."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def words(self) -> str:
        """What it has said in the life it has now."""
        with self.log.open("rb") as log:
            log.seek(self._begins)
            return log.read().decode("utf-8", "replace")

    def kill(self, *, group: bool = False, for_good: bool = False) -> bool:
        """SIGKILL it, or it and all it started in its session; whether it lived."""
        with self._lock:
            pid, process = self.pid, self._process
            if pid is None or process is None:
                return False
            self._killed = True
            self.gone_for_good |= for_good
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(pid, signal.SIGKILL)
            process.wait()
            return True

    def stop(self, timeout_s: float = 60.0) -> int:
        """Ask it to end; its exit status, or SIGKILL as a negative number where it did not."""
        with self._lock:
            self.gone_for_good = True
            process = self._process
            if process is None:
                return 0
            process.terminate()
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return -signal.SIGKILL

    def look(self) -> None:
        """Start it again if it died."""
        with self._lock:
            if self._process is None or self._process.poll() is None or self.gone_for_good or self.done:
                return
            status = int(self._process.returncode)
            if self.ends and status == 0:
                self.done = True
                return
            if not self._killed:
                last = self.words.strip().splitlines()[-5:]
                reasons = {why for words, why in self.may_end.items() if words in "\n".join(last)}
                self.ended.update(reasons)
                if not reasons:
                    self.own_deaths.append(f"{status} after {last}")
            self.start()


class Supervisor:
    """Starts its processes again when they die, whatever the reason."""

    def __init__(self) -> None:
        self.processes: list[SupervisedProcess] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor")

    def start(self, process: SupervisedProcess) -> SupervisedProcess:
        """Start a process and keep it alive from now on."""
        process.start()
        self.processes.append(process)
        return process

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        for process in self.processes:
            process.kill(group=True, for_good=True)

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_S):
            for process in list(self.processes):
                process.look()


def until(question: object, seconds: float, name: str, *, every_s: float = 0.1) -> None:
    """Wait until a question is answered by yes. Raises TimeoutError."""
    assert callable(question)
    end = time.monotonic() + seconds
    while not question():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s: {name}")
        time.sleep(every_s)
