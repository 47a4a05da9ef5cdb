"""Contours of another habit than those of the data: what a second clinic would draw on the same patients.

* spinal cord: the canal, 3 mm wider on every slice
* parotids: without the deep lobe, taken as the 30 % of the volume nearest to the midline of the patient
* mandible: without teeth and fillings, taken as what lies above 1300 HU
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.core.geometry import Grid
from orgseg_node.core.volume import HuArray

CANAL_MM = 3.0
DEEP_LOBE = 0.30
TEETH_HU = 1300
FINE = 4
"""Points of a fine slice for each voxel along rows and columns."""

Mask = NDArray[np.bool_]
Field = NDArray[np.float32]


def canal_slice(mask: Mask, grid: Grid) -> Field:
    """(FINE * J, FINE * I) values above 0.5 in the canal: up to `CANAL_MM` outside the cord.

    Parameters
    ----------
    mask : (J, I) bool, the cord
    grid : of the scan
    """
    fine = np.kron(mask, np.ones((FINE, FINE))) > 0.5
    _, dy, dx = grid.spacing_mm
    distance = ndimage.distance_transform_edt(~fine, sampling=(dy / FINE, dx / FINE))
    return (distance <= CANAL_MM).astype(np.float32)


def superficial_lobe(mask: Mask, middle_x: float, grid: Grid) -> Mask:
    """A parotid without the part nearest to the midline.

    Parameters
    ----------
    mask : (K, J, I) bool
    middle_x : x of the midline in mm
    grid : of the scan
    """
    x = grid.origin_mm[0] + np.arange(mask.shape[2]) * grid.spacing_mm[2]
    lateral = np.abs(x - middle_x)
    border = np.quantile(np.broadcast_to(lateral, mask.shape)[mask], DEEP_LOBE)
    return mask & (lateral >= border)


def without_teeth(mask: Mask, hu: HuArray) -> Mask:
    """A mandible without what lies above `TEETH_HU`.

    Parameters
    ----------
    mask : (K, J, I) bool
    hu : (K, J, I) of the scan
    """
    return mask & (hu <= TEETH_HU)


def with_habit(masks: dict[str, Mask], hu: HuArray, grid: Grid) -> dict[str, Mask]:
    """The masks as the other clinic draws them; the canal is drawn from the cord by `canal_slice`.

    Parameters
    ----------
    masks : (K, J, I) bool by organ
    hu : (K, J, I) of the scan
    grid : of the scan
    """
    changed = dict(masks)
    parotids = [organ for organ in ("parotid_right", "parotid_left") if organ in masks]
    if len(parotids) == 2:
        every = masks[parotids[0]] | masks[parotids[1]]
        columns = np.flatnonzero(every.any(axis=(0, 1)))
        middle = grid.origin_mm[0] + float(columns[0] + columns[-1]) / 2 * grid.spacing_mm[2]
        changed |= {organ: superficial_lobe(masks[organ], middle, grid) for organ in parotids}
    if "mandible" in masks:
        changed["mandible"] = without_teeth(masks["mandible"], hu)
    return changed
