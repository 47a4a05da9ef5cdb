"""From planes of logits on the working grid to planes of labels on the grid of the CT.

nnU-Net interpolates the logits of every class at every voxel of the CT in float64, rounds them to float16 and
takes the largest. At nearly all voxels this is not necessary: where one class is clearly the largest at all
surrounding working voxels, it is also the largest between them, because interpolation is a weighted mean.
Only the remaining voxels, about one in a hundred, are interpolated, by the same operations in the same order
as in nnU-Net, so that the labels are the same to the voxel. Where plans name PyTorch's resampling, the logits
are rounded to float32, and a label may differ only where two logits are equal but for the last bit.
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


def unambiguous_labels(logits: torch.Tensor, regions: tuple[int, ...] | None) -> torch.Tensor:
    """The label of each voxel of a plane, where it does not depend on rounding.

    Parameters
    ----------
    logits : (heads, rows, columns) float16
    regions : see `NetworkPlan`

    Returns
    -------
    (rows, columns) int16; `AMBIGUOUS` where the two largest logits are so close that rounding could decide
    """
    if regions is not None:
        return _unambiguous_region_labels(logits, regions)

    def labels_of(rows: torch.Tensor) -> torch.Tensor:
        index, best, second = _two_largest(rows)
        clear = best - second > _CLEAR_RELATIVE * best.abs() + _CLEAR_ABSOLUTE
        return index.masked_fill_(~clear, AMBIGUOUS)

    return _in_row_blocks(logits, labels_of)


def argmax_labels(logits: torch.Tensor, regions: tuple[int, ...] | None) -> torch.Tensor:
    """The label of each voxel of a plane: that of the largest logit.

    Parameters
    ----------
    logits, regions : see `unambiguous_labels`

    Returns
    -------
    (rows, columns) int16
    """
    if regions is not None:
        return _region_labels(logits, regions)
    return _in_row_blocks(logits, _argmax)


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


def _in_row_blocks(logits: torch.Tensor, labels_of: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Compute labels; on a CPU a few rows at a time, so that the intermediate results stay in the cache."""
    if logits.is_cuda:
        return labels_of(logits)
    rows = max(1, _BLOCK_VOXELS // logits.shape[2])
    return torch.cat([labels_of(block) for block in torch.split(logits, rows, dim=1)])


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


@dataclass(slots=True, eq=False)
class _Plane:
    """A working plane that is still needed: (heads, rows, columns) logits and (rows, columns) labels."""

    logits: torch.Tensor
    labels: torch.Tensor


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
        self._index = [
            (torch.from_numpy(axis.low).to(device), torch.from_numpy(axis.high).to(device))
            for axis in self.axes
        ]
        self._planes: dict[int, _Plane] = {}
        self._next = 0
        self.interpolated = 0

    def push(self, number: int, logits: torch.Tensor) -> Iterator[tuple[int, Labels]]:
        """Take the next working plane; yield each plane of the CT that can now be labelled.

        Parameters
        ----------
        number : of the working plane, ascending by one
        logits : (heads, rows, columns) float16, contiguous; kept, so it must not be changed afterwards

        Yields
        ------
        number of a plane of the CT, and its labels (rows, columns) uint16
        """
        self._planes[number] = _Plane(logits=logits, labels=unambiguous_labels(logits, self._regions))
        slices = self.axes[0]
        while self._next < self._shape[0] and slices.high[self._next] <= number:
            yield self._next, self._label(self._next)
            self._next += 1
        needed = slices.low[self._next] if self._next < self._shape[0] else number + 1
        for old in [n for n in self._planes if n < needed]:
            del self._planes[old]

    def _label(self, k: int) -> Labels:
        low, high = (self._planes[int(n[k])] for n in (self.axes[0].low, self.axes[0].high))
        labels = low.labels if low is high else _common(low.labels, high.labels)
        for axis in (0, 1):
            first, second = self._index[axis + 1]
            selected = labels.index_select(axis, first)
            if not self.axes[axis + 1].single:
                selected = _common(selected, labels.index_select(axis, second))
            labels = selected
        plane: Labels = labels.cpu().numpy().astype(np.uint16)
        rows, columns = torch.nonzero(labels == AMBIGUOUS, as_tuple=True)
        self.interpolated += len(rows)
        step = max(1, _BLOCK_NUMBERS // len(low.logits))
        for start in range(0, len(rows), step):
            j, i = rows[start : start + step], columns[start : start + step]
            logits = self._interpolate(k, (low.logits, high.logits), j, i)
            plane[j.cpu().numpy(), i.cpu().numpy()] = self._labels_of(logits)
        return plane

    def _interpolate(
        self, k: int, planes: tuple[torch.Tensor, torch.Tensor], j: torch.Tensor, i: torch.Tensor
    ) -> NDArray[np.floating]:
        """Logits at some voxels: (heads, voxels) float16, by scipy's operations in scipy's order.

        Of PyTorch's resampling float32, which may differ from PyTorch's in the last bit.
        """
        heads, width = len(planes[0]), planes[0].shape[2]
        total = torch.zeros((heads, len(j)), dtype=torch.float64, device=self._device)
        slices, rows, columns = self.axes
        corners = [(0,) if axis.single else (0, 1) for axis in self.axes]
        for a, b, c in itertools.product(*corners):
            at = self._index[1][b][j] * width + self._index[2][c][i]
            term = planes[a].view(heads, -1).index_select(1, at).double()
            if not slices.single:
                term *= float(_weights(slices, a)[k])
            if not rows.single:
                term *= self._weight(rows, b)[j]
            if not columns.single:
                term *= self._weight(columns, c)[i]
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

    def _weight(self, axis: LinearInterpolation, corner: int) -> torch.Tensor:
        return torch.from_numpy(_weights(axis, corner)).to(self._device)


def _weights(axis: LinearInterpolation, corner: int) -> NDArray[np.float64]:
    return axis.high_weight if corner else axis.low_weight


def _common(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The label where both are equal, else `AMBIGUOUS`."""
    return torch.where(one == other, one, AMBIGUOUS)
