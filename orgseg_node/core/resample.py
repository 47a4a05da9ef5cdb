"""From slices, each at its own place, to the regular grid a network sees, and labels back to the slices.

The grid keeps the slices' own rows, columns and normal, so only two things are ever interpolated: between two
slices where no slice lies on a plane of the grid, and inside a slice that is shifted sideways by a part of a
pixel (a tilted gantry). A slice that lies on a plane, shifted by whole pixels, is copied as it is.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.geometry import FloatArray, Grid, Place, SliceStack
from orgseg_node.core.volume import HuArray, LabelMap

OUTSIDE_HU = -1024
"""What the grid holds where no slice reaches."""

ON_PLANE_MM, ON_PLANE_FRACTION = 0.05, 0.02
"""A slice lies on a plane within so much, or so large a part of the distance of planes."""

MAX_GROWTH = 4
"""So many planes for each slice at most, so that a grid cannot become many times larger than its slices."""

_ON_PIXEL = 0.05  # of a pixel: a smaller sideways shift than this is none
_COST_OF_PLANES = 0.1  # a finer grid must put more slices onto planes than it adds planes, by this rate
_DIVISORS, _USUAL_GAPS = range(1, 6), 20


def grid_for(stack: SliceStack) -> Grid:
    """The regular grid on which a network sees a stack of slices.

    The distance of planes is at most the ordinary one of the slices, and chosen so that as many slices as
    possible lie on planes: the ordinary distance where slices are missing, 2.5 mm where a series goes from
    2.5 to 5 mm. The field of view grows by what the slices are shifted sideways against each other.

    Parameters
    ----------
    stack : parallel slices

    Returns
    -------
    grid with the rows, columns and normal of the stack, from its first slice to its last
    """
    heights = stack.heights_mm
    start, spacing = _planes(heights)
    count = int(np.ceil((heights[-1] - start) / spacing - _tolerance(spacing) / spacing)) + 1
    _, column, row = (np.asarray(axis) for axis in stack.axes)
    origin = stack.positions_mm[0] + (start - heights[0]) * np.asarray(stack.axes[0])
    size = []
    for axis, step, pixels in zip((column, row), stack.pixel_spacing_mm, stack.shape[1:], strict=True):
        shifts = (stack.positions_mm - stack.positions_mm[0]) @ axis / step
        before = int(np.ceil(-shifts.min() - _ON_PIXEL))
        after = int(np.ceil(shifts.max() - _ON_PIXEL))
        origin = origin - before * step * axis
        size.append(pixels + before + after)
    x, y, z = (float(v) for v in origin)
    return Grid(
        shape=(count, size[0], size[1]),
        spacing_mm=(spacing, *stack.pixel_spacing_mm),
        origin_mm=(x, y, z),
        axes=stack.axes,
    )


def to_grid(hu: HuArray, stack: SliceStack, grid: Grid) -> HuArray:
    """Hounsfield units of slices on a regular grid.

    Parameters
    ----------
    hu : (K, J, I) values on the slices
    stack : where the slices are
    grid : of the same rows, columns and normal, such as `grid_for` gives

    Returns
    -------
    values on the grid, of the same dtype; linear between slices, -1024 where no slice reaches

    Raises
    ------
    ValueError
        If the grid has other pixels or directions than the slices, or the values are not those of the stack.
    """
    if hu.shape != stack.shape:
        raise ValueError(f"Values of {hu.shape} voxels on a stack of {stack.shape}.")
    lay = _lie(stack, grid)
    result = np.full(grid.shape, OUTSIDE_HU, dtype=hu.dtype)
    shown: dict[int, NDArray[np.float32]] = {}
    for k in range(grid.shape[0]):
        below, above, part = _neighbours(lay.planes, k, _tolerance(grid.spacing_mm[0]) / grid.spacing_mm[0])
        if part == 0 and lay.is_whole(below):
            lay.copy(hu[below], below, result[k])
            continue
        shown = {n: plane for n, plane in shown.items() if n in {below, above}}
        for n in {below, above} - shown.keys():
            shown[n] = lay.shifted(hu[n], n, grid.shape[1:])
        plane = shown[below] if part == 0 else shown[below] + np.float32(part) * (shown[above] - shown[below])
        result[k] = np.rint(plane) if hu.dtype == np.int16 else plane
    return result


def to_slices(label_map: LabelMap, stack: SliceStack) -> LabelMap:
    """Labels of a regular grid on the original slices: those of the nearest plane and pixel.

    Parameters
    ----------
    label_map : on a grid of the same rows, columns and normal as the slices
    stack : where the slices are

    Raises
    ------
    ValueError
        If the label map does not lie on such a grid.
    """
    lay = _lie(stack, label_map.grid)
    labels = np.zeros(stack.shape, dtype=np.uint8)
    nearest = np.clip(np.rint(lay.planes), 0, label_map.grid.shape[0] - 1).astype(int)
    for k in range(stack.shape[0]):
        j, i = (round(float(shift)) for shift in lay.shifts[k])
        source = label_map.labels[nearest[k]]
        top, left = max(j, 0), max(i, 0)
        part = source[top : max(j + stack.shape[1], 0), left : max(i + stack.shape[2], 0)]
        labels[k, top - j : top - j + part.shape[0], left - i : left - i + part.shape[1]] = part
    return LabelMap(grid=stack, labels=labels, organs=label_map.organs)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Lie:
    """How slices lie on a grid.

    Attributes
    ----------
    planes : (K,) place of each slice in planes of the grid
    shifts : (K, 2) place of its first pixel in rows and columns of the grid, whole where nearly so
    """

    planes: FloatArray
    shifts: FloatArray

    def is_whole(self, k: int) -> bool:
        """Whether a slice is shifted by whole pixels."""
        return bool((self.shifts[k] == np.rint(self.shifts[k])).all())

    def copy(self, values: HuArray, k: int, into: HuArray) -> None:
        """Put a slice where it belongs; what reaches beyond the grid is left out."""
        j, i = (int(shift) for shift in self.shifts[k])
        top, left = max(j, 0), max(i, 0)
        here = into[top : max(j + values.shape[0], 0), left : max(i + values.shape[1], 0)]
        here[...] = values[top - j : top - j + here.shape[0], left - i : left - i + here.shape[1]]

    def shifted(self, values: HuArray, k: int, shape: tuple[int, int]) -> NDArray[np.float32]:
        """A slice on the pixels of the grid, linear between its own."""
        plane = values.astype(np.float32)
        for axis in (0, 1):
            whole = int(np.floor(self.shifts[k, axis]))
            plane = _moved(plane, axis, whole, np.float32(self.shifts[k, axis] - whole), shape[axis])
        return plane


def _lie(stack: SliceStack, grid: Place) -> _Lie:
    if not isinstance(grid, Grid):
        raise ValueError("This is no regular grid.")  # noqa: TRY004  # a value of a legal type
    if not np.allclose(grid.pixel_spacing_mm, stack.pixel_spacing_mm, rtol=1e-6, atol=0):
        raise ValueError(f"A grid of pixels of {grid.pixel_spacing_mm} mm is not one of these slices.")
    if not np.allclose(grid.axes, stack.axes, atol=1e-6):
        raise ValueError("A grid of other directions is not one of these slices.")
    index = grid.to_index(stack.positions_mm)
    shifts = index[:, 1:]
    whole = np.rint(shifts)
    return _Lie(planes=index[:, 0], shifts=np.where(np.abs(shifts - whole) <= _ON_PIXEL, whole, shifts))


def _neighbours(planes: FloatArray, k: int, near: float) -> tuple[int, int, float]:
    """The slices below and above plane ``k``, and how far it is from the one to the other, 0 when on one."""
    closest = int(np.abs(planes - k).argmin())
    beyond = k <= planes[0] or k >= planes[-1]
    if beyond or abs(planes[closest] - k) <= near:
        return closest, closest, 0.0
    above = int(np.searchsorted(planes, k))
    below = above - 1
    return below, above, float((k - planes[below]) / (planes[above] - planes[below]))


def _moved(
    plane: NDArray[np.float32], axis: int, whole: int, part: np.float32, size: int
) -> NDArray[np.float32]:
    """A plane moved along one axis by ``whole + part`` pixels into ``size`` ones."""
    source = np.moveaxis(plane, axis, 0)
    moved = np.full((size, source.shape[1]), OUTSIDE_HU, dtype=np.float32)
    line = np.arange(size) - whole
    inside = (line >= 0) & (line < source.shape[0])
    moved[inside] = source[line[inside]]
    if part > 0:
        before = np.full_like(moved, OUTSIDE_HU)
        earlier = (line >= 1) & (line <= source.shape[0])
        before[earlier] = source[line[earlier] - 1]
        moved += part * (before - moved)
    return np.moveaxis(moved, 0, axis)


def _tolerance(spacing: float) -> float:
    return max(ON_PLANE_MM, ON_PLANE_FRACTION * spacing)


def _planes(heights: FloatArray) -> tuple[float, float]:
    """Height of the first plane, at or below the first slice, and distance of planes, in mm."""
    gaps = np.diff(heights)
    ordinary = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    finest = float(heights[-1] - heights[0]) / (MAX_GROWTH * len(heights))
    usual = Counter(round(float(gap), 2) for gap in gaps).most_common(_USUAL_GAPS)
    candidates = {ordinary / n for n in _DIVISORS} | {gap for gap, _ in usual}
    best, found = -np.inf, (float(heights[0]), max(ordinary, finest))
    for spacing in sorted(candidates, reverse=True):
        if not finest <= spacing <= ordinary + ON_PLANE_MM:
            continue
        anchor, step, share = _fitted(heights, spacing)
        planes = float(heights[-1] - heights[0]) / step + 1
        by_chance = 2 * _tolerance(step) / step
        score = share - by_chance - _COST_OF_PLANES * planes / len(heights)
        if score > best + 1e-6:
            best, found = score, (anchor, step)
    anchor, spacing = found
    # planes go from the first slice on; the first slice is on one of them within tolerance, or above it
    below = np.floor((heights[0] - anchor + _tolerance(spacing)) / spacing)
    return float(anchor + below * spacing), spacing


def _fitted(heights: FloatArray, spacing: float) -> tuple[float, float, float]:
    """The anchor that puts most slices on planes so far apart, the distance refined, and their share."""
    off = (heights[None] - heights[:, None]) / spacing
    on = np.abs(off - np.rint(off)) * spacing <= _tolerance(spacing)
    best = int(on.sum(axis=1).argmax())
    times, places = np.rint(off[best][on[best]]), heights[on[best]]
    if np.ptp(times) < 1:  # all on one plane: they say nothing of the distance
        return float(heights[best]), spacing, len(places) / len(heights)
    step, anchor = np.polyfit(times, places, 1)
    residual = (heights - anchor) / step
    near = np.abs(residual - np.rint(residual)) * step <= _tolerance(step)
    return float(anchor), float(step), float(near.mean())
