"""The solid parts of the patient: trunk, head, arms and legs, without thin objects and rails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.core.body.blocks import FACES, Blocks, dilate, opened
from orgseg_node.core.geometry import Box
from orgseg_node.core.volume import Mask
from orgseg_node.errors import BodyNotFound

_THIN_MM: Final = 6.0  # an opening with this radius removes objects thinner than 12 mm
_PART_ML: Final = 100.0  # separate parts (arms, legs) smaller than this are not part of the patient
_PART_SHARE: Final = 0.005  # ... and parts below this fraction of the largest one
_PRISM: Final = (
    0.92  # a part that fills this fraction of its projection along z is a rail or a couch, not a limb
)
_TISSUE_RANGE_HU: Final = (-200.0, 700.0)  # mean HU of a limb, from fat to mostly bone; not foam, not metal
_SURELY_PATIENT_ML: Final = 15_000.0
_SPUR_MM: Final = 80.0  # an ear, a nose or a finger is smaller than this ...
_SPUR_ML: Final = 25.0
_AIR_HU: Final = -300
_SPUR_HU: Final = (-200.0, 300.0)  # ... denser than a fold of cloth, and not metal


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """The solid parts of the patient on the coarse grid.

    Attributes
    ----------
    core : (K, J, I) bool, the parts
    spurs : (K, J, I) bool, the thin ends among them, such as ears
    count : their number
    removed_ml : volume of the other solid objects
    """

    core: Mask
    spurs: Mask
    count: int
    removed_ml: float


def patient_parts(low: Mask, hu: NDArray[np.int16], blocks: Blocks) -> Parts:
    """The solid parts of the patient.

    Parameters
    ----------
    low : (K, J, I) bool, blocks of tissue without foreign objects
    hu : (K, J, I) HU of the blocks
    blocks : the coarse grid

    Raises
    ------
    BodyNotFound
        If nothing is as thick as a patient.
    """
    labels, count = ndimage.label(opened(low, blocks.radius(_THIN_MM)), FACES)
    if count == 0:
        raise BodyNotFound
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    largest = _largest_patient(labels, sizes, hu, blocks)
    threshold = max(_PART_ML / blocks.ml, _PART_SHARE * sizes[largest])
    others = [int(part) for part in np.flatnonzero(sizes >= threshold) if part != largest]
    kept = [largest, *(part for part in others if _is_limb(labels == part, hu, blocks))]
    chosen = np.isin(labels, kept)
    # what the opening removed at the surface, but no thinly connected objects
    core = low & dilate(chosen)
    spurs = _spurs(core, low, hu, blocks)
    return Parts(
        core=core | spurs,
        spurs=spurs,
        count=len(kept),
        removed_ml=float(sizes.sum() - sizes[kept].sum()) * blocks.ml,
    )


def _largest_patient(
    labels: NDArray[np.int32], sizes: NDArray[np.int64], hu: NDArray[np.int16], blocks: Blocks
) -> int:
    """The largest part that is not a couch; the largest of all if every part is like a couch."""
    order = np.argsort(sizes)[::-1]
    candidates = [int(part) for part in order[:4] if sizes[part] > 0]
    for part in candidates:
        if sizes[part] * blocks.ml > _SURELY_PATIENT_ML or _is_limb(labels == part, hu, blocks):
            return part
    return candidates[0]


def _is_limb(part: Mask, hu: NDArray[np.int16], blocks: Blocks) -> bool:
    """Whether a solid part has the HU of tissue and varies along z, unlike a couch rail."""
    extent = Box.around(part)
    block = part[extent.slices]
    projection = int(block.any(axis=0).sum())
    long = extent.shape[0] * blocks.spacing_mm[0] > 60.0
    prism = block.sum() / (projection * extent.shape[0])
    if long and prism > _PRISM:
        return False
    low, high = _TISSUE_RANGE_HU
    return bool(low < float(hu[part].mean()) < high)


def _spurs(core: Mask, low: Mask, hu: NDArray[np.int16], blocks: Blocks) -> Mask:
    """Thin tissue that ends near the patient: ears, nose and fingers, but no mask, cloth or couch."""
    thin = low & ~core
    labels, count = ndimage.label(thin, np.ones((3, 3, 3)))
    if count == 0:
        return thin
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    touching = np.bincount(labels[dilate(core)], minlength=count + 1) > 0
    dense = thin & (hu > _AIR_HU)  # the middle of a block may lie beside a thin sheet
    sums = np.bincount(labels[dense], hu[dense], minlength=count + 1)
    mean = sums / np.maximum(np.bincount(labels[dense], minlength=count + 1), 1)
    kept = touching & (sizes * blocks.ml <= _SPUR_ML) & (mean > _SPUR_HU[0]) & (mean < _SPUR_HU[1])
    kept[0] = False
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        extent = [(s.stop - s.start) * mm for s, mm in zip(place, blocks.spacing_mm, strict=True)]
        kept[number] &= max(extent) <= _SPUR_MM
    return np.asarray(kept[labels])
