"""A real node in a process of its own, to be pushed, watched and killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil

from orgseg_node.node.store.model import Job, JobState
from orgseg_node.node.store.store import Store
from tests.support.processes.forked import ForkedProcess

T = TypeVar("T")

CONFIG = """
[node]
ae_title = "ORGSEG"
host = "127.0.0.1"
port = 0
data_dir = "data"
log_format = "json"
log_level = "{log_level}"
{node}

[receiver]
quiet_seconds = {quiet_s}
min_free_mb = 1

[[peers]]
ae_title = "STORESCU"
networks = ["127.0.0.0/8"]

[[peers]]
ae_title = "ECHOSCU"

[delivery]
retry_first_s = 0.5
retry_longest_s = 0.5

[destinations.tps]
ae_title = "TPS"
host = "127.0.0.1"
port = {tps_port}
{tps}

[completeness]
broken_wait_s = 1.0
{completeness}

{more}

[inference]
{inference}
"""


def wait_for(what: Callable[[], T], seconds: float, name: str) -> T:
    """The first true value of a question, asked until the time is over."""
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds} s: {name}"
        time.sleep(0.05)


def wait_while_moving(
    what: Callable[[], bool], progress: Callable[[], object], still_s: float, name: str
) -> None:
    """Wait until a question is true, as long as something goes on.

    Parameters
    ----------
    what : the question
    progress : a value that changes whenever something goes on
    still_s : it fails once nothing has changed for so long
    name : of what is waited for
    """
    last, end = progress(), time.monotonic() + still_s
    while not what():
        now = progress()
        if now != last:
            last, end = now, time.monotonic() + still_s
        assert time.monotonic() < end, f"nothing moved for {still_s} s: {name}"
        time.sleep(0.05)


def is_reading(process: psutil.Process) -> bool:
    """Whether a child of a node is one that reads received files; it stays for the next series."""
    return any("reading_process" in word for word in process.cmdline())


@dataclass(kw_only=True)
class NodeProcess:
    """A node with its folder; it may be started, killed and started again.

    Attributes
    ----------
    folder : holds node.toml, the log and the data
    tps_port : where the destination listens
    seconds : how long the prediction of a job takes at least; None to run a network instead
    child : another child program as module and arguments
    inference : lines of that section; without any, the shipped network is what is run
    tps : more lines about the destination
    more : further sections of the configuration
    name : of this process, for its files, where several have one folder
    node : further lines of that section
    quiet_s : when a series is whole
    completeness : further lines of that section
    warm : whether a child waits for the next job with all libraries loaded, as in a hospital; without it,
        half as many processes are started
    """

    folder: Path
    tps_port: int
    seconds: float | None = 0.0
    inference: str = ""
    tps: str = ""
    more: str = ""
    name: str = "node"
    child: tuple[str, ...] = ()
    log_level: str = "info"
    node: str = ""
    quiet_s: float = 0.5
    completeness: str = ""
    warm: bool = False
    port: int = 0
    _process: ForkedProcess | None = field(default=None, repr=False)

    @property
    def data(self) -> Path:
        """The node's data folder."""
        return self.folder / "data"

    def start(self) -> None:
        """Start it and wait until it listens."""
        config = self.folder / f"{self.name}.toml"
        values = {"tps_port": self.tps_port, "inference": self.inference, "log_level": self.log_level}
        more = {"tps": self.tps, "more": self.more, "node": self.node, "completeness": self.completeness}
        text = CONFIG.format(**values, **more, quiet_s=self.quiet_s)
        if "\n[worker]\n" not in text:
            text += "\n[worker]\n"
        text = text.replace("\n[worker]\n", f"\n[worker]\nspare_child = {str(self.warm).lower()}\n")
        config.write_text(text, encoding="utf-8")
        seen = len(self.events())
        module, arguments = "tests.support.node.node_program", [str(config), str(self.seconds), *self.child]
        if self.seconds is None:
            module, arguments = "orgseg_node.cli", ["node", "run", "--config", str(config)]
        with self._log.open("ab") as log:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            self._process = ForkedProcess(
                module, arguments, environment=environment, streams=(0, 1, log.fileno())
            )

        def found(event: str) -> list[dict[str, Any]]:
            assert self._process is not None
            assert self._process.poll() is None, self._log.read_text()
            return [one for one in self.events()[seen:] if one.get("event") == event]

        if 'roles = ["worker"]' in self.more:
            wait_while_moving(lambda: bool(found("running")), self._processor_s, 60, "the worker runs")
        else:
            wait_while_moving(lambda: bool(found("listening")), self._processor_s, 60, "the node listens")
            self.port = found("listening")[0]["port"]

    def _processor_s(self) -> float:
        """Processor time of the process: on a busy machine a start may last long, but it goes on."""
        assert self._process is not None
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system

    @property
    def _log(self) -> Path:
        return self.folder / ("log" if self.name == "node" else f"{self.name}.log")

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def events(self) -> list[dict[str, Any]]:
        """What it has logged, over all its lives."""
        log = self._log
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def children(self) -> list[psutil.Process]:
        """Its child processes."""
        assert self._process is not None
        return list(psutil.Process(self._process.pid).children(recursive=True))

    def children_s(self, word: str) -> tuple[tuple[int, int], ...]:
        """Processor time in whole seconds of each child process with a word in its command."""
        found = []
        for child in self.children():
            with contextlib.suppress(psutil.Error):
                if any(word in part for part in child.cmdline()):
                    times = child.cpu_times()
                    found.append((child.pid, int(times.user + times.system)))
        return tuple(found)

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        """End it in order; its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(30)

    def reload(self) -> int:
        """Let it read its file again; the exit status of the command."""
        config = str(self.folder / "node.toml")
        return ForkedProcess("orgseg_node.cli", ["node", "reload", "--config", config]).wait(60)

    def store(self) -> Store:
        """Its memory, to look at."""
        return Store(self.data, read_only=True)

    def job_in(self, *states: JobState, seconds: float = 30) -> Job:
        """Its only job, once it is in one of these states."""

        def look() -> Job | None:
            with contextlib.closing(self.store()) as store:
                jobs = store.jobs()
            assert len(jobs) <= 1
            return next((job for job in jobs if job.state in states), None)

        return wait_for(look, seconds, f"job {' or '.join(states)}")


@contextlib.contextmanager
def running_node(
    folder: Path,
    tps_port: int,
    seconds: float | None = 0.0,
    inference: str = "",
    *,
    child: tuple[str, ...] = (),
    tps: str = "",
    log_level: str = "info",
    node: str = "",
    quiet_s: float = 0.5,
    completeness: str = "",
    more: str = "",
    warm: bool = False,
) -> Iterator[NodeProcess]:
    """A started node, ended in any case."""
    process = NodeProcess(
        folder=folder,
        tps_port=tps_port,
        seconds=seconds,
        inference=inference,
        child=child,
        tps=tps,
        log_level=log_level,
        node=node,
        quiet_s=quiet_s,
        completeness=completeness,
        more=more,
        warm=warm,
    )
    process.start()
    try:
        yield process
    finally:
        if process._process is not None and process._process.poll() is None:
            process.kill()
