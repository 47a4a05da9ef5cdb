"""A run that starts again with its accumulators in main memory when the GPU runs out of memory.

The free memory is queried before a run, but another program may take it meanwhile. In that case the
accumulators are stored in main memory and the run starts again. The callbacks do not notice: no plane is
reported twice, and the progress never decreases.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import structlog
import torch

from orgseg_node.inference.engine.forward import Forward
from orgseg_node.inference.engine.label_planes import Labels, PlaneCallback
from orgseg_node.inference.engine.run import (
    LabellingTask,
    RunSummary,
    TileCallback,
    run_network,
)

_log = structlog.get_logger(__name__)


def run_with_fallback(
    tasks: Sequence[LabellingTask],
    forward: Forward,
    heads: int,
    on_tile: TileCallback,
    on_plane: PlaneCallback,
) -> RunSummary:
    """Label a CT by the first of several tasks; by the next one if the device runs out of memory.

    Parameters
    ----------
    tasks : the same task with its accumulators stored in different places, the preferred one first; at least
        1
    forward, heads : see `run_network`
    on_tile : see `TileCallback`; tiles that are computed again are not counted again
    on_plane : see `PlaneCallback`; called once for every plane, also after a second run

    Raises
    ------
    torch.OutOfMemoryError
        If the last task runs out of memory as well.
    """
    callbacks = _CallbacksOnce(on_tile, on_plane)
    for task in tasks[:-1]:
        with contextlib.suppress(torch.OutOfMemoryError):
            return run_network(task, forward, heads, callbacks.on_tile, callbacks.on_plane)
        # only outside the with statement is the error, which refers to the accumulators, released
        _log.warning("GPU out of memory; accumulators move", accumulators=task.accumulators.value)
        torch.cuda.empty_cache()
    return run_network(tasks[-1], forward, heads, callbacks.on_tile, callbacks.on_plane)


class _CallbacksOnce:
    """Forwards only calls that an earlier run has not made yet."""

    def __init__(self, on_tile: TileCallback, on_plane: PlaneCallback) -> None:
        self._on_tile, self._on_plane = on_tile, on_plane
        self._tiles = 0
        self._planes = 0

    def on_tile(self, done: int, total: int, seconds_left: float) -> None:
        self._tiles = max(self._tiles, done)
        self._on_tile(self._tiles, total, seconds_left)

    def on_plane(self, number: int, labels: Labels) -> None:
        if number >= self._planes:
            self._planes = number + 1
            self._on_plane(number, labels)
