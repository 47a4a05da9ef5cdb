"""Resamples slices with individual positions to a regular grid for the network, and labels back.

The grid keeps the rows, columns and normal of the slices, so values are interpolated in two cases only:
between two slices if no slice is on a plane of the grid, and within a slice that is shifted in-plane by a
fraction of a pixel (a tilted gantry). A slice on a plane, shifted by whole pixels, is copied unchanged.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.geometry import FloatArray, Grid, SliceStack, VoxelGeometry
from orgseg_node.core.volume import HuArray, LabelMap

OUTSIDE_HU = -1024
"""HU of the grid outside all slices."""

ON_PLANE_MM, ON_PLANE_FRACTION = 0.05, 0.02
"""A slice is on a plane if it is within this distance, or this fraction of the distance of planes."""

MAX_GROWTH = 4
"""Largest number of planes per slice, so that a grid cannot become much larger than its slices."""

_ON_PIXEL = 0.05  # of a pixel: a smaller in-plane shift is ignored
_COST_OF_PLANES = 0.1  # weight of additional planes against additional slices that are on a plane
_DIVISORS, _USUAL_GAPS = range(1, 6), 20


def grid_for(stack: SliceStack) -> Grid:
    """The regular grid of a stack of slices for the network.

    The distance of planes is at most the usual slice distance, and chosen so that as many slices as possible
    are on planes: the usual distance if slices are missing, 2.5 mm if a series changes from 2.5 to 5 mm. The
    field of view is extended by the in-plane shift of the slices.

    Parameters
    ----------
    stack : parallel slices

    Returns
    -------
    grid with the rows, columns and normal of the stack, from its first to its last slice
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


def resample_hu_to_grid(hu: HuArray, stack: SliceStack, grid: Grid) -> HuArray:
    """Resample the Hounsfield units of slices to a regular grid.

    Parameters
    ----------
    hu : (K, J, I) int16 or float32 HU on the slices
    stack : geometry of the slices
    grid : with the same rows, columns and normal, such as from `grid_for`

    Returns
    -------
    HU on the grid, of the same dtype; linear between slices, -1024 outside all slices

    Raises
    ------
    ValueError
        If the grid has other pixels or directions than the slices, or the values another shape than the
        stack.
    """
    if hu.shape != stack.shape:
        raise ValueError(f"Values of {hu.shape} voxels on a stack of {stack.shape}.")
    alignment = _align(stack, grid)
    result = np.full(grid.shape, OUTSIDE_HU, dtype=hu.dtype)
    shown: dict[int, NDArray[np.float32]] = {}
    for k in range(grid.shape[0]):
        below, above, part = _neighbours(
            alignment.planes, k, _tolerance(grid.spacing_mm[0]) / grid.spacing_mm[0]
        )
        if part == 0 and alignment.is_whole(below):
            alignment.copy(hu[below], below, result[k])
            continue
        shown = {n: plane for n, plane in shown.items() if n in {below, above}}
        for n in {below, above} - shown.keys():
            shown[n] = alignment.shifted(hu[n], n, grid.shape[1:])
        plane = shown[below] if part == 0 else shown[below] + np.float32(part) * (shown[above] - shown[below])
        result[k] = np.rint(plane) if hu.dtype == np.int16 else plane
    return result


