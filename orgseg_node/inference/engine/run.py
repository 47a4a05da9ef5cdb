"""One network over one CT: tile by tile, slab by slab, plane by plane, to labels.

::

    working planes -> tiles -> network -> slab -> final planes -> mean of the folds -> labels

Final planes are averaged and labelled some at a time, on a GPU while the next tiles are computed; on a CPU
one by one, which takes the least memory.

Only the data of one slab is in memory at a time, so apart from the CT itself and its labels the peak memory
does not depend on the number of slices. Every sum, quotient and rounding is nnU-Net's, in nnU-Net's order: on
a CPU the labels are those of its predictor to the voxel.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from orgseg_node.core.geometry import Box, Shape
from orgseg_node.core.volume import Mask
from orgseg_node.inference.engine.allocator import keep_large_blocks
from orgseg_node.inference.engine.disagreement import FoldAgreement
from orgseg_node.inference.engine.forward import Forward
from orgseg_node.inference.engine.label_planes import LabelPlanes, PlaneCallback
from orgseg_node.inference.engine.layout import TileWindow
from orgseg_node.inference.engine.plane_queue import PlaneQueue
from orgseg_node.inference.engine.slab import (
    AccumulatorStorage,
    Slab,
    accumulator_device,
    planes_at_once,
    require_finite,
    shift_planes,
)
from orgseg_node.inference.engine.stopwatch import Stopwatch
from orgseg_node.inference.engine.suspicion import SuspectedLabels
from orgseg_node.inference.engine.tiles import Tiling, gaussian_weights, needed_tiles
from orgseg_node.inference.engine.working import Regrid, WorkingPart, WorkingVolume
from orgseg_node.inference.suspected import Suspected

_DENSE = torch.contiguous_format
_CERTAIN = 100.0  # logit of what is not computed, as it is background
_RELEASE_EVERY = 4  # planes after which slabs in a file return the main memory of these planes

TileCallback = Callable[[int, int, float], None]
"""Called after each tile with the tiles done, all tiles and the estimated seconds left; may raise to stop."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabellingTask:
    """What is to be labelled, and how.

    Attributes
    ----------
    working : the preprocessed CT, or the part of it that the tiles cover
    to_ct : resampling from the whole working grid to the grid of the cropped CT
    tiling : the tiles over ``working``
    regions : see `NetworkPlan`
    region : (K, J, I) bool on the grid of the labels; tiles that it does not need are skipped, and all voxels
        outside it become background. None to skip nothing
    accumulators : where the accumulators are stored
    overlap : compute the next planes of the working volume, and the labels of final planes, in threads while
        the network runs, which is faster on a GPU; ``on_plane`` is then called in such a thread
    window : the part of the CT to label, by the tiles of ``tiling``; None to label all of it
    suspicion : probability of a label, against background, from which on a voxel is suspected; None to
        suspect nothing. A window must then take the labels of the whole CT
    block : number of planes that are averaged and labelled at once, at least 1; None for `planes_at_once`
    """

    working: WorkingVolume | WorkingPart
    to_ct: Regrid
    tiling: Tiling
    regions: tuple[int, ...] | None
    region: Mask | None
    accumulators: AccumulatorStorage
    overlap: bool
    window: TileWindow | None = None
    suspicion: float | None = None
    block: int | None = None

    @property
    def taken(self) -> Box:
        """Where labels are taken, in voxels of ``working``."""
        if self.window is not None:
            return self.window.taken
        return Box(start=(0, 0, 0), stop=self.tiling.shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunSummary:
    """Facts about a run, besides the labels.

    Attributes
    ----------
    fold_agreement : how far the folds agree; None for a single network
    tiles, skipped : number of tiles that were computed, and that were skipped
    interpolated : number of voxels of the CT whose logits had to be interpolated
    network_s : seconds that the network computed
    suspected : where each label is suspected that is suspected anywhere, in voxels of the CT
    """

    fold_agreement: FoldAgreement | None
    tiles: int
    skipped: int
    interpolated: int
    network_s: float
    suspected: Mapping[int, Suspected] = field(default_factory=dict)


@torch.inference_mode()
def run_network(
    task: LabellingTask, forward: Forward, heads: int, on_tile: TileCallback, on_plane: PlaneCallback
) -> RunSummary:
    """Label a CT with one network or an ensemble.

    Parameters
    ----------
    task : see `LabellingTask`
    forward : computes the logits of a tile
    heads : number of output channels
    on_tile : see `TileCallback`
    on_plane : see `PlaneCallback`; called once for every plane

    Raises
    ------
    InferenceFailed
        If the network's logits are too large for 16 bits.
    ValueError
        If labels are to be suspected in a part of the CT.
    """
    tiling, regions = task.tiling, task.regions
    inner = None if task.window is None else task.window.inner
    device = accumulator_device(task.accumulators, forward.device)
    planes, block = LabelPlanes(task.to_ct, regions, device, inner), task.block or planes_at_once(device)
    suspected = None
    if task.suspicion is not None:
        if inner is not None and inner.shape != task.to_ct.source:
            raise ValueError("Only a run on the whole CT shows all that is suspected.")
        suspected = SuspectedLabels(task.to_ct, regions, task.suspicion, task.region)
    needed = (
        None
        if task.region is None
        else needed_tiles(tiling, task.region, planes.axes, origin=task.taken.start)
    )
    largest = max(regions) if regions else heads - 1
    agreement = FoldAgreement(largest + 1, regions, forward.folds) if forward.folds > 1 else None
    window = _SlidingWindow(task, forward, heads, _TileProgress(tiling, needed, forward.folds, on_tile))

    def label(number: int, logits: torch.Tensor) -> None:
        if suspected is not None:
            suspected.add(number, logits)
        for k, labels in planes.push(number, logits):
            if task.region is not None:
                labels[~task.region[k]] = 0
            on_plane(k, labels)

    waiting = -(-tiling.planes_of_a_step // block) if task.overlap else 0
    with PlaneQueue(label, device, waiting) as queue:
        for number, logits in window.planes(block, agreement):
            queue.put(number, logits)
    done = number_of_tiles(tiling) if needed is None else int(needed.sum())
    return RunSummary(
        fold_agreement=agreement,
        tiles=done,
        skipped=number_of_tiles(tiling) - done,
        interpolated=planes.interpolated,
        network_s=window.stopwatch.seconds(),
        suspected={} if suspected is None else suspected.in_ct(),
    )


def number_of_tiles(tiling: Tiling) -> int:
    """Number of tiles."""
    return int(np.prod([len(starts) for starts in tiling.starts]))


def _inner(tiling: Tiling) -> tuple[slice, slice]:
    """Rows and columns without padding."""
    (_, j, i), (_, rows, columns) = tiling.padding_before, tiling.shape
    return slice(j, j + rows), slice(i, i + columns)


def _shifted(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)


class _TileProgress:
    """Counts tiles, estimates the time left and reports both."""

    def __init__(
        self, tiling: Tiling, needed: NDArray[np.bool_] | None, folds: int, on_tile: TileCallback
    ) -> None:
        self.needed = needed
        self._total = folds * (number_of_tiles(tiling) if needed is None else int(needed.sum()))
        self._done = 0
        self._on_tile = on_tile
        self._started = time.monotonic()

    def tile_done(self) -> None:
        self._done += 1
        spent = time.monotonic() - self._started
        self._on_tile(self._done, self._total, spent / self._done * (self._total - self._done))


class _SlidingWindow:
    """Runs the tiles of each slab through all folds, and yields the planes that become final."""

    def __init__(self, task: LabellingTask, forward: Forward, heads: int, progress: _TileProgress) -> None:
        self._task, self._forward, self._progress = task, forward, progress
        self.stopwatch = Stopwatch(forward.device)
        _, rows, columns = task.tiling.padded_shape
        shape: Shape = (task.tiling.patch[0], rows, columns)
        device = accumulator_device(task.accumulators, forward.device)
        self._slabs = [Slab((heads, *shape), task.accumulators, forward.device) for _ in range(forward.folds)]
        self._weights = torch.zeros(shape, dtype=torch.half, device=device)
        self._gaussian = gaussian_weights(task.tiling.patch, device)
        self._factors = self._gaussian.float()  # the same numbers
        self._image = torch.zeros(shape, dtype=torch.float32, device=forward.device)

    def planes(self, block: int, agreement: FoldAgreement | None) -> Iterator[tuple[int, torch.Tensor]]:
        """The planes of the working grid in order, without padding.

        Parameters
        ----------
        block : number of planes to yield at a time, at least 1
        agreement : counts the planes of each fold; None for a single network

        Yields
        ------
        number of the first one, and (heads, planes, rows, columns) float16
        """
        tiling = self._task.tiling
        with ThreadPoolExecutor(1) as pool:
            upcoming = self._upcoming_planes(pool, 0, tiling.patch[0])
            for step, (start, final) in enumerate(zip(tiling.starts[0], tiling.final_planes, strict=True)):
                with keep_large_blocks():  # freed before the next tile
                    self._load_planes(upcoming)
                end = start + tiling.patch[0]
                upcoming = self._upcoming_planes(pool, end, end + final)
                self._run_tiles(step)
                yield from self._final_planes(range(start, start + final), block, agreement)
                for slab in self._slabs:
                    slab.advance(final)
                    slab.release_memory()
                shift_planes(self._weights, final)
                shift_planes(self._image, final)

    def _image_planes(self, start: int, stop: int) -> NDArray[np.float32]:
        """Planes of the padded working volume, without the padding of rows and columns."""
        before, size = self._task.tiling.padding_before[0], self._task.tiling.shape[0]
        first, last = max(start - before, 0), min(stop - before, size)
        planes = np.zeros((stop - start, *self._task.tiling.shape[1:]), dtype=np.float32)
        if first < last:
            planes[first + before - start : last + before - start] = self._task.working.planes(first, last)
        return planes

    def _upcoming_planes(
        self, pool: ThreadPoolExecutor, start: int, stop: int
    ) -> Callable[[], NDArray[np.float32]]:
        """The next planes: computed when they are needed, or beforehand while a GPU computes."""
        if self._task.overlap:
            return pool.submit(self._image_planes, start, stop).result
        return partial(self._image_planes, start, stop)

    def _load_planes(self, upcoming: Callable[[], NDArray[np.float32]]) -> None:
        rows, columns = _inner(self._task.tiling)
        planes = torch.from_numpy(upcoming())
        first = len(self._image) - len(planes)  # thin tiles can begin at the same plane; then there are none
        self._image[first:, rows, columns] = planes.to(self._image.device)

    def _run_tiles(self, step: int) -> None:
        (_, ys, xs), (_, height, width) = self._task.tiling.starts, self._task.tiling.patch
        needed = self._progress.needed
        for fold, slab in enumerate(self._slabs):
            for row, y in enumerate(ys):
                for column, x in enumerate(xs):
                    if needed is not None and not needed[step, row, column]:
                        continue
                    with keep_large_blocks():
                        tile = self._image[:, y : y + height, x : x + width].contiguous()
                        with self.stopwatch:
                            logits = self._forward(tile[None, None], fold)
                        slab.add(logits.to(self._factors.device), self._factors, y, x)
                        del logits, tile
                    if fold == 0:
                        self._weights[:, y : y + height, x : x + width] += self._gaussian
                    self._progress.tile_done()
            if len(self._slabs) > 1:
                slab.release_memory()

    def _final_planes(
        self, final: range, block: int, agreement: FoldAgreement | None
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Mean over the folds, some planes at a time, added and divided in float16 as nnU-Net does."""
        taken = self._task.taken
        before, top, left = self._task.tiling.padding_before
        _, rows, columns = taken.slices
        rows, columns = _shifted(rows, top), _shifted(columns, left)
        origin = taken.start[0] + before - final.start  # the first plane of the labels, in planes of the slab
        stop = min(len(final), taken.stop[0] + before - final.start)
        for first in range(max(0, origin), stop, block):
            if first % _RELEASE_EVERY < block:
                for slab in self._slabs:
                    slab.release_memory()
            planes = slice(first, min(first + block, stop))
            weight = self._weights[planes, rows, columns]
            here = (slice(None), planes, rows, columns)
            means = [slab.logits[here].clone(memory_format=_DENSE) for slab in self._slabs]
            extremes: list[torch.Tensor] = []
            for mean in means:
                mean.div_(weight)
                if self._progress.needed is not None:
                    self._set_background(mean, weight == 0)
                extremes += torch.aminmax(mean)
                if agreement is not None:
                    agreement.add(mean)
            require_finite(means, extremes)
            total = means[0]
            for mean in means[1:]:
                total += mean
            if len(means) > 1:
                total /= len(means)
            yield first - origin, total

    def _set_background(self, logits: torch.Tensor, where: torch.Tensor) -> None:
        """Make background, beyond any suspicion, of the voxels for which no tile was computed."""
        logits.masked_fill_(where, -_CERTAIN)
        if self._task.regions is None:
            logits[0].masked_fill_(where, _CERTAIN)
