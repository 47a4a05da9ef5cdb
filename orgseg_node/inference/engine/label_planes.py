"""From planes of logits on the working grid to planes of labels on the grid of the CT.

nnU-Net interpolates the logits of every class at every voxel of the CT in float64, rounds them to float16 and
takes the largest. At nearly all voxels this is not necessary: where one class is clearly the largest at all
surrounding working voxels, it is also the largest between them, because interpolation is a weighted mean.
Only the remaining voxels, about one in a hundred, are interpolated, by the same operations in the same order
as in nnU-Net, so that the labels are the same to the voxel. Where plans name PyTorch's resampling, the logits
are rounded to float32, and a label may differ only where two logits are equal but for the last bit.

Several planes are labelled at once: a GPU takes longer to start an operation on one plane than to compute it.
No voxel's label depends on how many.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from orgseg_node.core.geometry import Box, Shape
from orgseg_node.inference.engine.resampling import (
    LinearInterpolation,
    Resampling,
    linear,
    nearest,
    torch_linear,
    torch_nearest,
)
from orgseg_node.inference.engine.working import Regrid

Labels = NDArray[np.uint16]

PlaneCallback = Callable[[int, Labels], None]
"""Called with the number of a plane of the cropped CT and its labels (rows, columns), in ascending order.

With a window, planes, rows and columns are those of `axes_within`, numbered from its first ones."""

AMBIGUOUS = -1
"""In a plane of labels: the label must be computed by interpolation."""

# In float16 two logits can round to the same number only if they differ by less than one part in 1024. A
# logit that is larger by twice that at every surrounding working voxel is also the largest between them.
_CLEAR_RELATIVE, _CLEAR_ABSOLUTE = 2.0**-9, 2.0**-20
_CLEAR_REGION = 1e-3  # the sigmoid of a logit farther from 0 than this does not round to 0.5
_BLOCK_VOXELS = 65_536  # compared together on a CPU: work for all cores, and small enough for the cache
_BLOCK_NUMBERS = 4_000_000  # float64 numbers that are interpolated together

INTERPOLATED_BYTES = 3 * 8 * _BLOCK_NUMBERS
"""Memory while logits are interpolated: the numbers, the next ones to add, and where they stand."""


def unambiguous_labels(logits: torch.Tensor, regions: tuple[int, ...] | None) -> torch.Tensor:
    """The label of each voxel, where it does not depend on rounding.

    Parameters
    ----------
    logits : (heads, ...) float16, of the voxels of one or more planes
    regions : see `NetworkPlan`

    Returns
    -------
    (...) int16; `AMBIGUOUS` where the two largest logits are so close that rounding could decide
    """
    if regions is not None:
        return _unambiguous_region_labels(logits, regions)

    def labels_of(voxels: torch.Tensor) -> torch.Tensor:
        index, best, second = _two_largest(voxels)
        clear = best - second > _CLEAR_RELATIVE * best.abs() + _CLEAR_ABSOLUTE
        return index.masked_fill_(~clear, AMBIGUOUS)

    return _in_blocks_of_voxels(logits, labels_of)


def argmax_labels(logits: torch.Tensor, regions: tuple[int, ...] | None) -> torch.Tensor:
    """The label of each voxel: that of the largest logit.

    Parameters
    ----------
    logits, regions : see `unambiguous_labels`

    Returns
    -------
    (...) int16
    """
    if regions is not None:
        return _region_labels(logits, regions)
    return _in_blocks_of_voxels(logits, _argmax)


def _argmax(logits: torch.Tensor) -> torch.Tensor:
    """The first head with the largest logit."""
    best = logits[0].clone()
    index = torch.zeros(best.shape, dtype=torch.int16, device=best.device)
    for head in range(1, len(logits)):
        index.masked_fill_(logits[head] > best, head)
        torch.maximum(best, logits[head], out=best)
    return index


def _two_largest(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The first head with the largest logit, that logit, and the next smaller or equal one."""
    best = logits[0].float()
    second = torch.full_like(best, -torch.inf)
    index = torch.zeros(best.shape, dtype=torch.int16, device=best.device)
    value = torch.empty_like(best)
    for head in range(1, len(logits)):
        value.copy_(logits[head])
        index.masked_fill_(value > best, head)
        torch.maximum(second, torch.minimum(best, value), out=second)
        torch.maximum(best, value, out=best)
    return index, best, second


