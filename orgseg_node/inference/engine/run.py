"""One network over one CT: tile by tile, slab by slab, plane by plane, to labels.

::

    working planes -> tiles -> network -> slab -> final planes -> mean of the folds -> labels

Only what a slab needs is ever in memory, so the peak does not depend on the number of slices, except for the
CT itself and its labels. Every sum, quotient and rounding is nnU-Net's, in nnU-Net's order: on a CPU the
labels are those of its predictor to the voxel.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from orgseg_node.core.geometry import Shape
from orgseg_node.core.volume import Mask
from orgseg_node.inference.engine.allocator import large_blocks_kept
from orgseg_node.inference.engine.disagreement import FoldTally
from orgseg_node.inference.engine.forward import Forward
from orgseg_node.inference.engine.label_planes import LabelPlanes, Labels
from orgseg_node.inference.engine.slab import Place, Slab, divide, move_on
from orgseg_node.inference.engine.stopwatch import Stopwatch
from orgseg_node.inference.engine.tiles import Tiling, touched, weights
from orgseg_node.inference.engine.working import Regrid, WorkingVolume

_DENSE = torch.contiguous_format
_RESTING = 4  # planes after which slabs in a file give back the main memory that these planes took

Told = Callable[[int, int, float], None]
"""Called after each tile with tiles done, tiles in all, and the estimated seconds left; may raise to stop."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """What is to be labelled, and how.

    Attributes
    ----------
    working : the CT as the network sees it
    back : from the working grid to the grid of the cropped CT
    tiling : where the tiles lie
    regions : see `Rules`
    inside : (K, J, I) bool on the grid of the cropped CT; tiles that it does not need are left out and all
        voxels outside of it are background. None to leave out nothing
    place : where the accumulators lie
    ahead : make planes of the working volume in a thread while the network computes, as is good for a GPU
    """

    working: WorkingVolume
    back: Regrid
    tiling: Tiling
    regions: tuple[int, ...] | None
    inside: Mask | None
    place: Place
    ahead: bool


Emit = Callable[[int, Labels], None]
"""Called with the number of a plane of the cropped CT and its labels (rows, columns), in their order."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Summary:
    """What is known of a run beside the labels.

    Attributes
    ----------
    tally : how far the folds differ; None for a single network
    tiles, skipped : number of tiles that were computed, and that were left out
    interpolated : number of voxels of the CT whose logits had to be interpolated
    network_s : seconds that the network computed
    """

    tally: FoldTally | None
    tiles: int
    skipped: int
    interpolated: int
    network_s: float


@torch.inference_mode()
def run(task: Task, forward: Forward, heads: int, told: Told, emit: Emit) -> Summary:
    """Label a CT with one network or an ensemble.

    Parameters
    ----------
    task : see `Task`
    forward : computes the logits of a tile
    heads : number of output channels
    told : see `Told`
    emit : see `Emit`; given every plane once

    Raises
    ------
    InferenceFailed
        If the network's logits are too large for 16 bits.
    """
    tiling, regions = task.tiling, task.regions
    emission = LabelPlanes(task.back, regions, _beside(task.place, forward.device))
    wanted = None if task.inside is None else touched(tiling, task.inside, emission.axes)
    largest = max(regions) if regions else heads - 1
    tally = FoldTally(largest + 1, regions, forward.folds) if forward.folds > 1 else None
    sums = _Sums(task, forward, heads, _Count(tiling, wanted, forward.folds, told))
    for number, plane in sums.planes(tally):
        for k, labels in emission.push(number, plane):
            if task.inside is not None:
                labels[~task.inside[k]] = 0
            emit(k, labels)
    done = tiling_size(tiling) if wanted is None else int(wanted.sum())
    return Summary(
        tally=tally,
        tiles=done,
        skipped=tiling_size(tiling) - done,
        interpolated=emission.interpolated,
        network_s=sums.watch.seconds(),
    )


def tiling_size(tiling: Tiling) -> int:
    """Number of tiles."""
    return int(np.prod([len(starts) for starts in tiling.steps]))


def _cut(tiling: Tiling) -> tuple[slice, slice]:
    (_, j, i), (_, rows, columns) = tiling.before, tiling.shape
    return slice(j, j + rows), slice(i, i + columns)


def _beside(place: Place, device: torch.device) -> torch.device:
    return device if place == Place.DEVICE else torch.device("cpu")


class _Count:
    """Counts tiles and estimates the time left."""

    def __init__(self, tiling: Tiling, wanted: NDArray[np.bool_] | None, folds: int, told: Told) -> None:
        self.wanted = wanted
        self._all = folds * (tiling_size(tiling) if wanted is None else int(wanted.sum()))
        self._done = 0
        self._told = told
        self._begun = time.monotonic()

    def one_more(self) -> None:
        self._done += 1
        spent = time.monotonic() - self._begun
        self._told(self._done, self._all, spent / self._done * (self._all - self._done))


