"""Which organs of a label map can be what they are called: by their volumes, and how they lie to each other.

This needs no reference of any model and no whole patient: limits are so wide that only what is impossible
falls outside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
from scipy import ndimage

from orgseg_node.core.anatomy.relative_position import relative_position_conflicts
from orgseg_node.core.geometry import FloatArray
from orgseg_node.core.volume import LabelMap

POSITION_MARGIN_MM: Final = 10.0
"""Centres of organs must be by more than this on the wrong side of each other."""

_LEAST_ML: Final = 0.5  # but for organs, such as a lens, that are smaller when they are complete
_PART: Final = 0.25  # of the smallest volume of an organ: a scan may end inside it


def is_crumb(ml: float, volume_ml: tuple[float, float] | None) -> bool:
    """Whether a volume is too small to be an organ, or the part of it that a scan shows.

    Parameters
    ----------
    ml : the volume
    volume_ml : smallest and largest volume of the complete organ in any patient; None if not stated
    """
    low = _LEAST_ML if volume_ml is None else volume_ml[0]
    return ml < max(min(_LEAST_ML, low), _PART * low)


def is_possible_volume(ml: float, volume_ml: tuple[float, float] | None) -> bool:
    """Whether an organ, or the part of it that a scan shows, can have a volume.

    Parameters
    ----------
    ml : the volume
    volume_ml : smallest and largest volume of the complete organ in any patient; None if not stated
    """
    high = float("inf") if volume_ml is None else volume_ml[1]
    return not is_crumb(ml, volume_ml) and ml <= high


def possible_organs(found: LabelMap) -> frozenset[str]:
    """Keys of the organs that have a possible volume."""
    return frozenset(
        found.organs[label].key
        for label, ml in found.volumes_ml().items()
        if is_possible_volume(ml, found.organs[label].volume_ml)
    )


def trusted_organs(found: LabelMap) -> frozenset[str]:
    """Keys of the organs that have a possible volume, and that lie to all other ones as in every body."""
    possible = possible_organs(found)
    conflicts = relative_position_conflicts(organ_centres(found, possible), POSITION_MARGIN_MM)
    wrong = {key for first, second, _ in conflicts for key in (first, second)}
    return possible - wrong


def organ_centres(found: LabelMap, keys: Iterable[str]) -> Mapping[str, FloatArray]:
    """The centre of each organ that was found, x, y, z in LPS mm, by key.

    Parameters
    ----------
    found : the organs
    keys : of the organs that are wanted
    """
    wanted = set(keys)
    centres = {}
    for label, where in enumerate(ndimage.find_objects(found.labels), start=1):
        organ = found.organs.get(label)
        if where is None or organ is None or organ.key not in wanted:
            continue
        inside = np.argwhere(found.labels[where] == label)
        centre = inside.mean(axis=0) + [part.start for part in where]
        centres[organ.key] = found.grid.to_lps(centre[None])[0]
    return centres
