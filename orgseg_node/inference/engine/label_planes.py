"""From planes of logits on the working grid to planes of labels on the grid of the CT.

nnU-Net interpolates the logits of every class at every voxel of the CT, in double precision, rounds them to
16 bits and takes the largest. Nearly everywhere that is needless: where the same class wins clearly at all
working voxels around, it wins in between as well, because interpolation is a weighted mean. Only the rest,
about one voxel in a hundred, is interpolated, by the same operations in the same order as in nnU-Net, so that
the labels are the same to the voxel.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from orgseg_node.core.geometry import Shape
from orgseg_node.inference.engine.resampling import Linear, linear, nearest
from orgseg_node.inference.engine.working import Regrid

Labels = NDArray[np.uint16]

UNCLEAR = -1
# Rounded to 16 bits, two logits can become equal only if they are nearer than one part in 1024; a winner by
# twice that at every working voxel around cannot be caught up with in between.
_CLEAR_PART, _CLEAR_FLOOR = 2.0**-9, 2.0**-20
_CLEAR_REGION = 1e-3  # the sigmoid of a logit farther from 0 than this is not rounded to one half
_CACHED = 65_536  # voxels that are compared together on a CPU: enough for all cores, and what a cache holds
_AT_ONCE = 4_000_000  # numbers in double precision that are interpolated together


def winners(logits: torch.Tensor, regions: tuple[int, ...] | None) -> torch.Tensor:
    """The label that wins clearly at each voxel of a plane.

    Parameters
    ----------
    logits : (heads, rows, columns) half
    regions : see `Rules`

    Returns
    -------
    (rows, columns) int16; `UNCLEAR` where the winner is so near to another that rounding could decide
    """
    if regions is not None:
        return _region_winners(logits, regions)

    def clear_winners(rows: torch.Tensor) -> torch.Tensor:
        index, best, second = _ranked(rows)
        clear = best - second > _CLEAR_PART * best.abs() + _CLEAR_FLOOR
        return index.masked_fill_(~clear, UNCLEAR)

    return _by_rows(logits, clear_winners)


def leaders(logits: torch.Tensor, regions: tuple[int, ...] | None) -> torch.Tensor:
    """The label that wins at each voxel of a plane, however narrowly.

    Parameters
    ----------
    logits, regions : see `winners`

    Returns
    -------
    (rows, columns) int16
    """
    if regions is not None:
        return _painted(logits, regions)
    return _by_rows(logits, _first_of_largest)


def _first_of_largest(logits: torch.Tensor) -> torch.Tensor:
    best = logits[0].clone()
    index = torch.zeros(best.shape, dtype=torch.int16, device=best.device)
    for head in range(1, len(logits)):
        index.masked_fill_(logits[head] > best, head)
        torch.maximum(best, logits[head], out=best)
    return index


def _ranked(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
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


def _by_rows(logits: torch.Tensor, find: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """On a CPU a few rows at a time: what is looked at again and again then stays in the cache."""
    if logits.is_cuda:
        return find(logits)
    rows = max(1, _CACHED // logits.shape[2])
    return torch.cat([find(some) for some in torch.split(logits, rows, dim=1)])


def _region_winners(logits: torch.Tensor, regions: tuple[int, ...]) -> torch.Tensor:
    painted = _painted(logits, regions)
    unclear = ~(logits.abs() > _CLEAR_REGION).all(dim=0)
    for number, channels in Counter((0, *regions)).items():
        if channels > 1:  # one channel may write it here and another there, and neither in between
            unclear |= painted == number
    return painted.masked_fill_(unclear, UNCLEAR)


def _painted(logits: torch.Tensor, regions: tuple[int, ...]) -> torch.Tensor:
    label = torch.zeros(logits.shape[1:], dtype=torch.int16, device=logits.device)
    for head, number in enumerate(regions):
        label.masked_fill_(logits[head] > 0, number)
    return label


def interpolation(regrid: Regrid) -> tuple[Linear, Linear, Linear]:
    """How logits are interpolated along each axis."""
    z, y, x = (
        nearest(a, b) if a == b or n == regrid.thick_axis else linear(a, b)
        for n, (a, b) in enumerate(zip(regrid.source, regrid.target, strict=True))
    )
    return z, y, x


@dataclass(slots=True, eq=False)
class _Plane:
    """A working plane that is still needed."""

    logits: torch.Tensor
    winners: torch.Tensor


class LabelPlanes:
    """Takes working planes in their order and gives the planes of the CT that they complete.

    Parameters
    ----------
    regrid : from the working grid to the grid of the cropped CT
    regions : see `Rules`
    device : where the logits lie
    """

    def __init__(self, regrid: Regrid, regions: tuple[int, ...] | None, device: torch.device) -> None:
        self._shape: Shape = regrid.target
        self._regions = regions
        self._device = device
        self.axes = interpolation(regrid)
        self._index = [
            (torch.from_numpy(axis.low).to(device), torch.from_numpy(axis.high).to(device))
            for axis in self.axes
        ]
        self._waiting: dict[int, _Plane] = {}
        self._next = 0
        self.interpolated = 0

    def push(self, number: int, logits: torch.Tensor) -> Iterator[tuple[int, Labels]]:
        """Take the next working plane; give each plane of the CT that can now be labelled.

        Parameters
        ----------
        number : of the working plane, ascending by one
        logits : (heads, rows, columns) half, contiguous; kept, so it must not be written to afterwards

        Yields
        ------
        number of a plane of the CT, and its labels (rows, columns)
        """
        self._waiting[number] = _Plane(logits=logits, winners=winners(logits, self._regions))
        slices = self.axes[0]
        while self._next < self._shape[0] and slices.high[self._next] <= number:
            yield self._next, self._label(self._next)
            self._next += 1
        needed = slices.low[self._next] if self._next < self._shape[0] else number + 1
        for old in [n for n in self._waiting if n < needed]:
            del self._waiting[old]

    def _label(self, k: int) -> Labels:
        low, high = (self._waiting[int(n[k])] for n in (self.axes[0].low, self.axes[0].high))
        agreed = low.winners if low is high else _agreed(low.winners, high.winners)
        for axis in (0, 1):
            first, second = self._index[axis + 1]
            taken = agreed.index_select(axis, first)
            if not self.axes[axis + 1].single:
                taken = _agreed(taken, agreed.index_select(axis, second))
            agreed = taken
        labels: Labels = agreed.cpu().numpy().astype(np.uint16)
        rows, columns = torch.nonzero(agreed == UNCLEAR, as_tuple=True)
        self.interpolated += len(rows)
        step = max(1, _AT_ONCE // len(low.logits))
        for start in range(0, len(rows), step):
            j, i = rows[start : start + step], columns[start : start + step]
            logits = self._interpolate(k, (low.logits, high.logits), j, i)
            labels[j.cpu().numpy(), i.cpu().numpy()] = self._decide(logits)
        return labels

    def _interpolate(
        self, k: int, planes: tuple[torch.Tensor, torch.Tensor], j: torch.Tensor, i: torch.Tensor
    ) -> NDArray[np.float16]:
        """Logits of all heads at some voxels: (heads, voxels), with scipy's operations in scipy's order."""
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
        # in one step, as numpy does there; by way of 32 bits it would be rounded twice
        rounded: NDArray[np.float16] = total.cpu().numpy().astype(np.float16)
        return rounded

    def _decide(self, logits: NDArray[np.float16]) -> Labels:
        """The labels of nnU-Net's label manager."""
        if self._regions is None:
            first: Labels = logits.astype(np.float32).argmax(axis=0).astype(np.uint16)
            return first
        inside = (torch.sigmoid(torch.from_numpy(logits).float()) > 0.5).numpy()
        labels = np.zeros(logits.shape[1], dtype=np.uint16)
        for head, number in enumerate(self._regions):
            labels[inside[head]] = number
        return labels

    def _weight(self, axis: Linear, corner: int) -> torch.Tensor:
        return torch.from_numpy(_weights(axis, corner)).to(self._device)


def _weights(axis: Linear, corner: int) -> NDArray[np.float64]:
    return axis.high_weight if corner else axis.low_weight


def _agreed(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return torch.where(one == other, one, UNCLEAR)
