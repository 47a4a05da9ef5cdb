"""Margins around structures in millimetres, as for planning organs at risk: growing and shrinking.

A voxel belongs to a grown structure if its centre is within the margin of the centre of one of the
structure's voxels: within a sphere for one margin, an ellipsoid for three, eight octants of ellipsoids for
six (`Margin`). Distances are true distances in millimetres, computed from the position of each slice, so the
result is correct for uneven slice distances, non-square pixels and slices shifted in-plane (a tilted gantry).

The structuring element is divided into runs along a row: for each pair of slices and each pair of rows there
is one run of pixels, and dilation by a run is a difference of two cumulative sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.geometry import Box, FloatArray, VoxelGeometry
from orgseg_node.core.volume import Mask

_ROUNDING = 1e-6  # of a pixel or margin: tolerance for the rounding of positions


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """Distances in mm by which a structure grows in each patient direction.

    Attributes
    ----------
    left, right, anterior, posterior, superior, inferior : mm, at least 0
    """

    left: float
    right: float
    anterior: float
    posterior: float
    superior: float
    inferior: float

    def __post_init__(self) -> None:
        if any(not 0 <= mm < np.inf for mm in self.values_mm):
            raise ValueError("A margin must be a number of millimetres, at least 0.")

    @property
    def values_mm(self) -> tuple[float, float, float, float, float, float]:
        """Left, right, anterior, posterior, superior, inferior."""
        return self.left, self.right, self.anterior, self.posterior, self.superior, self.inferior

    @classmethod
    def uniform(cls, mm: float) -> Margin:
        """The same margin in all directions, in mm."""
        return cls.per_axis(mm, mm, mm)

    @classmethod
    def per_axis(cls, x_mm: float, y_mm: float, z_mm: float) -> Margin:
        """The same margin to both sides of each patient axis.

        Parameters
        ----------
        x_mm, y_mm, z_mm : left and right, anterior and posterior, superior and inferior
        """
        return cls(left=x_mm, right=x_mm, anterior=y_mm, posterior=y_mm, superior=z_mm, inferior=z_mm)

    @property
    def opposite(self) -> Margin:
        """Left and right, anterior and posterior, superior and inferior exchanged."""
        left, right, anterior, posterior, superior, inferior = self.values_mm
        return Margin(
            left=right,
            right=left,
            anterior=posterior,
            posterior=anterior,
            superior=inferior,
            inferior=superior,
        )

    def __str__(self) -> str:
        """As short text, such as ``5 mm`` or ``5 x 5 x 10 mm``."""
        left, right, anterior, posterior, superior, inferior = self.values_mm
        if len(set(self.values_mm)) == 1:
            return f"{left:g} mm"
        if (left, anterior, superior) == (right, posterior, inferior):
            return f"{left:g} x {anterior:g} x {superior:g} mm"
        names = ("L", "R", "A", "P", "S", "I")
        return " ".join(f"{name} {mm:g}" for name, mm in zip(names, self.values_mm, strict=True)) + " mm"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reach:
    """A margin along the array axes in mm: towards smaller and towards larger indices."""

    k: tuple[float, float]
    j: tuple[float, float]
    i: tuple[float, float]


def grow(mask: Mask, geometry: VoxelGeometry, margin: Margin) -> Mask:
    """Dilate a structure by a margin.

    Parameters
    ----------
    mask : (K, J, I) bool
    geometry : of its voxels, LPS mm
    margin : in mm by patient direction

    Returns
    -------
    (K, J, I) bool, cut off at the border of the image
    """
    grown = np.zeros_like(mask)
    if not mask.any():
        return grown
    reach = _reach(geometry, margin)
    slices = _Slices(geometry)
    inner = Box.around(mask)
    targets = slices.within(inner, reach)
    box = Box.around(mask, (0, *slices.padding(reach, mask.shape)))
    rows = slice(box.start[1], box.stop[1]), slice(box.start[2], box.stop[2])
    for source in range(inner.start[0], inner.stop[0]):
        plane = mask[source][rows]
        if not plane.any():
            continue
        sums = _cumulative_sums(plane)
        for target in targets:
            for shift, low, high in slices.runs(source, target, reach):
                _add_run(grown[target][rows], sums, shift, low, high)
    return grown


def shrink(mask: Mask, geometry: VoxelGeometry, margin: Margin) -> Mask:
    """Erode a structure by a margin.

    Beyond the image nothing is known, so no erosion starts from its border.

    Parameters
    ----------
    mask : (K, J, I) bool
    geometry : of its voxels, LPS mm
    margin : in mm by patient direction; how far each side of the structure moves inwards

    Returns
    -------
    (K, J, I) bool
    """
    if not mask.any():
        return mask.copy()
    inner = Box.around(mask)
    # eroding from the left is dilating the outside to the right; only the outside within the margin matters
    reach = _reach(geometry, margin)
    slices = _Slices(geometry)
    near = slices.within(inner, reach)
    box = Box.around(mask, (0, *slices.padding(reach, mask.shape)))
    outside = np.zeros_like(mask)
    part = (slice(near[0], near[-1] + 1), *box.slices[1:])
    outside[part] = ~mask[part]
    return mask & ~grow(outside, geometry, margin.opposite)


def ring(mask: Mask, geometry: VoxelGeometry, inner: Margin, outer: Margin) -> Mask:
    """The voxels within the outer and not within the inner margin of a structure.

    Parameters
    ----------
    mask : (K, J, I) bool
    geometry : of its voxels, LPS mm
    inner, outer : in mm by patient direction

    Returns
    -------
    (K, J, I) bool, cut off at the border of the image
    """
    return grow(mask, geometry, outer) & ~grow(mask, geometry, inner)


def _reach(geometry: VoxelGeometry, margin: Margin) -> _Reach:
    """A margin along the array axes, by the patient direction closest to each axis."""
    toward = {  # by LPS axis: towards smaller and towards larger coordinates
        0: (margin.right, margin.left),
        1: (margin.anterior, margin.posterior),
        2: (margin.inferior, margin.superior),
    }
    axes = np.asarray(geometry.axes)
    # a different direction for each axis, also if two axes are closest to the same one
    nearest = max(permutations(range(3)), key=lambda lps: float(np.abs(axes[range(3), lps]).sum()))
    pairs = []
    for axis, lps in enumerate(nearest):
        low, high = toward[lps]
        pairs.append((low, high) if axes[axis, lps] > 0 else (high, low))
    return _Reach(k=pairs[0], j=pairs[1], i=pairs[2])


class _Slices:
    """Positions of the slices of an image relative to each other, in mm."""

    def __init__(self, geometry: VoxelGeometry) -> None:
        count = geometry.shape[0]
        first = geometry.to_lps([(k, 0, 0) for k in range(count)])
        normal, down, across = np.asarray(geometry.axes)
        self._heights: FloatArray = first @ normal
        self._down: FloatArray = first @ down
        self._across: FloatArray = first @ across
        self._row_mm, self._column_mm = geometry.pixel_spacing_mm

    def within(self, inner: Box, reach: _Reach) -> list[int]:
        """Indices of the slices into which a structure in a box may grow."""
        low = self._heights[inner.start[0]] - reach.k[0] - _ROUNDING
        high = self._heights[inner.stop[0] - 1] + reach.k[1] + _ROUNDING
        found: list[int] = np.flatnonzero((self._heights >= low) & (self._heights <= high)).tolist()
        return found

    def padding(self, reach: _Reach, shape: tuple[int, ...]) -> tuple[int, int]:
        """Largest number of rows and columns by which a structure may grow, in any slice."""
        rows = (max(reach.j) + np.ptp(self._down)) / self._row_mm
        columns = (max(reach.i) + np.ptp(self._across)) / self._column_mm
        return min(int(rows) + 1, shape[1]), min(int(columns) + 1, shape[2])

    def runs(self, source: int, target: int, reach: _Reach) -> Iterator[tuple[int, int, int]]:
        """For the growth from one slice into another: offset in rows, first and last offset in columns."""
        height = self._heights[target] - self._heights[source]
        left = _remaining(height, reach.k)
        if left < 0:
            return
        down = self._down[target] - self._down[source]
        across = self._across[target] - self._across[source]
        first = int(np.ceil((-reach.j[0] - down) / self._row_mm - _ROUNDING))
        last = int(np.floor((reach.j[1] - down) / self._row_mm + _ROUNDING))
        for shift in range(first, last + 1):
            rest = _remaining(shift * self._row_mm + down, reach.j, left)
            if rest < 0:
                continue
            wide = rest**0.5
            low = int(np.ceil((-wide * reach.i[0] - across) / self._column_mm - _ROUNDING))
            high = int(np.floor((wide * reach.i[1] - across) / self._column_mm + _ROUNDING))
            if low <= high:
                yield shift, low, high


def _remaining(distance: float, reach: tuple[float, float], of: float = 1.0) -> float:
    """The squared relative reach that remains after a distance along one axis; negative if it is too far."""
    limit = reach[1] if distance > 0 else reach[0]
    if abs(distance) <= _ROUNDING:
        return of
    if limit <= _ROUNDING:
        return -1.0
    left = of - float((distance / limit) ** 2)
    return max(left, 0.0) if left > -_ROUNDING else left


def _cumulative_sums(plane: Mask) -> NDArray[np.int32]:
    """(rows, columns + 1) int32 number of voxels to the left of each column."""
    sums = np.zeros((plane.shape[0], plane.shape[1] + 1), dtype=np.int32)
    np.cumsum(plane, axis=1, dtype=np.int32, out=sums[:, 1:])
    return sums


def _add_run(into: Mask, sums: NDArray[np.int32], shift: int, low: int, high: int) -> None:
    """Set the voxels that are ``shift`` rows and ``low`` to ``high`` columns from a voxel of the plane."""
    rows, columns = into.shape
    start, stop = max(shift, 0), min(rows, rows + shift)
    if start >= stop:
        return
    column = np.arange(columns)
    before = np.clip(column - high, 0, columns)
    after = np.clip(column - low + 1, 0, columns)
    source = sums[start - shift : stop - shift]
    into[start:stop] |= source[:, after] > source[:, before]
