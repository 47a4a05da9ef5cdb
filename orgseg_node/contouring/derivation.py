"""Structures made from others: union, intersection, margins, rings and subtraction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orgseg_node.contouring.protocol_entries import DerivedEntry, margin_of
from orgseg_node.core.geometry import VoxelGeometry
from orgseg_node.core.margins import Margin, grow, ring, shrink
from orgseg_node.core.volume import Mask


def derive(
    entry: DerivedEntry,
    sources: Sequence[tuple[Mask, str]],
    minus: Sequence[tuple[Mask | None, str]],
    place: VoxelGeometry,
) -> tuple[Mask, str, list[str]]:
    """The mask of a derived structure, how it was made, and subtracted structures that were not found.

    Parameters
    ----------
    entry : the structure in the protocol
    sources : (K, J, I) bool and name of each structure that it is made from; at least one
    minus : the same of each structure that is subtracted; without a mask where it was not found
    place : where the voxels are
    """
    masks, names = [mask for mask, _ in sources], [name for _, name in sources]
    if entry.derive == "intersection":
        return np.logical_and.reduce(masks), " and ".join(names), []
    mask: Mask = np.logical_or.reduce(masks)
    how = " + ".join(names)
    margin = margin_of(entry.margin_mm)
    match entry.derive:
        case "margin":
            mask, how = grow(mask, place, margin), f"{how} + {margin}"
        case "shrink":
            mask, how = shrink(mask, place, margin), f"{how} - {margin}"
        case "ring":
            inner, outer = margin_of(entry.inner_mm), margin_of(entry.outer_mm)
            mask, how = ring(mask, place, inner, outer), f"{how}, ring from {inner} to {outer}"
        case "subtraction":
            return _subtract((mask, how), minus, place, margin)
    return mask, how, []


def _subtract(
    whole: tuple[Mask, str],
    minus: Sequence[tuple[Mask | None, str]],
    place: VoxelGeometry,
    margin: Margin,
) -> tuple[Mask, str, list[str]]:
    """The rest of a structure, how it was made, and subtracted structures that were not found."""
    mask, how = whole
    missing = []
    wide = f" (with {margin})" if any(margin.values_mm) else ""
    for other, name in minus:
        if other is None:
            missing.append(name)
            continue
        mask = mask & ~grow(other, place, margin)
        how += f" - {name}{wide}"
    return mask, how, missing
