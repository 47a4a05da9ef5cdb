"""The outline of the patient in a CT: coarse patient, skin at full resolution, findings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cc3d
import numpy as np

from orgseg_node.core.body.blocks import Blocks, dilate, erode, opened_in_plane
from orgseg_node.core.body.cavities import enclosed_in_slice, with_cavities
from orgseg_node.core.body.field_of_view import touches_field_of_view
from orgseg_node.core.body.findings import body_findings
from orgseg_node.core.body.foreign import foreign_objects
from orgseg_node.core.body.parts import patient_parts
from orgseg_node.core.body.size import measure_size
from orgseg_node.core.checks import Finding
from orgseg_node.core.geometry import Box, Shape
from orgseg_node.core.volume import Mask, Volume
from orgseg_node.errors import BodyNotFound

TISSUE_HU: Final = -300  # the study's threshold between air and patient; no upper limit: metal stays inside
_THIN_MM: Final = 4.0  # what is thinner is no skin
_FIRM: Final = 0.7  # fraction of a small island (a fingertip) that must lie in blocks of the patient


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Body:
    """The patient in a CT.

    Attributes
    ----------
    mask : (K, J, I) bool, true inside the patient including cavities
    box : bounding box of the mask
    effective_diameter_mm : median over the slices (AAPM report 204), see `size`
    findings : what a person should know about it
    """

    mask: Mask
    box: Box
    effective_diameter_mm: float
    findings: tuple[Finding, ...]


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
    blocks = Blocks.of(volume)
    low, hu = blocks.reduce(tissue), blocks.sample(volume)
    enclosed = enclosed_in_slice(~low, low)
    foreign = foreign_objects(low, hu, ~(low | enclosed), blocks)
    solid = low
    if foreign.mask.any():
        low = low & ~foreign.mask
        enclosed = enclosed_in_slice(~low, low)
    parts = patient_parts(low, hu, blocks)
    patient = with_cavities(parts.core, low, enclosed, hu, blocks)
    mask = _at_full_resolution(patient, parts.spurs, solid, tissue, blocks)
    if not mask.any():
        raise BodyNotFound
    box = Box.around(mask)
    diameter = measure_size(volume, mask).effective_diameter_mm
    removed = parts.removed_ml + float(np.count_nonzero(foreign.mask)) * blocks.ml
    return Body(
        mask=mask,
        box=box,
        effective_diameter_mm=diameter,
        findings=body_findings(
            touches_fov=touches_field_of_view(mask, volume),
            diameter_mm=diameter,
            parts=parts.count,
            removed_ml=removed,
            doubtful_ml=foreign.doubtful_ml,
        ),
    )


def _at_full_resolution(patient: Mask, spurs: Mask, solid: Mask, tissue: Mask, blocks: Blocks) -> Mask:
    """The skin from the full-resolution threshold, the inside from the coarse patient.

    Parameters
    ----------
    patient : (K, J, I) bool, the blocks of the patient
    spurs : (K, J, I) bool, the thin ends among them, such as ears
    solid : (K, J, I) bool, the blocks that are at least half tissue, of the patient or of other objects
    tissue : bool, the tissue at full resolution
    blocks : the coarse grid
    """
    if blocks.factors == (1, 1, 1):
        return patient
    mask = np.zeros(blocks.full, dtype=np.bool_)
    if not patient.any():
        return mask
    box = Box.around(patient, margin=(1, 1, 1))
    # the outer two blocks may hold the gap under a mask, unless a cavity lies there
    inner = erode(patient, axes=(1, 2))
    inside = inner & (erode(inner, axes=(1, 2)) | dilate(patient & ~solid))
    near = patient | (dilate(patient) & ~solid)
    stops = (b * f for b, f in zip(box.stop, blocks.factors, strict=True))
    stop = tuple(min(s, n) for s, n in zip(stops, blocks.full, strict=True))
    start = tuple(a * f for a, f in zip(box.start, blocks.factors, strict=True))
    window = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    size: Shape = (stop[0] - start[0], stop[1] - start[1], stop[2] - start[2])
    part = Blocks(factors=blocks.factors, full=size, spacing_mm=blocks.spacing_mm)
    skin = tissue[window] & part.expand(near[box.slices])
    skin |= part.expand(inside[box.slices])
    kept = inside | dilate(spurs)
    _remove_loose(skin, kept[box.slices], (patient & solid)[box.slices], part)
    mask[window] = skin
    return mask


def _remove_loose(skin: Mask, kept: Mask, firm: Mask, blocks: Blocks) -> None:
    """Remove, in place, masks, cloth and pieces of the couch on the skin.

    In each slice, what is thinner than the skin is removed, then what is not connected to the patient.

    Parameters
    ----------
    skin : bool, the body at full resolution
    kept : (K, J, I) bool, blocks inside the patient, and of its thin ends
    firm : (K, J, I) bool, blocks of the patient that are mostly tissue
    blocks : the coarse grid
    """
    thin = int(_THIN_MM / 2 * blocks.factors[2] / blocks.spacing_mm[2])
    for k, plane in enumerate(skin):
        low = k // blocks.factors[0]
        within = blocks.expand_slice(kept[low])
        if thin:
            np.logical_and(plane, opened_in_plane(plane, thin) | within, out=plane)
        labels, count = cc3d.connected_components(plane, connectivity=4, return_N=True)
        if count < 2:
            continue
        sizes, held, solid = (
            np.bincount(labels[part], minlength=count + 1)
            for part in (plane, within, blocks.expand_slice(firm[low]))
        )
        loose = (held == 0) & (solid < _FIRM * sizes)
        loose[0] = False
        if loose.any():
            plane[loose[labels]] = False
