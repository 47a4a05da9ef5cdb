"""Growing and shrinking structures by millimetres, as planning organs at risk need it.

A voxel belongs to a grown structure if its centre lies no further from the centre of one of the structure's
voxels than the margin allows: a ball for one margin, an ellipsoid for three, eight parts of ellipsoids for
six (`Margin`). Distances are true ones in millimetres, from the place of each slice, so uneven distances of
slices, oblong pixels and slices shifted sideways (a tilted gantry) make no difference.

The structuring body is taken apart into runs along a row: for each pair of slices and each pair of rows there
is one run of pixels to either side, and to grow by a run is a difference of two running sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.geometry import Box, FloatArray, Place
from orgseg_node.core.volume import Mask

_HAIR = 1e-6  # of a pixel or margin: what rounding of positions may take away


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """How far a structure grows into each direction of the patient, in millimetres."""

    left: float
    right: float
    anterior: float
    posterior: float
    superior: float
    inferior: float

    def __post_init__(self) -> None:
        if any(not 0 <= mm < np.inf for mm in self.six):
            raise ValueError("A margin is a number of millimetres, not below 0.")

    @property
    def six(self) -> tuple[float, float, float, float, float, float]:
        """Left, right, anterior, posterior, superior, inferior."""
        return self.left, self.right, self.anterior, self.posterior, self.superior, self.inferior

    @classmethod
    def even(cls, mm: float) -> Margin:
        """The same in all directions."""
        return cls.along(mm, mm, mm)

    @classmethod
    def along(cls, x_mm: float, y_mm: float, z_mm: float) -> Margin:
        """The same to both sides of each axis of the patient: left-right, front-back, head-feet."""
        return cls(left=x_mm, right=x_mm, anterior=y_mm, posterior=y_mm, superior=z_mm, inferior=z_mm)

    @property
    def mirrored(self) -> Margin:
        """Left and right, front and back, head and feet exchanged."""
        left, right, anterior, posterior, superior, inferior = self.six
        return Margin(
            left=right,
            right=left,
            anterior=posterior,
            posterior=anterior,
            superior=inferior,
            inferior=superior,
        )

    def __str__(self) -> str:
        """In words, as short as possible."""
        left, right, anterior, posterior, superior, inferior = self.six
        if len(set(self.six)) == 1:
            return f"{left:g} mm"
        if (left, anterior, superior) == (right, posterior, inferior):
            return f"{left:g} x {anterior:g} x {superior:g} mm"
        names = ("L", "R", "A", "P", "S", "I")
        return " ".join(f"{name} {mm:g}" for name, mm in zip(names, self.six, strict=True)) + " mm"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reach:
    """A margin along the axes of the picture: toward smaller and toward larger indices, in mm."""

    k: tuple[float, float]
    j: tuple[float, float]
    i: tuple[float, float]


def grow(mask: Mask, place: Place, margin: Margin) -> Mask:
    """A structure with everything within a margin of it.

    Parameters
    ----------
    mask : (K, J, I) bool
    place : where its voxels are
    margin : in mm

    Returns
    -------
    (K, J, I) bool; what would reach beyond the picture is cut off
    """
    grown = np.zeros_like(mask)
    if not mask.any():
        return grown
    reach = _reach(place, margin)
    slices = _Slices(place)
    inner = Box.around(mask)
    targets = slices.within(inner, reach)
    box = Box.around(mask, (0, *slices.padding(reach, mask.shape)))
    rows = slice(box.start[1], box.stop[1]), slice(box.start[2], box.stop[2])
    for source in range(inner.start[0], inner.stop[0]):
        plane = mask[source][rows]
        if not plane.any():
            continue
        sums = _running_sums(plane)
        for target in targets:
            for shift, low, high in slices.runs(source, target, reach):
                _add_run(grown[target][rows], sums, shift, low, high)
    return grown


def shrink(mask: Mask, place: Place, margin: Margin) -> Mask:
    """A structure without everything within a margin of what lies outside of it.

    What lies beyond the picture is unknown and takes nothing away.

    Parameters
    ----------
    mask : (K, J, I) bool
    place : where its voxels are
    margin : in mm; how far each side of the structure moves inwards
    """
    if not mask.any():
        return mask.copy()
    inner = Box.around(mask)
    # what shrinks a structure from its left grows to the right: from as far as the structure would grow
    reach = _reach(place, margin)
    slices = _Slices(place)
    near = slices.within(inner, reach)
    around = Box.around(mask, (0, *slices.padding(reach, mask.shape)))
    # only what lies outside and near can take something away
    outside = np.zeros_like(mask)
    part = (slice(near[0], near[-1] + 1), *around.slices[1:])
    outside[part] = ~mask[part]
    return mask & ~grow(outside, place, margin.mirrored)


def ring(mask: Mask, place: Place, inner: Margin, outer: Margin) -> Mask:
    """What lies within the outer and not within the inner margin of a structure."""
    return grow(mask, place, outer) & ~grow(mask, place, inner)


def _reach(place: Place, margin: Margin) -> _Reach:
    """A margin along the axes of a picture, by the patient direction that each axis comes nearest to."""
    toward = {  # by LPS axis: toward smaller and toward larger coordinates
        0: (margin.right, margin.left),
        1: (margin.anterior, margin.posterior),
        2: (margin.inferior, margin.superior),
    }
    axes = np.asarray(place.axes)
    # each axis another direction, also where two axes are nearest to the same one
    nearest = max(permutations(range(3)), key=lambda lps: float(np.abs(axes[range(3), lps]).sum()))
    pairs = []
    for axis, lps in enumerate(nearest):
        low, high = toward[lps]
        pairs.append((low, high) if axes[axis, lps] > 0 else (high, low))
    return _Reach(k=pairs[0], j=pairs[1], i=pairs[2])


class _Slices:
    """Where the slices of a picture lie against each other."""

    def __init__(self, place: Place) -> None:
        count = place.shape[0]
        first = place.to_lps([(k, 0, 0) for k in range(count)])
        normal, down, across = np.asarray(place.axes)
        self._heights: FloatArray = first @ normal
        self._down: FloatArray = first @ down
        self._across: FloatArray = first @ across
        self._row_mm, self._column_mm = place.pixel_spacing_mm

    def within(self, inner: Box, reach: _Reach) -> list[int]:
        """The slices that a structure in a box may grow into."""
        low = self._heights[inner.start[0]] - reach.k[0] - _HAIR
        high = self._heights[inner.stop[0] - 1] + reach.k[1] + _HAIR
        found: list[int] = np.flatnonzero((self._heights >= low) & (self._heights <= high)).tolist()
        return found

    def padding(self, reach: _Reach, shape: tuple[int, ...]) -> tuple[int, int]:
        """Rows and columns by which a structure may grow, whichever slice it grows into."""
        rows = (max(reach.j) + np.ptp(self._down)) / self._row_mm
        columns = (max(reach.i) + np.ptp(self._across)) / self._column_mm
        return min(int(rows) + 1, shape[1]), min(int(columns) + 1, shape[2])

    def runs(self, source: int, target: int, reach: _Reach) -> Iterator[tuple[int, int, int]]:
        """Rows to move down, and from which to which column to grow, from one slice into another."""
        height = self._heights[target] - self._heights[source]
        left = _left_over(height, reach.k)
        if left < 0:
            return
        down = self._down[target] - self._down[source]
        across = self._across[target] - self._across[source]
        first = int(np.ceil((-reach.j[0] - down) / self._row_mm - _HAIR))
        last = int(np.floor((reach.j[1] - down) / self._row_mm + _HAIR))
        for shift in range(first, last + 1):
            rest = _left_over(shift * self._row_mm + down, reach.j, left)
            if rest < 0:
                continue
            wide = rest**0.5
            low = int(np.ceil((-wide * reach.i[0] - across) / self._column_mm - _HAIR))
            high = int(np.floor((wide * reach.i[1] - across) / self._column_mm + _HAIR))
            if low <= high:
                yield shift, low, high


def _left_over(distance: float, reach: tuple[float, float], of: float = 1.0) -> float:
    """What is left of a squared unit of reach after going so far along one axis; negative if too far."""
    limit = reach[1] if distance > 0 else reach[0]
    if abs(distance) <= _HAIR:
        return of
    if limit <= _HAIR:
        return -1.0
    left = of - float((distance / limit) ** 2)
    return max(left, 0.0) if left > -_HAIR else left


def _running_sums(plane: Mask) -> NDArray[np.int32]:
    """(rows, columns + 1) number of voxels to the left of each column."""
    sums = np.zeros((plane.shape[0], plane.shape[1] + 1), dtype=np.int32)
    np.cumsum(plane, axis=1, dtype=np.int32, out=sums[:, 1:])
    return sums


def _add_run(into: Mask, sums: NDArray[np.int32], shift: int, low: int, high: int) -> None:
    """Set what lies ``shift`` rows below a voxel and ``low`` to ``high`` columns beside it."""
    rows, columns = into.shape
    start, stop = max(shift, 0), min(rows, rows + shift)
    if start >= stop:
        return
    column = np.arange(columns)
    before = np.clip(column - high, 0, columns)
    after = np.clip(column - low + 1, 0, columns)
    source = sums[start - shift : stop - shift]
    into[start:stop] |= source[:, after] > source[:, before]
