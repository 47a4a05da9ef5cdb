"""Outlines of the organs of a label map, slice by slice, true to the voxel and to the volume.

Every slice is padded with background, so that organs at the border of the image are closed, and traced
half-way between neighbouring pixel centres by contourpy. Pixels of an organ that touch only at a corner
become separate outlines; a lone pixel becomes a diamond of four points. `core.loops` then smooths and thins
the outlines, and holes are written as `Holes` says. Whether a voxel is inside never changes on the way:
`rasterise` gives back the mask, however the holes are written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import contourpy
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.core.geometry import FloatArray, Grid, Place, Shape
from orgseg_node.core.keyhole import join_holes
from orgseg_node.core.loops import Loops, refine
from orgseg_node.core.organs import Organ
from orgseg_node.core.rasterise import Contour, rasterise
from orgseg_node.core.regions import Region
from orgseg_node.core.volume import LabelMap, Mask

__all__ = [
    "MAX_POINTS",
    "Contour",
    "Holes",
    "Structure",
    "StructureSet",
    "Tracing",
    "rasterise",
    "trace",
    "trace_mask",
]

MAX_POINTS = 1700  # 60 kB of decimal strings at 35 characters a point: safe in explicit VR (65 534 bytes)


class Holes(StrEnum):
    """How a hole in an organ is written (DICOM PS3.3 C.8.8.6.3)."""

    KEYHOLE = "keyhole"  # as part of the outline around it: `core.keyhole`
    XOR = "xor"  # as a contour of its own; all contours of the organ are declared to exclude each other
    NESTED = "nested"  # as a contour of its own and nothing declared: some readers fill it


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracing:
    """How outlines are made.

    Attributes
    ----------
    holes : how holes are written
    max_points : a region with a longer outline is cut in two, with outlines of their own; at least 24
    """

    holes: Holes = Holes.KEYHOLE
    max_points: int = MAX_POINTS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Structure:
    """The outlines of one organ or region.

    Attributes
    ----------
    organ : what it is and how it is called
    label : its number in the label map, None for a region beside it
    contours : ordered by slice
    how : how a region came about, such as "SpinalCord + 5 mm"; empty for organs
    has_holes : whether some of the contours are holes in others of them
    """

    organ: Organ
    label: int | None
    contours: tuple[Contour, ...]
    how: str = ""
    has_holes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StructureSet:
    """The outlines of all that was found.

    Attributes
    ----------
    grid : on whose index coordinates the points are
    structures : in the order asked for
    missing : organs that were looked for and not found, and empty regions
    holes : how holes are written
    """

    grid: Place
    structures: tuple[Structure, ...]
    missing: tuple[Organ, ...] = ()
    holes: Holes = Holes.KEYHOLE


def trace(
    label_map: LabelMap,
    tracing: Tracing | None = None,
    *,
    regions: Sequence[Region] = (),
    order: Sequence[str] | None = None,
) -> StructureSet:
    """Outline every organ of a label map, and regions made from them.

    Parameters
    ----------
    label_map : organs that have no voxel give no structure
    tracing : how; the usual way when None
    regions : traced as they are; they may overlap organs and each other
    order : keys of organs and regions in the order in which they shall come; others follow, organs by their
        label and regions as given

    Returns
    -------
    structures whose `rasterise` equals ``label_map.mask(label)``, or the region's mask, voxel for voxel

    Raises
    ------
    ValueError
        If a label occurs that the map has no organ for.
    """
    tracing = tracing or Tracing()
    structures = [*_organs(label_map, tracing), *_regions(regions, tracing)]
    found = {structure.organ.key for structure in structures}
    wanted = [label_map.organs[label] for label in sorted(label_map.organs)] + [r.organ for r in regions]
    rank = {key: place for place, key in enumerate(order or ())}
    return StructureSet(
        grid=label_map.grid,
        structures=tuple(sorted(structures, key=lambda one: rank.get(one.organ.key, len(rank)))),
        missing=tuple(organ for organ in wanted if organ.key not in found),
        holes=tracing.holes,
    )


def _organs(label_map: LabelMap, tracing: Tracing) -> Iterator[Structure]:
    for index, box in enumerate(ndimage.find_objects(label_map.labels)):
        label = index + 1
        if box is None:
            continue
        if label not in label_map.organs:
            raise ValueError(f"Label {label} occurs in the label map but belongs to no organ.")
        k, j, i = (part.start for part in box)
        contours, has_holes = _outline(np.equal(label_map.labels[box], label), (k, j, i), tracing)
        yield Structure(organ=label_map.organs[label], label=label, contours=contours, has_holes=has_holes)


def _regions(regions: Sequence[Region], tracing: Tracing) -> Iterator[Structure]:
    for region in regions:
        contours, has_holes = _outline(region.mask, region.box.start, tracing)
        if contours:
            yield Structure(
                organ=region.organ, label=None, contours=contours, how=region.how, has_holes=has_holes
            )


def _outline(mask: Mask, start: Shape, tracing: Tracing) -> tuple[tuple[Contour, ...], bool]:
    """Contours of a mask whose first voxel lies at ``start``, and whether some of them are holes."""
    first_k, first_j, first_i = start
    traced = _traced(mask, tracing)
    contours = tuple(
        Contour(k=contour.k + first_k, points=contour.points + np.array([first_i, first_j]))
        for contours in traced
        for contour in contours
    )
    return contours, any(len(group) > 1 for group in traced)


def trace_mask(mask: Mask, tracing: Tracing | None = None) -> list[Contour]:
    """Outline a mask, slice by slice.

    Parameters
    ----------
    mask : (K, J, I) bool
    tracing : how; the usual way when None

    Returns
    -------
    contours, ordered by slice
    """
    return [contour for contours in _traced(mask, tracing or Tracing()) for contour in contours]


def _traced(mask: Mask, tracing: Tracing) -> list[list[Contour]]:
    """The contours of each connected region of each slice: its outline, then its holes where separate."""
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    traced = list(_loops_of(padded))
    if not traced:
        return []
    slices = np.array([k for k, _, _ in traced])
    lengths = np.array([len(loop) for _, loop, _ in traced])
    loops = Loops(points=np.concatenate([loop for _, loop, _ in traced]), starts=np.cumsum(lengths) - lengths)
    smoothed = refine(loops, _outward(padded, np.repeat(slices, lengths), loops.points)).split()
    regions: list[list[Contour]] = []
    firsts = [index for index, (_, _, is_hole) in enumerate(traced) if not is_hole]
    for first, stop in zip(firsts, [*firsts[1:], len(traced)], strict=True):
        parts = smoothed[first:stop]
        polygons = [join_holes(parts[0], parts[1:])] if tracing.holes is Holes.KEYHOLE else parts
        region = [Contour(k=int(slices[first]), points=polygon - 1.0) for polygon in polygons]
        fits = all(len(contour.points) <= tracing.max_points for contour in region)
        regions += [region] if fits else _cut(region, tracing)
    return regions


def _loops_of(planes: NDArray[np.bool_]) -> Iterator[tuple[int, FloatArray, bool]]:
    """Each outer loop of padded slices with the slice it is on, followed by the holes in it."""
    places = np.indices(planes.shape[1:], dtype=np.float64)
    no_mask = np.zeros((), dtype=np.bool_)
    for k in np.flatnonzero(planes.any(axis=(1, 2))).tolist():
        # made directly: contourpy's own function spends more time on masks and axes than on contours
        generator = contourpy.SerialContourGenerator(
            places[1],
            places[0],
            planes[k].astype(np.float64),
            no_mask,
            corner_mask=False,
            line_type=contourpy.LineType.Separate,
            fill_type=contourpy.FillType.OuterOffset,
            quad_as_tri=False,
            z_interp=contourpy.ZInterp.Linear,
        )
        for points, offsets in zip(*generator.filled(0.5, np.inf), strict=True):
            for number, (start, stop) in enumerate(pairwise(offsets)):
                yield k, points[start : stop - 1], number > 0  # contourpy repeats the first point


def _outward(padded: NDArray[np.bool_], slices: NDArray[np.int64], points: FloatArray) -> FloatArray:
    """(N, 2) unit vectors from the pixel inside to the pixel outside that each traced vertex lies between."""
    lower = np.floor(points).astype(np.int64)
    along = (points != lower).astype(np.float64)  # half-way along x or along y, never both
    is_inside = padded[slices, lower[:, 1], lower[:, 0]]
    outward: FloatArray = np.where(is_inside[:, None], along, -along)
    return outward


def _cut(region: Sequence[Contour], tracing: Tracing) -> list[list[Contour]]:
    """A region in two halves, each outlined for itself."""
    k, outline = region[0].k, region[0].points
    low = np.floor(outline.min(axis=0)).astype(np.int64)
    width, height = (np.ceil(outline.max(axis=0)).astype(np.int64) - low + 1).tolist()
    shape = Grid(shape=(1, height, width), spacing_mm=(1.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))
    near = rasterise([Contour(k=0, points=contour.points - low) for contour in region], shape)
    far = near.copy()
    if height >= width:
        near[:, height // 2 :], far[:, : height // 2] = False, False
    else:
        near[:, :, width // 2 :], far[:, :, : width // 2] = False, False
    return [
        [Contour(k=k, points=part.points + low) for part in parts]
        for half in (near, far)
        for parts in _traced(half, tracing)
    ]
