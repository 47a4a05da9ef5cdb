"""The cavities of the patient: lungs, airways, sinuses and bowel gas, judged in three dimensions.

In a single slice the trachea looks like the gap between arm and trunk, or like the inside of a couch, and
neighbouring slices would be decided differently. So the enclosed air of all slices is joined into pockets,
and each pocket is decided once.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.core.body.blocks import FACES, IN_PLANE, Blocks, grown_within, shared_faces
from orgseg_node.core.volume import Mask

_ENCLOSED: Final = 0.5  # fraction of the wall of a pocket that must be solid patient; a couch's has less
_ENCLOSED_LUNG: Final = 0.2  # ... of a pocket of lung: a child's chest wall may be thin
_LUNG_HU: Final = -910  # most of a lung is denser than this, couch foam and the air under a blanket are not
_ON_RIM: Final = 0.15  # of the wall may lie on the border of the image: a lung cut by the field of view
_BRIDGE_MM: Final = 24.0  # an airway that is open over this length (the mouth) continues
_WALL_MM: Final = 12.0  # the thin wall of a cavity is at most this thick


def with_cavities(core: Mask, low: Mask, enclosed: Mask, hu: NDArray[np.int16], blocks: Blocks) -> Mask:
    """The solid patient with its cavities and their thin walls, without the cavity of the couch.

    Parameters
    ----------
    core : (K, J, I) bool, the solid patient
    low : (K, J, I) bool, blocks of tissue: the solid patient, and thin tissue or objects
    enclosed : (K, J, I) bool, air that is enclosed in its slice by tissue of any kind
    hu : (K, J, I) HU of the blocks
    blocks : the coarse grid
    """
    thin = low & ~core
    # enclosed by the solid patient alone, or by thin tissue as well
    enclosed = enclosed | enclosed_in_slice(~core, core)
    pockets, count = ndimage.label(enclosed, FACES)
    if count == 0:
        return core
    solid, other = shared_faces(pockets, count, core), shared_faces(pockets, count, thin & ~enclosed)
    open_ends = shared_faces(pockets, count, ~(core | enclosed), axes=(0,))
    size = np.maximum(np.bincount(pockets.ravel(), minlength=count + 1), 1)
    lung = np.bincount(pockets[hu > _LUNG_HU], minlength=count + 1) > size // 2
    needed = np.where(lung, _ENCLOSED_LUNG, _ENCLOSED)
    inside = solid > needed * np.maximum(solid + other + open_ends, 1)
    inside[0] = False
    cavities = inside[pockets]
    cavities |= _bridges(cavities, ~low, blocks)
    reach = max(1, round(_WALL_MM / blocks.spacing_mm[2]))
    return core | grown_within(cavities, thin, reach, axes=(1, 2))


def enclosed_in_slice(space: Mask, wall: Mask) -> Mask:
    """The regions of a space that touch the border of their slice not at all, or along a short arc.

    The only region that reaches the border of its slice is never enclosed.
    """
    regions, count = ndimage.label(space, IN_PLANE)
    rim = [regions[:, 0], regions[:, -1], regions[:, 1:-1, 0], regions[:, 1:-1, -1]]
    on_rim = np.bincount(np.concatenate([line.ravel() for line in rim]), minlength=count + 1)
    enclosed = on_rim == 0
    crowded = [
        k
        for k, line in enumerate(np.concatenate(rim, axis=1))
        if line.max() > line[line > 0].min(initial=count)
    ]
    if crowded:
        faces = shared_faces(regions[crowded], count, wall[crowded])
        enclosed |= on_rim <= _ON_RIM * faces
    enclosed[0] = False
    return np.asarray(enclosed[regions])


def _bridges(cavities: Mask, air: Mask, blocks: Blocks) -> Mask:
    """Air between a cavity above and a cavity below, where an airway is open to the outside."""
    length = 2 * (round(_BRIDGE_MM / blocks.spacing_mm[0]) // 2) + 1
    if length < 3:
        return np.zeros_like(cavities)
    grown = ndimage.maximum_filter1d(cavities.view(np.uint8), length, axis=0, mode="constant")
    closed = ndimage.minimum_filter1d(grown, length, axis=0, mode="constant")
    return np.asarray(closed.view(np.bool_) & air)
