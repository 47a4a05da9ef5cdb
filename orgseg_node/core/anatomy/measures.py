"""The measures of one organ in a CT: size, shape, place in the body, HU and surroundings.

All are along the axes of the patient and independent of the resolution of the CT (`working_grid`). What an
end of the scan cuts off is not measured: its place in the table is NaN. So an organ that is cut is compared
only by what can be seen of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import cc3d
import numpy as np
from scipy import ndimage

from orgseg_node.core.anatomy.working_grid import Float32Array, Span, WorkingGrid
from orgseg_node.core.checks import SEVERAL_PARTS
from orgseg_node.core.geometry import Box, FloatArray
from orgseg_node.core.postprocess import without_far_pieces
from orgseg_node.core.volume import Mask

_RING_MM: Final = (8.0, 16.0)  # the near and the far surroundings
_MARGIN_MM: Final = 17.0
_PARTED: Final = 0.2  # fraction of an organ that is more than a crumb
_FAR_MM: Final = 25.0  # twice as far as any piece in the clinical contours of the starter
_AIR_HU, _BONE_HU, _FAT_HU = -300.0, 250.0, -30.0
_SOFT_HU: Final = (-200.0, 300.0)  # HU are clipped to it in means of the surroundings
_TISSUE_HU: Final = (-400.0, 500.0)  # the same inside an organ
_LEVELS_MM: Final = (
    -60.0,
    -30.0,
    0.0,
    30.0,
    60.0,
)  # where the body section is measured, relative to the organ
_DIRECTIONS: Final = ("feet", "head", "front", "back", "right", "left")  # of -z, +z, -y, +y, -x, +x

ANCHORS: Final = ("centre", "upper", "lower")
"""Points of an organ that are compared between organs: its centroid, and those of its ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of an organ.

    Attributes
    ----------
    ml : its volume
    distance_mm : of its nearest point from the main piece; 0 for the main piece
    """

    ml: float
    distance_mm: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OrganMeasures:
    """The measures of one organ.

    Attributes
    ----------
    volume_ml : its volume in the scan
    values : by name; NaN where it cannot be measured
    anchors_mm : z, y and x in mm of the points named in `ANCHORS`, in the frame of the scan; NaN where an end
        of the scan cuts the organ
    pieces : largest first
    holes_ml : volume of cavities inside
    skipped_slices : slices without the organ between two with it
    mean_hu : mean HU inside, of all voxels
    outside : fraction of it outside of the patient
    cut : ends of the scan that it reaches, ``feet`` or ``head``
    at_border : whether it touches the border of the image
    """

    volume_ml: float
    values: Mapping[str, float]
    anchors_mm: Mapping[str, tuple[float, float, float]]
    pieces: tuple[Piece, ...]
    holes_ml: float
    skipped_slices: int
    mean_hu: float
    outside: float
    cut: tuple[str, ...]
    at_border: bool


def measure_organ(scan: WorkingGrid, mask: Mask) -> OrganMeasures | None:
    """Measure an organ.

    Parameters
    ----------
    scan : the CT and its body
    mask : (K, J, I) bool on the grid of the CT

    Returns
    -------
    None if the mask is empty
    """
    view = np.asarray(scan.turned(mask))
    box = _box(view)
    if box is None:
        return None
    fine = np.asarray(view[box])
    spacing = [scan.grid.spacing_mm[axis] for axis in scan.order]
    voxel_ml = float(np.prod(spacing)) / 1000.0
    span = _span(box, scan)
    part = scan.occupancy(mask, span)
    cut = _cut(box, view.shape)
    shown = fine.any(axis=(1, 2))
    return OrganMeasures(
        volume_ml=float(np.count_nonzero(fine)) * voxel_ml,
        values=_values(scan, part, span, box, fine),
        anchors_mm=_anchors(fine, box, spacing, cut),
        pieces=_pieces(fine, spacing, voxel_ml),
        holes_ml=float(np.count_nonzero(ndimage.binary_fill_holes(fine) & ~fine)) * voxel_ml,
        skipped_slices=int(np.count_nonzero(~shown)),
        mean_hu=float(np.asarray(scan.turned(scan.hu)[box])[fine].mean()),
        outside=1.0 - float(np.asarray(scan.turned(scan.body)[box])[fine].mean()),
        cut=cut,
        at_border=any(box[n].start == 0 or box[n].stop == view.shape[n] for n in (1, 2)),
    )


def measure_main_part(scan: WorkingGrid, mask: Mask, organ: str) -> OrganMeasures | None:
    """Measure an organ without pieces far away; None if the mask is empty.

    A crumb far away must not stretch the organ, and move it for its neighbours: size, tissue and place are
    those of the largest piece and what lies near it. All pieces are listed, and the volume is that of all.

    Parameters
    ----------
    scan : the CT and its body
    mask : (K, J, I) bool on the grid of the CT
    organ : its key
    """
    whole = measure_organ(scan, mask)
    if whole is None or organ in SEVERAL_PARTS:
        return whole
    far_ml = sum(piece.ml for piece in whole.pieces if piece.distance_mm > _FAR_MM)
    if not far_ml or (whole.cut and far_ml > _PARTED * whole.volume_ml):
        return whole  # an end of the scan may part an organ, such as a mandible above the chin
    near, box = np.zeros_like(mask), Box.around(mask).slices
    slice_ml = np.full(mask[box].shape[0], np.prod(scan.grid.spacing_mm) / 1000.0)
    near[box] = without_far_pieces(mask[box], slice_ml, scan.grid.spacing_mm, _FAR_MM)
    main = measure_organ(scan, near) or whole
    return replace(whole, values=main.values, anchors_mm=main.anchors_mm, cut=main.cut)


def _box(view: Mask) -> Span | None:
    spans = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        found = np.flatnonzero(view.any(axis=others))
        if not found.size:
            return None
        spans.append(slice(int(found[0]), int(found[-1]) + 1))
    return spans[0], spans[1], spans[2]


def _cut(box: Span, shape: tuple[int, ...]) -> tuple[str, ...]:
    ends = (("feet", box[0].start == 0), ("head", box[0].stop == shape[0]))
    return tuple(name for name, reached in ends if reached)


def _span(box: Span, scan: WorkingGrid) -> Span:
    """The organ with a margin on the working grid."""
    spans = []
    for axis, (size, factor, step) in enumerate(zip(scan.shape, scan.factors, scan.spacing_mm, strict=True)):
        margin = int(np.ceil(_MARGIN_MM / step))
        first = min(box[axis].start // factor, size - 1)
        last = min(-(-box[axis].stop // factor), size)
        spans.append(slice(max(first - margin, 0), min(max(last, first + 1) + margin, size)))
    return spans[0], spans[1], spans[2]


def _values(
    scan: WorkingGrid,
    part: Float32Array,
    span: Span,
    box: Span,
    fine: Mask,
) -> dict[str, float]:
    solid = part >= min(0.5, float(part.max()))
    hu = scan.reduced_hu(span)
    spacing = [scan.grid.spacing_mm[axis] for axis in scan.order]
    whole = not _cut(box, np.asarray(scan.turned(scan.body)).shape)
    voxel_ml = float(np.prod(scan.spacing_mm)) / 1000.0
    total = float(part.sum()) * voxel_ml
    extent = [n * step for n, step in zip(fine.shape, spacing, strict=True)]
    by_slice = part.sum(axis=(1, 2))
    filled = by_slice > 0
    surface_mm2 = _surface_mm2(solid, scan.spacing_mm)
    values = {
        "log_volume": np.log(total) if whole else np.nan,
        "log_extent_z": np.log(extent[0]) if whole else np.nan,
        "log_extent_y": np.log(extent[1]),
        "log_extent_x": np.log(extent[2]),
        "log_section": np.log(by_slice[filled].mean() * scan.spacing_mm[1] * scan.spacing_mm[2]),
        "compactness": np.log(surface_mm2 / (total * 1000.0) ** (2 / 3)) if whole else np.nan,
    }
    values |= _inside(hu, part, solid)
    values |= _around(hu, solid, scan.spacing_mm)
    values |= _beyond(scan, box)
    values |= _in_body(scan, part, span)
    return {name: float(value) for name, value in values.items()}


def _surface_mm2(solid: Mask, spacing: tuple[float, float, float]) -> float:
    """Area of the faces between inside and outside."""
    padded = np.pad(solid, 1)
    area = 0.0
    for axis in range(3):
        face = spacing[(axis + 1) % 3] * spacing[(axis + 2) % 3]
        area += face * float(np.count_nonzero(np.diff(padded, axis=axis)))
    return area


def _inside(hu: Float32Array, part: Float32Array, solid: Mask) -> dict[str, float]:
    inner = hu[solid]
    share = float(part[solid].sum())
    weight = part[solid] / share
    low, middle, high = np.percentile(inner, (10, 50, 90))
    return {
        "hu_mean": float(np.clip(inner, *_SOFT_HU) @ weight),
        "hu_spread": float(np.std(np.clip(inner, *_TISSUE_HU))),
        "hu_p10": float(np.clip(low, *_TISSUE_HU)),
        "hu_p50": float(np.clip(middle, *_TISSUE_HU)),
        "hu_p90": float(np.clip(high, *_TISSUE_HU)),
        "air": float(weight[inner < _AIR_HU].sum()),
        "fat": float(weight[(inner >= _AIR_HU) & (inner < _FAT_HU)].sum()),
        "bone": float(weight[inner > _BONE_HU].sum()),
    }


def _around(hu: Float32Array, solid: Mask, spacing: tuple[float, float, float]) -> dict[str, float]:
    """HU along the surface and in the six directions around the organ."""
    outside, nearest = ndimage.distance_transform_edt(~solid, sampling=spacing, return_indices=True)
    core = ndimage.binary_erosion(solid)
    rim = solid & ~core
    shell = (outside > 0) & (outside <= max(spacing) * 1.01)
    soft = np.clip(hu, *_SOFT_HU)
    values = {
        "edge": float(soft[rim].mean() - soft[shell].mean()) if shell.any() else np.nan,
        "edge_size": float(np.abs(_gradient(soft, spacing)[rim | shell]).mean()),
    }
    for name, near, far in (("near", 0.0, _RING_MM[0]), ("far", *_RING_MM)):
        place = np.nonzero((outside > near) & (outside <= far))
        away = [(index - nearest[n][place]) * spacing[n] for n, index in enumerate(place)]
        axis = np.argmax(np.abs(away), axis=0)
        sign = np.take_along_axis(np.asarray(away), axis[None], axis=0)[0] > 0
        direction = 2 * axis + sign
        ring, clipped = hu[place], soft[place]
        counts = np.bincount(direction, minlength=6).astype(np.float64)
        counts[counts < 3] = np.nan
        for what, weights in (("hu", clipped), ("air", ring < _AIR_HU), ("bone", ring > _BONE_HU)):
            means = np.bincount(direction, weights=weights, minlength=6) / counts
            values |= {
                f"{name}_{what}_{to}": float(mean) for to, mean in zip(_DIRECTIONS, means, strict=True)
            }
    return values


def _beyond(scan: WorkingGrid, box: Span) -> dict[str, float]:
    """NaN for the surroundings towards an end of the scan that is nearer than they are wide."""
    step, size = scan.grid.spacing_mm[scan.order[0]], scan.grid.shape[scan.order[0]]
    left = {"feet": box[0].start * step, "head": (size - box[0].stop) * step}
    return {
        f"{name}_{what}_{end}": np.nan
        for name, mm in zip(("near", "far"), _RING_MM, strict=True)
        for what in ("hu", "air", "bone")
        for end, rest in left.items()
        if rest < mm
    }


def _gradient(soft: Float32Array, spacing: tuple[float, float, float]) -> Float32Array:
    """Size of the gradient of the HU in HU per mm, in the plane of the slices."""
    down, across = (np.gradient(soft, spacing[axis], axis=axis) for axis in (1, 2))
    return np.asarray(np.hypot(down, across), dtype=np.float32)


def _in_body(scan: WorkingGrid, part: Float32Array, span: Span) -> dict[str, float]:
    """Distances to the skin in four directions, place in the body section, and size of the sections."""
    body, (dz, dy, dx) = scan.reduced_body, scan.spacing_mm
    by_slice = part.sum(axis=(1, 2))
    rows = np.arange(part.shape[1]) + span[1].start
    columns = np.arange(part.shape[2]) + span[2].start
    distances = []
    for n in np.flatnonzero(by_slice > 0.25 * by_slice.max()):
        plane = body[span[0].start + n]
        y = float(part[n].sum(axis=1) @ rows) / by_slice[n]
        x = float(part[n].sum(axis=0) @ columns) / by_slice[n]
        row, column = np.flatnonzero(plane[round(y)]), np.flatnonzero(plane[:, round(x)])
        if row.size and column.size:
            distances.append(
                ((y - column[0]) * dy, (column[-1] - y) * dy, (x - row[0]) * dx, (row[-1] - x) * dx)
            )
    front, back, right, left = np.mean(distances, axis=0) if distances else [np.nan] * 4
    values = {
        "skin_front": front,
        "skin_back": back,
        "skin_right": right,
        "skin_left": left,
        "across": (right - left) / max(right + left, 1.0),
        "depth": front / max(front + back, 1.0),
    }
    centre = span[0].start + float(by_slice @ np.arange(by_slice.size)) / float(by_slice.sum())
    for level in _LEVELS_MM:
        k = round(centre + level / dz)
        area = float(np.count_nonzero(body[k])) * dy * dx if 0 <= k < body.shape[0] else np.nan
        values[f"section_{level:+.0f}"] = np.sqrt(area) if area else np.nan
    return values


def _anchors(
    fine: Mask, box: Span, spacing: list[float], cut: tuple[str, ...]
) -> dict[str, tuple[float, float, float]]:
    by_slice = fine.sum(axis=(1, 2), dtype=np.float64)
    ends = max(1, round(6.0 / spacing[0]))  # the last 6 mm
    shown = np.flatnonzero(by_slice)
    parts = {
        "centre": (shown, not cut),
        "upper": (shown[-ends:], "head" not in cut),
        "lower": (shown[:ends], "feet" not in cut),
    }
    anchors = {}
    for name, (slices, is_seen) in parts.items():
        planes = fine[slices]
        counts = [planes.sum(axis=axes, dtype=np.float64) for axes in ((1, 2), (0, 2), (0, 1))]
        total = counts[0].sum()
        z = float(counts[0] @ slices) / total + box[0].start
        y = float(counts[1] @ np.arange(fine.shape[1])) / total + box[1].start
        x = float(counts[2] @ np.arange(fine.shape[2])) / total + box[2].start
        point = (z * spacing[0], y * spacing[1], x * spacing[2])
        anchors[name] = point if is_seen else (np.nan, np.nan, np.nan)
    return anchors


def _pieces(fine: Mask, spacing: list[float], voxel_ml: float) -> tuple[Piece, ...]:
    """Pieces (26-connected) with their distances from the largest."""
    numbers = cc3d.connected_components(fine, connectivity=26)
    counts = np.bincount(numbers.ravel())[1:]
    if counts.size == 1:
        return (Piece(ml=float(counts[0]) * voxel_ml, distance_mm=0.0),)
    main = int(np.argmax(counts)) + 1
    away = ndimage.distance_transform_edt(numbers != main, sampling=spacing)
    nearest = ndimage.minimum(away, numbers, np.arange(1, counts.size + 1))
    pieces = [
        Piece(ml=float(count) * voxel_ml, distance_mm=float(distance))
        for count, distance in zip(counts, nearest, strict=True)
    ]
    return tuple(sorted(pieces, key=lambda piece: (-piece.ml, piece.distance_mm)))


def centroid_mm(measures: OrganMeasures) -> FloatArray:
    """(3,) z, y, x of the centroid of what is seen of an organ, in mm; NaN if an end of the scan cuts it."""
    return np.asarray(measures.anchors_mm["centre"])
