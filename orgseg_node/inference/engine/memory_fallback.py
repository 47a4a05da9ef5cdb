"""A run that goes on elsewhere when a GPU turns out to have less free memory than it said.

What is free is asked before a run; another program may take it meanwhile. The sums then go to main memory and
the run begins anew, while the listener sees neither a label twice nor a step back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import structlog
import torch

from orgseg_node.inference.engine.forward import Forward
from orgseg_node.inference.engine.label_planes import Labels
from orgseg_node.inference.engine.run import Emit, Summary, Task, Told, run

_log = structlog.get_logger(__name__)


def run_where_it_fits(tasks: Sequence[Task], forward: Forward, heads: int, told: Told, emit: Emit) -> Summary:
    """Label a CT by the first of several tasks; by the next where the device runs out of memory.

    Parameters
    ----------
    tasks : the same task, with its sums in one place and in others that may stand in for it; at least one
    forward, heads : see `run`
    told : see `Told`; tiles that are computed again are not counted again
    emit : see `Emit`; given every plane once, also by two runs

    Raises
    ------
    torch.OutOfMemoryError
        If the last task runs out of memory as well.
    """
    onward = _Onward(told, emit)
    for task in tasks[:-1]:
        with contextlib.suppress(torch.OutOfMemoryError):
            return run(task, forward, heads, onward.told, onward.emit)
        # here the error is forgotten, which would keep the sums of the run in memory
        _log.warning("the GPU is out of memory; the sums go elsewhere", accumulators=task.place.value)
        torch.cuda.empty_cache()
    return run(tasks[-1], forward, heads, onward.told, onward.emit)


class _Onward:
    """Passes on what is further than anything before."""

    def __init__(self, told: Told, emit: Emit) -> None:
        self._told, self._emit = told, emit
        self._done = 0
        self._planes = 0

    def told(self, done: int, of: int, left_s: float) -> None:
        self._done = max(self._done, done)
        self._told(self._done, of, left_s)

    def emit(self, number: int, labels: Labels) -> None:
        if number >= self._planes:
            self._planes = number + 1
            self._emit(number, labels)
