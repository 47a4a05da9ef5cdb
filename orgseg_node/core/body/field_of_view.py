"""Where the field of view cuts the patient: at the image border, or at the circle of the reconstruction."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.volume import HuArray, Mask, Volume

_BORDER_MM: Final = 20.0  # length along the image border from which a section is cut
_ARC_MM: Final = 60.0  # length along the circle from which it is: a round patient may touch it in a point
_BLANK_HU: Final = -990  # corners above this were measured, so there is no circle


def touches_field_of_view(mask: Mask, volume: Volume) -> bool:
    """Whether the patient touches the image border, or a long arc of the reconstruction circle."""
    border, arc = _contacts_mm(mask, volume.hu, volume.grid.spacing_mm[2])
    return bool(border.sum() > _BORDER_MM * mask.shape[0] ** 0.5 or (arc > _ARC_MM).any())


def cut_sections(sections: Mask, hu: HuArray, step_mm: float) -> NDArray[np.bool_]:
    """(N,) bool, whether the field of view cuts the patient in each of some slices.

    Parameters
    ----------
    sections : (N, J, I) bool, the patient in these slices
    hu : (N, J, I) the slices in HU
    step_mm : spacing of the columns
    """
    border, arc = _contacts_mm(sections, hu, step_mm)
    return (border > _BORDER_MM) | (arc > _ARC_MM)


def _contacts_mm(mask: Mask, hu: HuArray, step_mm: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N,) lengths along which the patient touches the image border, and the circle, in each slice."""
    ends = (0, -1)
    border = (mask[:, ends, :].sum(axis=(1, 2)) + mask[:, :, ends].sum(axis=(1, 2))) * step_mm
    rows, columns = mask.shape[1:]
    blank = hu[:, (0, 0, -1, -1), (0, -1, 0, -1)]
    if int(blank.max()) > _BLANK_HU:
        return border, np.zeros(mask.shape[0])
    j, i = np.ogrid[:rows, :columns]
    radius = np.hypot(j - (rows - 1) / 2, i - (columns - 1) / 2)
    limit = min(rows, columns) / 2
    circle = (radius > limit - 3) & (radius <= limit)
    return border, mask[:, circle].sum(axis=1) * step_mm
