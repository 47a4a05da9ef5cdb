"""Running a program and measuring time, processor time and memory of it with all its processes."""

from __future__ import annotations

import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

_EVERY_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a program took.

    Attributes
    ----------
    seconds : from start to end
    cpu_s : processor time of all processes that were seen
    peak_mb : largest sum of the proportional memory (PSS) of all processes at one time
    """

    seconds: float
    cpu_s: float
    peak_mb: float


def run_measured(command: list[str], log: Path) -> Measured:
    """Run a command with its output in a file.

    Parameters
    ----------
    command : program and arguments
    log : for its output

    Raises
    ------
    SystemExit
        If it fails, with the place of its output.
    """
    started = time.perf_counter()
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        peak, cpu, done = [0.0], {}, threading.Event()
        watching = threading.Thread(target=_watch, args=(process.pid, peak, cpu, done))
        watching.start()
        status = process.wait()
        done.set()
        watching.join()
    if status:
        raise SystemExit(f"{' '.join(command[:3])} ended with status {status}; see {log}")
    return Measured(seconds=time.perf_counter() - started, cpu_s=sum(cpu.values()), peak_mb=peak[0])


def _watch(pid: int, peak: list[float], cpu: dict[int, float], done: threading.Event) -> None:
    while not done.wait(_EVERY_S):
        total = 0.0
        try:
            root = psutil.Process(pid)
            family = [root, *root.children(recursive=True)]
        except psutil.Error:
            continue
        for one in family:
            try:
                times = one.cpu_times()
                cpu[one.pid] = times.user + times.system
                total += one.memory_full_info().pss / 2**20
            except psutil.Error:
                continue
        peak[0] = max(peak[0], total)