def _in_blocks_of_voxels(
    logits: torch.Tensor, labels_of: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Compute labels; on a CPU some voxels at a time, so that the intermediate results stay in the cache."""
    if logits.is_cuda:
        return labels_of(logits)
    blocks = torch.split(logits.flatten(1), _BLOCK_VOXELS, dim=1)
    return torch.cat([labels_of(block) for block in blocks]).view(logits.shape[1:])


def _unambiguous_region_labels(logits: torch.Tensor, regions: tuple[int, ...]) -> torch.Tensor:
    labels = _region_labels(logits, regions)
    ambiguous = ~(logits.abs() > _CLEAR_REGION).all(dim=0)
    for number, channels in Counter((0, *regions)).items():
        if channels > 1:  # neighbours may have this label by different channels, and a point between by none
            ambiguous |= labels == number
    return labels.masked_fill_(ambiguous, AMBIGUOUS)


def _region_labels(logits: torch.Tensor, regions: tuple[int, ...]) -> torch.Tensor:
    label = torch.zeros(logits.shape[1:], dtype=torch.int16, device=logits.device)
    for head, number in enumerate(regions):
        label.masked_fill_(logits[head] > 0, number)
    return label


def interpolation_axes(
    regrid: Regrid,
) -> tuple[LinearInterpolation, LinearInterpolation, LinearInterpolation]:
    """How logits are interpolated along each axis of the network."""
    by_torch = regrid.method is Resampling.TORCH
    pick, mix = (torch_nearest, torch_linear) if by_torch else (nearest, linear)
    z, y, x = (
        pick(a, b) if a == b or n == regrid.thick_axis else mix(a, b)
        for n, (a, b) in enumerate(zip(regrid.source, regrid.target, strict=True))
    )
    return z, y, x


def axes_within(
    regrid: Regrid, part: Box | None
) -> tuple[tuple[slice, slice, slice], tuple[LinearInterpolation, LinearInterpolation, LinearInterpolation]]:
    """How logits are interpolated if only a part of the working grid is known.

    Parameters
    ----------
    regrid : from the working grid to the grid of the cropped CT
    part : the known part of the working grid; None for all of it

    Returns
    -------
    the voxels of the CT that need no other part, and the interpolation along each axis
    """
    whole = Box(start=(0, 0, 0), stop=regrid.source) if part is None else part
    (a, z), (b, y), (c, x) = (
        axis.within(first, stop)
        for axis, first, stop in zip(interpolation_axes(regrid), whole.start, whole.stop, strict=True)
    )
    return (a, b, c), (z, y, x)


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """Working planes in a row.

    Attributes
    ----------
    first : number of the first one
    logits : (heads, planes, rows, columns) float16, contiguous
    labels : (planes, rows, columns) int16, see `unambiguous_labels`
    """

    first: int
    logits: torch.Tensor
    labels: torch.Tensor

    @property
    def last(self) -> int:
        """Number of the last plane."""
        return self.first + len(self.labels) - 1

    def last_plane(self) -> _Block:
        """The last plane, without the memory of the others."""
        return _Block(self.last, self.logits[:, -1:].contiguous(), self.labels[-1:].contiguous())


class LabelPlanes:
    """Takes the working planes in order and returns each plane of the CT as soon as it can be labelled.

    Parameters
    ----------
    regrid : from the working grid to the grid of the cropped CT
    regions : see `NetworkPlan`
    device : of the logits
    part : the part of the working grid that the planes show, numbered from its first one; None for all of it.
        Then the planes of labels show the voxels of the CT that need no other part
    """

    def __init__(
        self,
        regrid: Regrid,
        regions: tuple[int, ...] | None,
        device: torch.device,
        part: Box | None = None,
    ) -> None:
        self._regions = regions
        self._device = device
        self._precision = np.float32 if regrid.method is Resampling.TORCH else np.float16
        self.axes = axes_within(regrid, part)[1]
        z, y, x = (len(axis.low) for axis in self.axes)
        self._shape: Shape = (z, y, x)
        self._index = [[torch.from_numpy(n).to(device) for n in (axis.low, axis.high)] for axis in self.axes]
        self._weights = [
            [torch.from_numpy(weight).to(device) for weight in (axis.low_weight, axis.high_weight)]
            for axis in self.axes
        ]
        self._before: _Block | None = None
        self._next = 0
        self.interpolated = 0

    def push(self, number: int, logits: torch.Tensor) -> Iterator[tuple[int, Labels]]:
        """Take the next working planes; yield each plane of the CT that can now be labelled.

        Parameters
        ----------
        number : of the first of these planes; the planes of all calls follow each other
        logits : (heads, planes, rows, columns) float16, contiguous; the last plane may be kept, so it must
            not be changed afterwards

        Yields
        ------
        number of a plane of the CT, and its labels (rows, columns) uint16
        """
        block = _Block(number, logits, unambiguous_labels(logits, self._regions))
        along = self.axes[0]
        stop = int(np.searchsorted(along.high, block.last, side="right"))
        inside = min(max(int(np.searchsorted(along.low, number)), self._next), stop)
        if self._before is not None:  # the lower plane of the first ones is the last one of the block before
            yield from self._label(range(self._next, inside), self._before, block)
        yield from self._label(range(inside, stop), block, block)
        self._next = stop
        needed = stop < self._shape[0] and along.low[stop] <= block.last
        self._before = block.last_plane() if needed else None

    def _label(self, planes: range, low: _Block, high: _Block) -> Iterator[tuple[int, Labels]]:
        """The labels of planes of the CT between these blocks, at most as many at once as in a block."""
        step = len(high.labels)
        for start in range(planes.start, planes.stop, step):
            some = slice(start, min(start + step, planes.stop))
            yield from zip(range(some.start, some.stop), self._labels_between(some, low, high), strict=True)

    def _labels_between(self, planes: slice, low: _Block, high: _Block) -> Labels:
        labels = low.labels.index_select(0, self._index[0][0][planes] - low.first)
        if not self.axes[0].single:
            labels = _common(labels, high.labels.index_select(0, self._index[0][1][planes] - high.first))
        for axis in (1, 2):
            first, second = self._index[axis]
            selected = labels.index_select(axis, first)
            if not self.axes[axis].single:
                selected = _common(selected, labels.index_select(axis, second))
            labels = selected
        found: Labels = labels.cpu().numpy().astype(np.uint16)
        voxels = torch.nonzero(labels.view(-1) == AMBIGUOUS)[:, 0]
        self.interpolated += len(voxels)
        step = max(1, _BLOCK_NUMBERS // len(low.logits))
        for start in range(0, len(voxels), step):
            some = voxels[start : start + step]
            logits = self._interpolate(planes.start, some, (low, high))
            found.reshape(-1)[some.cpu().numpy()] = self._labels_of(logits)
        return found

    def _interpolate(
        self, first: int, voxels: torch.Tensor, blocks: tuple[_Block, _Block]
    ) -> NDArray[np.floating]:
        """Logits at some voxels: (heads, voxels) float16, by scipy's operations in scipy's order.

        Of PyTorch's resampling float32, which may differ from PyTorch's in the last bit. The voxels are
        numbered from the first one of plane ``first`` of the CT.
        """
        _, height, width = self._shape
        at = (voxels // (height * width) + first, voxels // width % height, voxels % width)
        heads, _, rows, columns = blocks[0].logits.shape
        total = torch.zeros((heads, len(voxels)), dtype=torch.float64, device=self._device)
        for corner in itertools.product(*[(0,) if axis.single else (0, 1) for axis in self.axes]):
            k, j, i = (index[c][n] for index, c, n in zip(self._index, corner, at, strict=True))
            block = blocks[corner[0]]
            source = ((k - block.first) * rows + j) * columns + i
            term = block.logits.view(heads, -1).index_select(1, source).double()
            for axis, weights, c, n in zip(self.axes, self._weights, corner, at, strict=True):
                if not axis.single:
                    term *= weights[c][n]
            total += term
        # in one step, as numpy does in nnU-Net; by way of float32 it would be rounded twice
        rounded: NDArray[np.floating] = total.cpu().numpy().astype(self._precision)
        return rounded

    def _labels_of(self, logits: NDArray[np.floating]) -> Labels:
        """The labels as nnU-Net's label manager computes them."""
        if self._regions is None:
            first: Labels = logits.astype(np.float32).argmax(axis=0).astype(np.uint16)
            return first
        inside = (torch.sigmoid(torch.from_numpy(logits).float()) > 0.5).numpy()
        labels = np.zeros(logits.shape[1], dtype=np.uint16)
        for head, number in enumerate(self._regions):
            labels[inside[head]] = number
        return labels


def _common(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The label where both are equal, else `AMBIGUOUS`."""
    return torch.where(one == other, one, AMBIGUOUS)
