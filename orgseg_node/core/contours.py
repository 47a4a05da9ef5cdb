"""Outlines of the organs of a label map, slice by slice, true to the voxel and to the volume.

Every slice is padded with background, so that organs at the border of the image are closed, and traced
half-way between neighbouring pixel centres by contourpy. Pixels of an organ that touch only at a corner
become separate outlines; a lone pixel becomes a diamond of four points. `core.loops` then smooths and thins
the outlines, `core.keyhole` joins the holes. Whether a voxel is inside never changes on the way: `rasterise`
gives back the mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import contourpy
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.core.geometry import FloatArray, Grid
from orgseg_node.core.keyhole import join_holes
from orgseg_node.core.loops import Loops, refine
from orgseg_node.core.organs import Organ
from orgseg_node.core.rasterise import Contour, rasterise
from orgseg_node.core.volume import LabelMap, Mask

__all__ = ["MAX_POINTS", "Contour", "Structure", "StructureSet", "rasterise", "trace", "trace_mask"]

MAX_POINTS = 1700  # 60 kB of decimal strings at 35 characters a point: safe in explicit VR (65 534 bytes)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Structure:
    """The outlines of one organ.

    Attributes
    ----------
    organ : which organ
    label : its number in the label map
    contours : ordered by slice; holes are joined to their outlines
    """

    organ: Organ
    label: int
    contours: tuple[Contour, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StructureSet:
    """The outlines of all organs that were found.

    Attributes
    ----------
    grid : on whose index coordinates the points are
    structures : in order of their label
    """

    grid: Grid
    structures: tuple[Structure, ...]


def trace(label_map: LabelMap) -> StructureSet:
    """Outline every organ of a label map.

    Parameters
    ----------
    label_map : organs that have no voxel give no structure

    Returns
    -------
    structures whose `rasterise` equals ``label_map.mask(label)`` voxel for voxel

    Raises
    ------
    ValueError
        If a label occurs that the map has no organ for.
    """
    structures = []
    for index, box in enumerate(ndimage.find_objects(label_map.labels)):
        label = index + 1
        if box is None:
            continue
        if label not in label_map.organs:
            raise ValueError(f"Label {label} occurs in the label map but belongs to no organ.")
        first_k, first_j, first_i = (part.start for part in box)
        mask = np.equal(label_map.labels[box], label)
        contours = tuple(
            Contour(k=contour.k + first_k, points=contour.points + np.array([first_i, first_j]))
            for contour in trace_mask(mask)
        )
        structures.append(Structure(organ=label_map.organs[label], label=label, contours=contours))
    return StructureSet(grid=label_map.grid, structures=tuple(structures))


def trace_mask(mask: Mask, max_points: int = MAX_POINTS) -> list[Contour]:
    """Outline a mask, slice by slice.

    Parameters
    ----------
    mask : (K, J, I) bool
    max_points : a region whose outline has more points is cut in two, with two outlines

    Returns
    -------
    contours, ordered by slice
    """
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    traced = [(k, loop, is_hole) for k in range(len(mask)) for loop, is_hole in _loops_of(padded[k])]
    if not traced:
        return []
    slices = np.array([k for k, _, _ in traced])
    lengths = np.array([len(loop) for _, loop, _ in traced])
    loops = Loops(points=np.concatenate([loop for _, loop, _ in traced]), starts=np.cumsum(lengths) - lengths)
    smoothed = refine(loops, _outward(padded, np.repeat(slices, lengths), loops.points)).split()
    contours: list[Contour] = []
    firsts = [index for index, (_, _, is_hole) in enumerate(traced) if not is_hole]
    for first, stop in zip(firsts, [*firsts[1:], len(traced)], strict=True):
        points = join_holes(smoothed[first], smoothed[first + 1 : stop]) - 1.0
        contour = Contour(k=int(slices[first]), points=points)
        contours += [contour] if len(points) <= max_points else _cut(contour, max_points)
    return contours


def _loops_of(plane: NDArray[np.bool_]) -> Iterator[tuple[FloatArray, bool]]:
    """Each outer loop of a padded slice, followed by the holes in it."""
    if not plane.any():
        return
    generator = contourpy.contour_generator(z=plane, name="serial", fill_type=contourpy.FillType.OuterOffset)
    for points, offsets in zip(*generator.filled(0.5, np.inf), strict=True):
        for number, (start, stop) in enumerate(pairwise(offsets)):
            yield points[start : stop - 1], number > 0  # contourpy repeats the first point


def _outward(padded: NDArray[np.bool_], slices: NDArray[np.int64], points: FloatArray) -> FloatArray:
    """(N, 2) unit vectors from the pixel inside to the pixel outside that each traced vertex lies between."""
    lower = np.floor(points).astype(np.int64)
    along = (points != lower).astype(np.float64)  # half-way along x or along y, never both
    is_inside = padded[slices, lower[:, 1], lower[:, 0]]
    outward: FloatArray = np.where(is_inside[:, None], along, -along)
    return outward


def _cut(contour: Contour, max_points: int) -> list[Contour]:
    """The region of a contour in two halves, each outlined for itself."""
    low = np.floor(contour.points.min(axis=0)).astype(np.int64)
    width, height = (np.ceil(contour.points.max(axis=0)).astype(np.int64) - low + 1).tolist()
    shape = Grid(shape=(1, height, width), spacing_mm=(1.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))
    region = rasterise([Contour(k=0, points=contour.points - low)], shape)
    far = region.copy()
    near = region
    if height >= width:
        near[:, height // 2 :], far[:, : height // 2] = False, False
    else:
        near[:, :, width // 2 :], far[:, :, : width // 2] = False, False
    return [
        Contour(k=contour.k, points=part.points + low)
        for half in (near, far)
        for part in trace_mask(half, max_points)
    ]
