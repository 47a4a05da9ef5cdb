"""Finds the patient in a CT: the analytic body contour of the study, with corrections.

Salimi et al. crop every CT to a body contour found by a threshold, hole filling, removal of small islands and
the largest 3-D component. Implemented literally, that keeps the couch if it touches the back, drops arms and
legs that are separate, and cuts out metal. Here the parts of the patient are found on a coarse grid of about
4 mm, on which a morphological opening removes thin objects (couch shells, blankets, masks, tubes), and hollow
objects (the couch) can be distinguished from hollow organs (lungs). The skin is then taken from the full
resolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.geometry import Box, Shape
from orgseg_node.core.volume import HuArray, Mask, Volume
from orgseg_node.errors import BodyNotFound

TISSUE_HU = -300  # the study's threshold between air and patient; no upper limit, so metal stays inside
_COARSE_MM = 4.0
_THIN_MM = 6.0  # an opening with this radius removes objects thinner than 12 mm
_PART_ML = 100.0  # separate parts (arms, legs) smaller than this are not part of the patient
_ISLAND_ML = 20.0  # smaller islands of skin or couch are removed at full resolution
_PART_SHARE = 0.005  # ... and parts below this fraction of the largest one
_PRISM = 0.92  # a part that fills this fraction of its projection along z is a rail or a couch, not a limb
_TISSUE_RANGE_HU = (-200.0, 700.0)  # mean HU of a limb, from fat to mostly bone; foam and metal are outside
_ENCLOSED = (
    0.5  # fraction of the wall of a gas cavity that must be solid patient; the cavity of a couch has less
)
_ENCLOSED_LUNG = 0.2  # ... of a cavity with HU of lung: a child's chest wall is thinner than the opening
_LUNG_HU = -900.0  # lungs are denser than this, couch foam is not

_FACES = ndimage.generate_binary_structure(3, 1)
_IN_PLANE = _FACES & (np.arange(3) == 1)[:, None, None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Body:
    """The patient in a CT.

    Attributes
    ----------
    mask : (K, J, I) bool, true inside the patient including cavities
    box : bounding box of the mask
    effective_diameter_mm : median over the slices of ``sqrt(AP x LAT)`` (AAPM report 204)
    findings : what a person should know about it
    """

    mask: Mask
    box: Box
    effective_diameter_mm: float
    findings: tuple[Finding, ...]


def _added_by(factor: int, counts: NDArray[np.uint8] | NDArray[np.uint16], axis: int) -> NDArray[np.uint16]:
    """Sums of ``factor`` neighbours along an axis, fewer at the end; faster than `reduceat`."""
    along = np.moveaxis(counts, axis, 0)
    sums = np.zeros((-(-along.shape[0] // factor), *along.shape[1:]), dtype=np.uint16)
    for first in range(factor):
        part = along[first::factor]
        sums[: part.shape[0]] += part
    return np.moveaxis(sums, 0, axis)


def find_body(volume: Volume) -> Body:
    """The patient without couch, blankets, masks and head rests; arms, legs and metal stay.

    Parameters
    ----------
    volume : CT in HU, axial slices of any patient position

    Raises
    ------
    BodyNotFound
        If no part of the image is a patient.
    """
    tissue = volume.hu > TISSUE_HU
    coarse = _Coarse.of(volume)
    low = coarse.reduce(tissue)
    core, parts, removed = _patient_parts(low, coarse, volume)
    patient = _with_cavities(core, low, coarse, volume)
    mask = _at_full_resolution(patient, tissue, coarse)
    if not mask.any():
        raise BodyNotFound
    box = Box.around(mask)
    diameter = _effective_diameter_mm(mask, volume.grid.spacing_mm)
    return Body(
        mask=mask,
        box=box,
        effective_diameter_mm=diameter,
        findings=_findings(mask, volume, parts, removed, diameter),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Coarse:
    """A grid of blocks of voxels, about 4 mm wide."""

    factors: Shape
    full: Shape
    spacing_mm: tuple[float, float, float]

    @classmethod
    def of(cls, volume: Volume) -> _Coarse:
        k, j, i = (
            max(1, min(round(_COARSE_MM / s), n))
            for s, n in zip(volume.grid.spacing_mm, volume.grid.shape, strict=True)
        )
        dk, dj, di = (f * s for f, s in zip((k, j, i), volume.grid.spacing_mm, strict=True))
        return cls(factors=(k, j, i), full=volume.grid.shape, spacing_mm=(dk, dj, di))

    @property
    def voxel_ml(self) -> float:
        k, j, i = self.spacing_mm
        return k * j * i / 1000.0

    def radius(self, mm: float) -> Shape:
        """A length in blocks, at least one where the blocks are not already wider."""
        k, j, i = (max(1, round(mm / s)) for s in self.spacing_mm)
        return k, j, i

    def reduce(self, mask: Mask) -> Mask:
        """True where at least half of a block is true."""
        counts: NDArray[np.uint8] | NDArray[np.uint16] = mask.view(np.uint8)
        for axis, factor in enumerate(self.factors):
            if factor > 1:
                counts = _added_by(factor, counts, axis)
        return np.greater_equal(counts, (math.prod(self.factors) + 1) // 2)

    def sample(self, volume: Volume) -> HuArray:
        """The HU at the centre of each block."""
        places = [
            np.minimum(np.arange(0, n, f) + f // 2, n - 1)
            for n, f in zip(self.full, self.factors, strict=True)
        ]
        return volume.hu[np.ix_(*places)]

    def expand(self, low: Mask) -> Mask:
        """The blocks as full-resolution voxels."""
        for axis, (factor, size) in enumerate(zip(self.factors, self.full, strict=True)):
            if factor > 1:
                low = np.repeat(low, factor, axis=axis).take(np.arange(size), axis=axis)
        return low


def _ball(radius: Shape) -> Mask:
    k, j, i = np.ogrid[tuple(slice(-r, r + 1) for r in radius)]
    rk, rj, ri = radius
    return np.asarray((k / rk) ** 2 + (j / rj) ** 2 + (i / ri) ** 2 <= 1.0)


def _dilate(mask: Mask, steps: int) -> Mask:
    return np.asarray(ndimage.binary_dilation(mask, _FACES, iterations=steps))


def _patient_parts(low: Mask, coarse: _Coarse, volume: Volume) -> tuple[Mask, int, float]:
    """The solid parts of the patient, their number, and the volume of other solid objects in ml."""
    radius = coarse.radius(_THIN_MM)
    padded = np.pad(low, [(r, r) for r in radius], mode="edge")  # the patient continues beyond the image
    inner = tuple(slice(r, -r) for r in radius)
    opened = np.asarray(ndimage.binary_opening(padded, _ball(radius)))[inner] & low
    labels, count = ndimage.label(opened, _FACES)
    if count == 0:
        raise BodyNotFound
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    largest = _largest_patient(labels, sizes, coarse, volume)
    threshold = max(_PART_ML / coarse.voxel_ml, _PART_SHARE * sizes[largest])
    others = [int(part) for part in np.flatnonzero(sizes >= threshold) if part != largest]
    kept = [largest, *(part for part in others if _is_limb(labels == part, coarse, volume))]
    chosen = np.isin(labels, kept)
    removed = float(sizes.sum() - sizes[kept].sum()) * coarse.voxel_ml
    # adds what the opening removed at the surface (nose, ears, fingers), but no thinly connected objects
    return low & _dilate(chosen, 1), len(kept), removed


def _largest_patient(
    labels: NDArray[np.int32], sizes: NDArray[np.int64], coarse: _Coarse, volume: Volume
) -> int:
    """The largest part that is not a couch; the largest of all if every part is like a couch."""
    order = np.argsort(sizes)[::-1]
    candidates = [int(part) for part in order[:4] if sizes[part] > 0]
    for part in candidates:
        if _is_limb(labels == part, coarse, volume) or sizes[part] * coarse.voxel_ml > 15 * 1000:
            return part
    return candidates[0]


def _is_limb(part: Mask, coarse: _Coarse, volume: Volume) -> bool:
    """Whether a solid part has the HU of tissue and varies along z, unlike a couch rail."""
    extent = Box.around(part)
    block = part[extent.slices]
    projection = int(block.any(axis=0).sum())
    long = extent.shape[0] * coarse.spacing_mm[0] > 60.0
    prism = block.sum() / (projection * extent.shape[0])
    if long and prism > _PRISM:
        return False
    low, high = _TISSUE_RANGE_HU
    return bool(low < float(coarse.sample(volume)[part].mean()) < high)


def _with_cavities(core: Mask, low: Mask, coarse: _Coarse, volume: Volume) -> Mask:
    """The solid patient with lungs, bowel gas and airways, without the cavity of the couch.

    A cavity is a region of air that does not touch the border of its slice, or only along a short arc (a lung
    cut by the field of view). It belongs to the patient if most of its wall does.
    """
    air, count = ndimage.label(~low, _IN_PLANE)
    if count == 0:
        return core
    ring = low & ~core  # thin tissue: a couch shell, or a child's chest wall
    rim = np.zeros_like(low)
    rim[:, (0, -1), :] = True
    rim[:, :, (0, -1)] = True
    on_rim = np.bincount(air[rim], minlength=count + 1)
    core_wall, thin_wall = _wall(core, air, count), _wall(ring, air, count)
    wall = np.maximum(core_wall + thin_wall, 1)
    voxels = np.maximum(np.bincount(air.ravel(), minlength=count + 1), 1)
    mean_hu = np.bincount(air.ravel(), coarse.sample(volume).ravel(), minlength=count + 1) / voxels
    needed = np.where(mean_hu > _LUNG_HU, _ENCLOSED_LUNG, _ENCLOSED)
    enclosed = (core_wall / wall > needed) & (on_rim <= 0.15 * wall)
    enclosed[0] = False
    cavities = enclosed[air]
    patient = core | cavities
    # the thin wall that encloses a cavity belongs to it
    reach = max(1, round(2 * _THIN_MM / coarse.spacing_mm[2]))
    patient |= ring & np.asarray(ndimage.binary_dilation(cavities, _IN_PLANE, iterations=reach))
    return np.asarray(patient)


def _wall(solid: Mask, air: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """(count + 1,) number of in-plane faces that each region of air shares with a solid."""
    faces = np.zeros(count + 1, dtype=np.int64)
    for here, there in (
        (np.s_[:, 1:, :], np.s_[:, :-1, :]),
        (np.s_[:, :-1, :], np.s_[:, 1:, :]),
        (np.s_[:, :, 1:], np.s_[:, :, :-1]),
        (np.s_[:, :, :-1], np.s_[:, :, 1:]),
    ):
        faces += np.bincount(air[here][solid[there]], minlength=count + 1)
    faces[0] = 0
    return faces


def _at_full_resolution(patient: Mask, tissue: Mask, coarse: _Coarse) -> Mask:
    """The skin from the full-resolution threshold, the inside from the coarse patient."""
    if coarse.factors == (1, 1, 1):
        return patient
    box = Box.around(patient, margin=(1, 1, 1)) if patient.any() else None
    mask = np.zeros(coarse.full, dtype=np.bool_)
    if box is None:
        return mask
    inside = np.asarray(ndimage.binary_erosion(patient, _IN_PLANE, border_value=1))
    near = _dilate(patient, 1)
    stops = (b * f for b, f in zip(box.stop, coarse.factors, strict=True))
    stop = tuple(min(s, n) for s, n in zip(stops, coarse.full, strict=True))
    start = tuple(a * f for a, f in zip(box.start, coarse.factors, strict=True))
    window = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    size: Shape = (stop[0] - start[0], stop[1] - start[1], stop[2] - start[2])
    part = _Coarse(factors=coarse.factors, full=size, spacing_mm=coarse.spacing_mm)
    skin = tissue[window] & part.expand(near[box.slices])
    skin |= part.expand(inside[box.slices])
    island = int(_ISLAND_ML / coarse.voxel_ml * np.prod(coarse.factors))
    mask[window] = cc3d.dust(skin, threshold=island, connectivity=6)
    return mask


def _effective_diameter_mm(mask: Mask, spacing_mm: tuple[float, float, float]) -> float:
    rows, columns = mask.any(axis=2).sum(axis=1), mask.any(axis=1).sum(axis=1)
    occupied = rows > 0
    sizes = np.sqrt(rows[occupied] * spacing_mm[1] * columns[occupied] * spacing_mm[2])
    return float(np.median(sizes))


def _findings(
    mask: Mask, volume: Volume, parts: int, removed_ml: float, diameter_mm: float
) -> tuple[Finding, ...]:
    found = [
        Finding(
            level=Level.INFO,
            code="BODY_EFFECTIVE_DIAMETER",
            message=f"The patient's effective diameter is {diameter_mm:.0f} mm (median over the slices).",
            value=round(diameter_mm, 1),
        )
    ]
    if parts > 1:
        found.append(
            Finding(
                level=Level.INFO,
                code="BODY_SEVERAL_PARTS",
                message=f"The patient is visible as {parts} separate parts, such as arms or legs.",
                value=float(parts),
            )
        )
    if removed_ml >= _ISLAND_ML:
        found.append(
            Finding(
                level=Level.INFO,
                code="BODY_OBJECTS_REMOVED",
                message=f"{removed_ml:.0f} ml of couch, rests or other objects were left out of the body.",
                value=round(removed_ml, 1),
            )
        )
    if _touches_field_of_view(mask, volume):
        found.append(
            Finding(
                level=Level.WARNING,
                code="BODY_TOUCHES_FOV",
                message="The patient touches the edge of the field of view; organs there may be cut.",
            )
        )
    return tuple(found)


def _touches_field_of_view(mask: Mask, volume: Volume) -> bool:
    """Whether the patient touches the image border, or a long arc of the reconstruction circle."""
    border = int(mask[:, (0, -1), :].sum()) + int(mask[:, :, (0, -1)].sum())
    if border * volume.grid.spacing_mm[2] > 20.0 * mask.shape[0] ** 0.5:
        return True
    rows, columns = mask.shape[1:]
    j, i = np.ogrid[:rows, :columns]
    radius = np.hypot(j - (rows - 1) / 2, i - (columns - 1) / 2)
    limit = min(rows, columns) / 2
    blank = volume.hu[:, (0, 0, -1, -1), (0, -1, 0, -1)]
    if int(blank.max()) > -990:  # the corners are measured, so there is no reconstruction circle
        return False
    arc = (radius > limit - 3) & (radius <= limit)
    return bool((mask[:, arc].sum(axis=1) * volume.grid.spacing_mm[2] > 60.0).any())


def cut_to_body(volume: Volume, body: Body, margin_mm: float, *, outside_to_air: bool) -> tuple[Volume, Box]:
    """Crop a CT to the patient, as it is given to a network in training and in use.

    Parameters
    ----------
    volume : CT in HU
    body : the patient in it
    margin_mm : distance from the skin up to which voxels are kept
    outside_to_air : whether voxels outside this margin are set to -1000 HU

    Returns
    -------
    The cropped volume, and its box in the full one.
    """
    reach_k, reach_j, reach_i = (round(margin_mm / s) for s in volume.grid.spacing_mm)
    box = Box.around(body.mask, margin=(reach_k, reach_j, reach_i))
    cropped = volume.crop(box)
    if not outside_to_air:
        return cropped, box
    near = body.mask[box.slices].view(np.uint8)
    for axis, reach in enumerate((reach_k, reach_j, reach_i)):
        if reach:
            near = ndimage.maximum_filter1d(near, 2 * reach + 1, axis=axis, mode="constant")
    return cropped.with_air_outside(near.view(np.bool_)), box
