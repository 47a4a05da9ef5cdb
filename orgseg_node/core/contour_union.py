"""The voxels that contours of other systems enclose, and how the contours of a slice lie to each other.

Contours of the type CLOSED_PLANAR unite: a voxel is inside if it is inside any of them. Those of the type
CLOSEDPLANAR_XOR exclude each other: a voxel is inside if it is inside an odd number (PS3.3 C.8.8.6.3). Within
one contour the even-odd rule holds, so a keyhole leaves its hole empty. The voxels of a contour are those of
`core.rasterise`.

The node's own contours follow the even-odd rule as a whole and are disjoint, so both rules agree on them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.geometry import Box, Grid, VoxelGeometry
from orgseg_node.core.rasterise import Contour, rasterise

_Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnitedContours:
    """The voxels of a structure, and what is unusual about its contours.

    Attributes
    ----------
    mask : (K, J, I) bool
    repeated : contours that enclose the same voxels as another one of the slice; they count once
    nested : CLOSED_PLANAR contours that lie inside another one of the slice; they change nothing
    overlapping : pairs of CLOSED_PLANAR contours of a slice that overlap in part
    """

    mask: _Mask
    repeated: int = 0
    nested: int = 0
    overlapping: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Area:
    """The pixels of one contour: a block of its slice."""

    block: Box
    mask: _Mask

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.mask))

    def common(self, other: _Area) -> int:
        """Number of pixels that both have."""
        return int(np.count_nonzero(self._within(other) & other._within(self)))

    def _within(self, other: _Area) -> _Mask:
        """These pixels, in the common part of both blocks."""
        start = np.maximum(self.block.start, other.block.start)
        stop = np.maximum(np.minimum(self.block.stop, other.block.stop), start)
        low = np.subtract(start, self.block.start)
        high = np.subtract(stop, self.block.start)
        return self.mask[:, low[1] : high[1], low[2] : high[2]]


def unite(closed: Iterable[Contour], exclusive: Iterable[Contour], grid: VoxelGeometry) -> UnitedContours:
    """The voxels of a structure from its contours.

    Parameters
    ----------
    closed : CLOSED_PLANAR contours
    exclusive : CLOSEDPLANAR_XOR contours; in a slice with both types they cut holes into the others
    grid : only its shape is used; ``points`` are index coordinates on it

    Raises
    ------
    ValueError
        If a contour is on a slice that the grid does not have.
    """
    mask = np.zeros(grid.shape, dtype=np.bool_)
    repeated = nested = overlapping = 0
    for k, areas in _areas(closed, grid).items():
        for area in areas:
            mask[area.block.slices] |= area.mask
        if sum(area.pixels for area in areas) == np.count_nonzero(mask[k]):
            continue  # they are disjoint, as nearly always
        kept, copies = _without_repeated(areas)
        repeated += copies
        for one, other in combinations(kept, 2):
            common = one.common(other)
            nested += common > 0 and common in {one.pixels, other.pixels}
            overlapping += common > 0 and common not in {one.pixels, other.pixels}
    for areas in _areas(exclusive, grid).values():
        kept, copies = _without_repeated(areas)
        repeated += copies
        for area in kept:
            mask[area.block.slices] ^= area.mask
    return UnitedContours(mask=mask, repeated=repeated, nested=nested, overlapping=overlapping)


def _areas(contours: Iterable[Contour], grid: VoxelGeometry) -> dict[int, list[_Area]]:
    """The pixels of each contour that encloses any, by slice."""
    found: defaultdict[int, list[_Area]] = defaultdict(list)
    for contour in contours:
        count_k, *size = grid.shape
        if not 0 <= contour.k < count_k:
            raise ValueError(f"A contour on slice {contour.k} of {count_k}.")
        if not len(contour.points):
            continue
        places = np.clip(contour.points, -1, size[::-1]).astype(np.int64)
        (left, top), (right, bottom) = places.min(axis=0).tolist(), places.max(axis=0).tolist()
        start = (contour.k, max(top, 0), max(left, 0))
        stop = (contour.k + 1, min(bottom + 1, size[0]), min(right + 1, size[1]))
        if stop[1] <= start[1] or stop[2] <= start[2]:
            continue
        part = Grid(
            shape=(1, stop[1] - start[1], stop[2] - start[2]),
            spacing_mm=(1.0, 1.0, 1.0),
            origin_mm=(0.0, 0.0, 0.0),
        )
        moved = Contour(k=0, points=contour.points - (start[2], start[1]))
        pixels = rasterise([moved], part)
        if pixels.any():
            found[contour.k].append(_Area(block=Box(start=start, stop=stop), mask=pixels))
    return found


def _without_repeated(areas: Sequence[_Area]) -> tuple[list[_Area], int]:
    """Contours with different pixels, and the number of the others."""
    kept: list[_Area] = []
    for area in areas:
        if not any(area.pixels == other.pixels == area.common(other) for other in kept):
            kept.append(area)
    return kept, len(areas) - len(kept)
