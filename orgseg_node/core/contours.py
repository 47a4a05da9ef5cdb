"""Traces the contours of the organs of a label map, slice by slice, exact in voxels and volume.

Every slice is padded with background, so that organs at the border of the image are closed, and traced
half-way between neighbouring pixel centres by contourpy. Pixels of an organ that touch only at a corner
become separate contours; a single pixel becomes a diamond of four points. `core.loops` then smooths the
contours and removes points, and holes are written according to `Holes`. No voxel ever changes sides:
`rasterise` returns the original mask for every kind of holes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

import contourpy
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.core.geometry import FloatArray, Grid, Shape, VoxelGeometry
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

    KEYHOLE = "keyhole"  # as part of the outer contour: `core.keyhole`
    XOR = "xor"  # as a separate contour; all contours of the organ have type CLOSEDPLANAR_XOR
    NESTED = "nested"  # as a separate contour of type CLOSED_PLANAR: some readers fill it


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracing:
    """How contours are traced.

    Attributes
    ----------
    holes : how holes are written
    max_points : a region with a longer contour is cut in two, with separate contours; at least 24
    """

    holes: Holes = Holes.KEYHOLE
    max_points: int = MAX_POINTS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Structure:
    """The contours of one organ or region.

    Attributes
    ----------
    organ : its name and codes
    label : its number in the label map, None for a region
    contours : ordered by slice
    derivation : how a region was made, such as "SpinalCord + 5 mm"; empty for organs
    has_holes : whether some of the contours are holes in others
    """

    organ: Organ
    label: int | None
    contours: tuple[Contour, ...]
    derivation: str = ""
    has_holes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StructureSet:
    """The contours of all organs and regions that were found.

    Attributes
    ----------
    grid : geometry to whose voxel indices the points refer
    structures : in the requested order
    missing : organs that were not found, and empty regions
    holes : how holes are written
    warnings : what a person should know of an organ, by its key
    """

    grid: VoxelGeometry
    structures: tuple[Structure, ...]
    missing: tuple[Organ, ...] = ()
    holes: Holes = Holes.KEYHOLE
    warnings: Mapping[str, str] = field(default_factory=dict)


def trace(
    label_map: LabelMap,
    tracing: Tracing | None = None,
    *,
    regions: Sequence[Region] = (),
    order: Sequence[str] | None = None,
) -> StructureSet:
    """Trace every organ of a label map, and regions derived from them.

    Parameters
    ----------
    label_map : organs without a voxel give no structure
    tracing : options; the defaults if None
    regions : may overlap organs and each other
    order : keys of organs and regions that come first, in this order; others follow, organs by their label
        and regions as given

    Returns
    -------
    structures whose `rasterise` equals ``label_map.mask(label)``, or the region's mask, in every voxel

    Raises
    ------
    ValueError
        If a label occurs that has no organ in the map.
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
            raise ValueError(f"Label {label} occurs in the label map but has no organ.")
        k, j, i = (part.start for part in box)
        contours, has_holes = _outline(np.equal(label_map.labels[box], label), (k, j, i), tracing)
        yield Structure(organ=label_map.organs[label], label=label, contours=contours, has_holes=has_holes)


def _regions(regions: Sequence[Region], tracing: Tracing) -> Iterator[Structure]:
    for region in regions:
        contours, has_holes = _outline(region.mask, region.box.start, tracing)
        if contours:
            yield Structure(
                organ=region.organ,
                label=None,
                contours=contours,
                derivation=region.derivation,
                has_holes=has_holes,
            )


def _outline(mask: Mask, start: Shape, tracing: Tracing) -> tuple[tuple[Contour, ...], bool]:
    """Contours of a mask whose first voxel is at index ``start``, and whether some of them are holes."""
    first_k, first_j, first_i = start
    traced = _traced(mask, tracing)
    contours = tuple(
        Contour(k=contour.k + first_k, points=contour.points + np.array([first_i, first_j]))
        for contours in traced
        for contour in contours
    )
    return contours, any(len(group) > 1 for group in traced)


def trace_mask(mask: Mask, tracing: Tracing | None = None) -> list[Contour]:
    """Trace the contours of a mask, slice by slice.

    Parameters
    ----------
    mask : (K, J, I) bool
    tracing : options; the defaults if None

    Returns
    -------
    contours, ordered by slice
    """
    return [contour for contours in _traced(mask, tracing or Tracing()) for contour in contours]


def _traced(mask: Mask, tracing: Tracing) -> list[list[Contour]]:
    """The contours of each connected region of each slice: the outer contour, then separate holes."""
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
    """Index of the slice, (N, 2) points, and whether it is a hole, of each outer loop and the holes in it."""
    pixels = np.indices(planes.shape[1:], dtype=np.float64)
    no_mask = np.zeros((), dtype=np.bool_)
    for k in np.flatnonzero(planes.any(axis=(1, 2))).tolist():
        # created directly: contourpy's own function spends more time on masks and axes than on contours
        generator = contourpy.SerialContourGenerator(
            pixels[1],
            pixels[0],
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
    """(N, 2) unit vectors from the inside to the outside pixel next to each traced vertex."""
    lower = np.floor(points).astype(np.int64)
    along = (points != lower).astype(np.float64)  # half-way along x or along y, never both
    is_inside = padded[slices, lower[:, 1], lower[:, 0]]
    outward: FloatArray = np.where(is_inside[:, None], along, -along)
    return outward


def _cut(region: Sequence[Contour], tracing: Tracing) -> list[list[Contour]]:
    """The contours of the two halves of a region."""
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