class _Sums:
    """Runs the tiles of each step through all folds, and gives the planes that become final."""

    def __init__(self, task: Task, forward: Forward, heads: int, count: _Count) -> None:
        self._task, self._forward, self._count = task, forward, count
        self.watch = Stopwatch(forward.device)
        _, rows, columns = task.tiling.padded
        shape: Shape = (task.tiling.patch[0], rows, columns)
        beside = _beside(task.place, forward.device)
        self._slabs = [Slab((heads, *shape), task.place, forward.device) for _ in range(forward.folds)]
        self._weights = torch.zeros(shape, dtype=torch.half, device=beside)
        self._gaussian = weights(task.tiling.patch, beside)
        self._factors = self._gaussian.float()  # the same numbers
        self._image = torch.zeros(shape, dtype=torch.float32, device=forward.device)

    def planes(self, tally: FoldTally | None) -> Iterator[tuple[int, torch.Tensor]]:
        """The planes of the working grid in their order, (heads, rows, columns) half, without padding."""
        tiling = self._task.tiling
        with ThreadPoolExecutor(1) as pool:
            coming = self._coming(pool, 0, tiling.patch[0])
            for step, (start, final) in enumerate(zip(tiling.steps[0], tiling.final, strict=True)):
                with large_blocks_kept():  # gone again before the next tile
                    self._take_in(coming)
                end = start + tiling.patch[0]
                coming = self._coming(pool, end, end + final)
                self._tiles(step)
                yield from self._final(start, final, tally)
                for slab in self._slabs:
                    slab.move_on(final)
                    slab.rest()
                move_on(self._weights, final)
                move_on(self._image, final)

    def _image_planes(self, start: int, stop: int) -> NDArray[np.float32]:
        """Planes of the padded working volume, without the padding of rows and columns."""
        before, size = self._task.tiling.before[0], self._task.tiling.shape[0]
        first, last = max(start - before, 0), min(stop - before, size)
        made = np.zeros((stop - start, *self._task.tiling.shape[1:]), dtype=np.float32)
        if first < last:
            made[first + before - start : last + before - start] = self._task.working.planes(first, last)
        return made

    def _coming(self, pool: ThreadPoolExecutor, start: int, stop: int) -> Callable[[], NDArray[np.float32]]:
        """The next planes: made when they are needed, or ahead, while a GPU computes."""
        if self._task.ahead:
            return pool.submit(self._image_planes, start, stop).result
        return partial(self._image_planes, start, stop)

    def _take_in(self, coming: Callable[[], NDArray[np.float32]]) -> None:
        rows, columns = _cut(self._task.tiling)
        made = torch.from_numpy(coming())
        first = len(self._image) - len(made)  # thin tiles can begin at the same plane; then nothing comes
        self._image[first:, rows, columns] = made.to(self._image.device)

    def _tiles(self, step: int) -> None:
        (_, ys, xs), (_, height, width) = self._task.tiling.steps, self._task.tiling.patch
        wanted = self._count.wanted
        for fold, slab in enumerate(self._slabs):
            for row, y in enumerate(ys):
                for column, x in enumerate(xs):
                    if wanted is not None and not wanted[step, row, column]:
                        continue
                    with large_blocks_kept():
                        tile = self._image[:, y : y + height, x : x + width].contiguous()
                        with self.watch:
                            logits = self._forward(tile[None, None], fold)
                        slab.add(logits.to(self._factors.device), self._factors, y, x)
                        del logits, tile
                    if fold == 0:
                        self._weights[:, y : y + height, x : x + width] += self._gaussian
                    self._count.one_more()
            if len(self._slabs) > 1:
                slab.rest()

    def _final(self, start: int, count: int, tally: FoldTally | None) -> Iterator[tuple[int, torch.Tensor]]:
        """Mean over the folds, plane by plane, added up and divided in 16 bits as nnU-Net does."""
        tiling, (rows, columns) = self._task.tiling, _cut(self._task.tiling)
        for number in range(count):
            inner = start + number - tiling.before[0]
            if not 0 <= inner < tiling.shape[0]:
                continue
            if number % _RESTING == 0:
                for slab in self._slabs:
                    slab.rest()
            weight = self._weights[number, rows, columns]
            here = (slice(None), number, rows, columns)
            means = [slab.logits[here].clone(memory_format=_DENSE) for slab in self._slabs]
            for mean in means:
                divide(mean, weight)
                if self._count.wanted is not None:
                    self._no_organ(mean, weight == 0)
                if tally is not None:
                    tally.add(mean)
            total = means[0]
            for mean in means[1:]:
                total += mean
            if len(means) > 1:
                total /= len(means)
            yield inner, total

    def _no_organ(self, logits: torch.Tensor, where: torch.Tensor) -> None:
        """Where no tile was computed there is no organ."""
        logits[:, where] = -1.0
        if self._task.regions is None:
            logits[0, where] = 1.0
