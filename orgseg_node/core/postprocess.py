"""Tidying one organ after the network: small pieces off, holes shut, skipped slices filled.

Nothing of this is done unless a protocol asks for it, and what was done is told in millilitres.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.core.geometry import FloatArray
from orgseg_node.core.volume import Mask

_ONE_SIDE = 0.9  # so much of a piece on one side makes it a piece of that side


class FillHoles(StrEnum):
    """Which holes of an organ are filled."""

    NONE = "none"
    SLICES = "2d"  # what an organ encloses in a slice
    VOLUME = "3d"  # what an organ encloses on all sides


@dataclass(frozen=True, slots=True, kw_only=True)
class Tidying:
    """What is done to one organ, in this order.

    Attributes
    ----------
    keep_components : so many of the largest pieces stay (26-connected); None for all
    min_island_ml : smaller pieces go
    fill_holes : which holes are filled
    interpolate_slices : whether slices between two that show the organ are filled where they do not
    """

    keep_components: int | None = None
    min_island_ml: float = 0.0
    fill_holes: FillHoles = FillHoles.NONE
    interpolate_slices: bool = False

    @property
    def is_nothing(self) -> bool:
        """Whether an organ stays as it is."""
        return self == Tidying()


def tidy(mask: Mask, free: Mask, slice_ml: FloatArray, heights_mm: FloatArray, how: Tidying) -> Mask:
    """An organ as a protocol wants it.

    Parameters
    ----------
    mask : (K, J, I) bool
    free : (K, J, I) bool, voxels of no organ: only these may be filled
    slice_ml : (K,) volume of a voxel of each slice
    heights_mm : (K,) places of the slices along their normal
    how : what to do

    Returns
    -------
    (K, J, I) bool
    """
    mask = _without_pieces(mask, slice_ml, how)
    if how.fill_holes is FillHoles.SLICES:
        mask = mask | (free & np.stack([ndimage.binary_fill_holes(plane) for plane in mask]))
    elif how.fill_holes is FillHoles.VOLUME:
        mask = mask | (free & ndimage.binary_fill_holes(mask))
    if how.interpolate_slices:
        mask = mask | (free & _between(mask, heights_mm))
    return mask


def _without_pieces(mask: Mask, slice_ml: FloatArray, how: Tidying) -> Mask:
    if how.keep_components is None and not how.min_island_ml:
        return mask
    pieces, volumes = _pieces(mask, slice_ml)
    order = sorted(range(1, len(volumes)), key=lambda piece: (-volumes[piece], piece))
    kept = np.zeros(len(volumes), dtype=np.bool_)
    kept[[piece for piece in order[: how.keep_components] if volumes[piece] >= how.min_island_ml]] = True
    found: Mask = kept[pieces]
    return found


def _pieces(mask: Mask, slice_ml: FloatArray) -> tuple[NDArray[np.uint32], FloatArray]:
    """The number of the piece of each voxel, and the volume of each piece in ml; 0 is what is outside."""
    pieces: NDArray[np.uint32] = cc3d.connected_components(mask, connectivity=26).astype(np.uint32)
    count = int(pieces.max()) + 1
    volumes = np.zeros(count)
    for plane, voxel_ml in zip(pieces, slice_ml, strict=True):
        volumes += np.bincount(plane.ravel(), minlength=count) * voxel_ml
    return pieces, volumes


def _between(mask: Mask, heights_mm: FloatArray) -> Mask:
    """The organ in skipped slices: where the signed distances of the slices around, weighted, are inside."""
    shown = np.flatnonzero(mask.any(axis=(1, 2)))
    filled = np.zeros_like(mask)
    for below, above in pairwise(shown.tolist()):
        if above - below < 2:
            continue
        first, second = _signed_distance(mask[below]), _signed_distance(mask[above])
        for k in range(below + 1, above):
            part = (heights_mm[k] - heights_mm[below]) / (heights_mm[above] - heights_mm[below])
            filled[k] = (1 - part) * first + part * second > 0
    return filled


def _signed_distance(plane: Mask) -> FloatArray:
    """Distance in pixels to the border, positive inside; the edge of the picture is a border too."""
    padded = np.pad(plane, 1)
    inside: FloatArray = ndimage.distance_transform_edt(padded)
    outside: FloatArray = ndimage.distance_transform_edt(~padded)
    return (inside - outside)[1:-1, 1:-1]


def split_sides(mask: Mask, x_mm: FloatArray, middle_mm: float) -> tuple[Mask, Mask]:
    """The left and the right one of a pair that a network drew as one organ.

    A piece that lies on one side as good as wholly belongs to that side; one that reaches across is cut at
    the middle of the patient.

    Parameters
    ----------
    mask : (K, J, I) bool
    x_mm : (K, J, I) or what broadcasts to it; LPS x of each voxel, growing to the patient's left
    middle_mm : x of the middle of the patient

    Returns
    -------
    left and right, (K, J, I) bool
    """
    pieces = cc3d.connected_components(mask, connectivity=26)
    is_left = np.broadcast_to(x_mm > middle_mm, mask.shape)
    count = int(pieces.max()) + 1
    of_piece = np.bincount(pieces[mask], minlength=count)
    left_of_piece = np.bincount(pieces[mask & is_left], minlength=count)
    share = left_of_piece / np.maximum(of_piece, 1)
    whole_left, whole_right = share > _ONE_SIDE, share < 1 - _ONE_SIDE
    left = mask & (whole_left[pieces] | (is_left & ~whole_right[pieces]))
    return left, mask & ~left
