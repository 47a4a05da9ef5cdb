"""How long a device computes, also if it computes asynchronously."""

from __future__ import annotations

import time
from types import TracebackType

import torch


class Stopwatch:
    """Adds up the time between entering and leaving; on a GPU by CUDA events.

    Parameters
    ----------
    device : the device that computes
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._spent = 0.0
        self._begun = 0.0
        self._marks: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def __enter__(self) -> None:
        if self._cuda:
            self._marks.append((_mark(), _mark()))
            self._marks[-1][0].record()
        self._begun = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spent += time.perf_counter() - self._begun
        if self._cuda:
            self._marks[-1][1].record()

    def seconds(self) -> float:
        """The total so far; waits for the device."""
        if not self._cuda:
            return self._spent
        torch.cuda.synchronize()
        return float(sum(start.elapsed_time(end) for start, end in self._marks)) / 1000.0


def _mark() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