def to_slices(label_map: LabelMap, stack: SliceStack) -> LabelMap:
    """Resample the labels of a regular grid to the original slices: nearest plane and pixel.

    Parameters
    ----------
    label_map : on a grid with the same rows, columns and normal as the slices
    stack : geometry of the slices

    Raises
    ------
    ValueError
        If the label map is not on such a grid.
    """
    alignment = _align(stack, label_map.grid)
    labels = np.zeros(stack.shape, dtype=np.uint8)
    nearest = np.clip(np.rint(alignment.planes), 0, label_map.grid.shape[0] - 1).astype(int)
    for k in range(stack.shape[0]):
        j, i = (round(float(shift)) for shift in alignment.shifts[k])
        source = label_map.labels[nearest[k]]
        top, left = max(j, 0), max(i, 0)
        part = source[top : max(j + stack.shape[1], 0), left : max(i + stack.shape[2], 0)]
        labels[k, top - j : top - j + part.shape[0], left - i : left - i + part.shape[1]] = part
    return LabelMap(grid=stack, labels=labels, organs=label_map.organs)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Alignment:
    """Positions of slices on a grid.

    Attributes
    ----------
    planes : (K,) position of each slice in planes of the grid
    shifts : (K, 2) position of its first pixel in rows and columns of the grid, rounded if nearly an integer
    """

    planes: FloatArray
    shifts: FloatArray

    def is_whole(self, k: int) -> bool:
        """Whether a slice is shifted by whole pixels."""
        return bool((self.shifts[k] == np.rint(self.shifts[k])).all())

    def copy(self, values: HuArray, k: int, into: HuArray) -> None:
        """Copy a slice into a plane of the grid; pixels outside the grid are left out."""
        j, i = (int(shift) for shift in self.shifts[k])
        top, left = max(j, 0), max(i, 0)
        here = into[top : max(j + values.shape[0], 0), left : max(i + values.shape[1], 0)]
        here[...] = values[top - j : top - j + here.shape[0], left - i : left - i + here.shape[1]]

    def shifted(self, values: HuArray, k: int, shape: tuple[int, int]) -> NDArray[np.float32]:
        """A slice resampled linearly to the pixels of the grid."""
        plane = values.astype(np.float32)
        for axis in (0, 1):
            whole = int(np.floor(self.shifts[k, axis]))
            plane = _moved(plane, axis, whole, np.float32(self.shifts[k, axis] - whole), shape[axis])
        return plane


def _align(stack: SliceStack, grid: VoxelGeometry) -> _Alignment:
    if not isinstance(grid, Grid):
        raise ValueError("This is not a regular grid.")  # noqa: TRY004  # a value of a legal type
    if not np.allclose(grid.pixel_spacing_mm, stack.pixel_spacing_mm, rtol=1e-6, atol=0):
        raise ValueError(f"The grid has pixels of {grid.pixel_spacing_mm} mm, the slices have others.")
    if not np.allclose(grid.axes, stack.axes, atol=1e-6):
        raise ValueError("The grid has other directions than the slices.")
    index = grid.to_index(stack.positions_mm)
    shifts = index[:, 1:]
    whole = np.rint(shifts)
    return _Alignment(planes=index[:, 0], shifts=np.where(np.abs(shifts - whole) <= _ON_PIXEL, whole, shifts))


def _neighbours(planes: FloatArray, k: int, near: float) -> tuple[int, int, float]:
    """The slices below and above plane ``k``, and its fractional position between them, 0 on a slice."""
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
    """A plane moved along one axis by ``whole + part`` pixels into an axis of ``size`` pixels."""
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
    """Position of the first plane, at or below the first slice, and distance of planes, in mm."""
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
    # the first slice is on the first plane within the tolerance, or above it
    below = np.floor((heights[0] - anchor + _tolerance(spacing)) / spacing)
    return float(anchor + below * spacing), spacing


def _fitted(heights: FloatArray, spacing: float) -> tuple[float, float, float]:
    """The offset of planes that puts most slices on them, the refined distance, and their fraction."""
    off = (heights[None] - heights[:, None]) / spacing
    on = np.abs(off - np.rint(off)) * spacing <= _tolerance(spacing)
    best = int(on.sum(axis=1).argmax())
    times, positions = np.rint(off[best][on[best]]), heights[on[best]]
    if np.ptp(times) < 1:  # all on one plane: the distance cannot be refined
        return float(heights[best]), spacing, len(positions) / len(heights)
    step, anchor = np.polyfit(times, positions, 1)
    residual = (heights - anchor) / step
    near = np.abs(residual - np.rint(residual)) * step <= _tolerance(step)
    return float(anchor), float(step), float(near.mean())
