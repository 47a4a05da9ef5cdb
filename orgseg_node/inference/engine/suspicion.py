"""Where an organ is only suspected: voxels in which it is less likely than background, but not by far.

Each organ is compared with the background alone, so that none hides another one, however likely it is. The
voxels themselves are kept as well, up to a number for each organ, which does not depend on the CT.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from orgseg_node.core.boxes import Boxes
from orgseg_node.core.geometry import Box, enclosing_box
from orgseg_node.core.volume import Mask
from orgseg_node.inference.engine.resampling import Indices
from orgseg_node.inference.engine.working import Regrid
from orgseg_node.inference.suspected import Suspected

SUSPICION: Final = 0.05
"""Probability of an organ, against background, from which on a voxel is suspected if nothing else is said."""

MAX_VOXELS: Final = 65_536
"""Number of suspected working voxels of an organ up to which they are kept: 8 litres at 5 mm, in 2 MB."""


class SuspectedLabels:
    """Where each label is suspected, from the planes of a run.

    Parameters
    ----------
    to_ct : resampling from the working grid, all of whose planes are shown, to the grid of the CT
    regions : see `NetworkPlan`; each region stands for itself, so that there is no background
    probability : of a label, against background, from which on a voxel is suspected
    region : (K, J, I) bool on the grid of the CT, near which labels are suspected; None for everywhere
    """

    def __init__(
        self, to_ct: Regrid, regions: tuple[int, ...] | None, probability: float, region: Mask | None
    ) -> None:
        self._bounds = [voxels_around(a, b) for a, b in zip(to_ct.source, to_ct.target, strict=True)]
        self._regions = regions
        self._bonus = math.log((1 - probability) / probability)
        self._region = region
        self._boxes: dict[int, Box] = {}
        self._voxels: dict[int, list[NDArray[np.int32]]] = {}
        self._counts: Counter[int] = Counter()

    def add(self, number: int, logits: torch.Tensor) -> None:
        """Take some planes.

        Parameters
        ----------
        number : of the first of these working planes
        logits : (heads, planes, rows, columns) float16; not changed
        """
        if self._regions is not None:
            suspected, labels = logits >= -self._bonus, self._regions
        else:
            suspected = logits[1:] >= logits[0] - self._bonus
            labels = tuple(range(1, len(logits)))
        if self._region is not None:
            near = [self._near_region(number + n, self._region) for n in range(logits.shape[1])]
            suspected &= torch.from_numpy(np.stack(near)).to(logits.device)
        rows, columns = (suspected.any(axis).cpu().numpy() for axis in (3, 2))
        for head in np.flatnonzero(rows.any(axis=(1, 2))):
            first, stop = _ends(rows[head].any(axis=1))
            (top, bottom), (left, right) = _ends(rows[head].any(axis=0)), _ends(columns[head].any(axis=0))
            here = Box(start=(number + first, top, left), stop=(number + stop, bottom, right))
            before = self._boxes.get(labels[head], here)
            self._boxes[labels[head]] = enclosing_box([before, here])
            self._keep(labels[head], here, suspected[head, first:stop, top:bottom, left:right].cpu().numpy())

    def in_ct(self) -> Mapping[int, Suspected]:
        """Where each label is suspected that is suspected anywhere, in voxels of the CT, rounded outward."""
        return {label: self._to_ct(label, box) for label, box in self._boxes.items()}

    def _keep(self, label: int, where: Box, suspected: Mask) -> None:
        """Keep the voxels of a part of the working grid, unless those of the label become too many."""
        self._counts[label] += int(np.count_nonzero(suspected))
        if self._counts[label] > MAX_VOXELS:
            self._voxels.pop(label, None)
            return
        here = np.argwhere(suspected).astype(np.int32) + np.array(where.start, dtype=np.int32)
        self._voxels.setdefault(label, []).append(here)

    def _to_ct(self, label: int, box: Box) -> Suspected:
        kept = self._voxels.get(label)
        around = self._around(np.array([box.start]), np.array([box.stop])).enclosing()
        if kept is None:
            return Suspected(box=around, voxels=None)
        voxels = np.concatenate(kept)
        return Suspected(box=around, voxels=self._around(voxels, voxels + 1))

    def _around(self, start: NDArray[np.integer[Any]], stop: NDArray[np.integer[Any]]) -> Boxes:
        """Boxes of the working grid, in voxels of the CT, rounded outward."""
        firsts = [first[start[:, n]] for n, (first, _) in enumerate(self._bounds)]
        stops = [last[stop[:, n] - 1] for n, (_, last) in enumerate(self._bounds)]
        return Boxes(
            start=np.stack(firsts, axis=1).astype(np.int32), stop=np.stack(stops, axis=1).astype(np.int32)
        )

    def _near_region(self, number: int, region: Mask) -> Mask:
        """The voxels of a working plane that touch the region, (rows, columns) bool."""
        (first, stop), *others = self._bounds
        near: Mask = np.any(region[first[number] : stop[number]], axis=0)
        for axis, (a, b) in enumerate(others):
            sums = np.cumsum(near, axis=axis, dtype=np.int32)
            sums = np.concatenate([np.zeros_like(np.take(sums, [0], axis=axis)), sums], axis=axis)
            near = np.take(sums, b, axis=axis) > np.take(sums, a, axis=axis)
        return near


def voxels_around(inputs: int, outputs: int) -> tuple[Indices, Indices]:
    """The voxels of the CT that a working voxel lies in or is interpolated to, along one axis.

    A working voxel reaches half a voxel beyond itself; at least one voxel of the CT belongs to each, also
    where that is the coarser grid.

    Parameters
    ----------
    inputs, outputs : number of voxels of the working grid and of the CT

    Returns
    -------
    the first one of each working voxel, and the one after the last
    """
    scale = outputs / inputs
    numbers = np.arange(inputs)
    first = np.floor((numbers - 0.5) * scale).clip(0, outputs - 1)
    stop = np.ceil((numbers + 1.5) * scale).clip(1, outputs)
    return first.astype(np.int64), stop.astype(np.int64)


def _ends(found: NDArray[np.bool_]) -> tuple[int, int]:
    """The first true value, and the one after the last."""
    where = np.flatnonzero(found)
    return int(where[0]), int(where[-1]) + 1
