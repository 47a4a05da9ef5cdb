"""How large the patient is at the level scanned: the effective diameter after AAPM report 204, in mm.

The effective diameter is the diameter of the circle with the area of the patient's section,
``2 sqrt(area / pi)`` (AAPM report 204, "Size-specific dose estimates (SSDE) in pediatric and adult body CT
examinations", 2011). The report writes it as ``sqrt(AP x LAT)`` as well, which is the same for an ellipse;
the area is used here, since an arm that touches the trunk widens LAT far more than it adds to the area.

Arms beside the trunk, and the second leg, are no part of the section: of several pieces of a slice the
largest is measured. A section that the field of view cuts is larger than it looks; such sections are left
out where enough others are whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cc3d
import numpy as np

from orgseg_node.core.body.field_of_view import cut_sections
from orgseg_node.core.volume import Mask, Volume

_STEP_MM: Final = 5.0  # sections nearer to each other are the same section
_ENOUGH_WHOLE: Final = 0.25  # of the sections; with fewer whole ones, those that are cut are measured too


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientSize:
    """The size of a patient at the level scanned: medians over the slices, in mm.

    Attributes
    ----------
    effective_diameter_mm : diameter of the circle with the area of the section
    ap_mm, lat_mm : extent of the section from front to back, and from side to side
    cut : fraction of the sections that the field of view cuts
    """

    effective_diameter_mm: float
    ap_mm: float
    lat_mm: float
    cut: float

    @property
    def is_lower_limit(self) -> bool:
        """Whether so many sections are cut that the patient is larger than the numbers say."""
        return self.cut > 1.0 - _ENOUGH_WHOLE


def measure_size(volume: Volume, body: Mask) -> PatientSize:
    """Measure the patient in a CT.

    Parameters
    ----------
    volume : CT in HU, axial slices of any patient position
    body : (K, J, I) bool, the patient in it

    Raises
    ------
    ValueError
        If the body is empty.
    """
    if not body.any():
        raise ValueError("The body is empty.")
    grid = volume.grid
    step = max(1, round(_STEP_MM / grid.spacing_mm[0]))
    planes = np.flatnonzero(body.any(axis=(1, 2)))[::step]
    sections = np.stack([_largest_piece(body[k]) for k in planes])
    rows_mm, columns_mm = grid.spacing_mm[1:]
    area = sections.sum(axis=(1, 2)) * rows_mm * columns_mm
    sizes = np.stack(
        [
            2.0 * np.sqrt(area / math.pi),
            sections.any(axis=2).sum(axis=1) * rows_mm,
            sections.any(axis=1).sum(axis=1) * columns_mm,
        ]
    )
    cut = cut_sections(sections, volume.hu[planes], columns_mm)
    whole = sizes[:, ~cut] if np.mean(~cut) >= _ENOUGH_WHOLE else sizes
    diameter, along_rows, along_columns = (float(each) for each in np.median(whole, axis=1))
    rows_are_sideways = abs(grid.axes[1][0]) > abs(grid.axes[2][0])
    lat, ap = (along_rows, along_columns) if rows_are_sideways else (along_columns, along_rows)
    return PatientSize(effective_diameter_mm=diameter, ap_mm=ap, lat_mm=lat, cut=float(np.mean(cut)))


def _largest_piece(plane: Mask) -> Mask:
    pieces = cc3d.connected_components(plane, connectivity=4)
    counts = np.bincount(pieces.ravel())
    counts[0] = 0
    return np.asarray(pieces == np.argmax(counts), dtype=np.bool_)
