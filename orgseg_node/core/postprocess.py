"""Postprocessing of one organ after the network: removes small pieces, fills holes and skipped slices.

It is applied only if a protocol requires it, and the change is reported in millilitres.
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

_ONE_SIDE = 0.9  # a piece with this fraction on one side belongs to that side


class FillHoles(StrEnum):
    """Which holes of an organ are filled."""

    NONE = "none"
    SLICES = "2d"  # holes within a slice
    VOLUME = "3d"  # holes enclosed on all sides


@dataclass(frozen=True, slots=True, kw_only=True)
class Postprocessing:
    """The steps for one organ, in this order.

    Attributes
    ----------
    keep_components : number of largest pieces to keep (26-connected); None for all
    min_island_ml : smaller pieces are removed
    fill_holes : which holes are filled
    interpolate_slices : whether empty slices between two with the organ are interpolated
    """

    keep_components: int | None = None
    min_island_ml: float = 0.0
    fill_holes: FillHoles = FillHoles.NONE
    interpolate_slices: bool = False

    @property
    def has_no_effect(self) -> bool:
        """Whether an organ stays unchanged."""
        return self == Postprocessing()


def postprocess(
    mask: Mask, free: Mask, slice_ml: FloatArray, heights_mm: FloatArray, steps: Postprocessing
) -> Mask:
    """Apply the postprocessing steps of a protocol to an organ.

    Parameters
    ----------
    mask : (K, J, I) bool
    free : (K, J, I) bool, voxels without an organ: only these may be filled
    slice_ml : (K,) volume of one voxel of each slice in ml
    heights_mm : (K,) positions of the slices along their normal in mm
    steps : what to do

    Returns
    -------
    (K, J, I) bool
    """
    mask = _without_pieces(mask, slice_ml, steps)
    if steps.fill_holes is FillHoles.SLICES:
        mask = mask | (free & np.stack([ndimage.binary_fill_holes(plane) for plane in mask]))
    elif steps.fill_holes is FillHoles.VOLUME:
        mask = mask | (free & ndimage.binary_fill_holes(mask))
    if steps.interpolate_slices:
        mask = mask | (free & _between(mask, heights_mm))
    return mask


def _without_pieces(mask: Mask, slice_ml: FloatArray, steps: Postprocessing) -> Mask:
    if steps.keep_components is None and not steps.min_island_ml:
        return mask
    pieces, volumes = _pieces(mask, slice_ml)
    order = sorted(range(1, len(volumes)), key=lambda piece: (-volumes[piece], piece))
    kept = np.zeros(len(volumes), dtype=np.bool_)
    kept[[piece for piece in order[: steps.keep_components] if volumes[piece] >= steps.min_island_ml]] = True
    found: Mask = kept[pieces]
    return found


def without_far_pieces(
    mask: Mask, slice_ml: FloatArray, spacing_mm: tuple[float, float, float], most_mm: float
) -> Mask:
    """The largest piece of an organ, and the others within a distance from it.

    Parameters
    ----------
    mask : (K, J, I) bool
    slice_ml : (K,) volume of one voxel of each slice in ml
    spacing_mm : distance of voxels along k, j, i; of slices at different distances their median
    most_mm : distance from the largest piece

    Returns
    -------
    (K, J, I) bool
    """
    pieces, volumes = _pieces(mask, slice_ml)
    if len(volumes) < 3:  # the background, and one piece
        return mask
    main = int(np.argmax(volumes[1:])) + 1
    away = ndimage.distance_transform_edt(pieces != main, sampling=spacing_mm)
    numbers = np.arange(1, len(volumes))
    near = np.asarray(ndimage.minimum(away, pieces, numbers)) <= most_mm
    found: Mask = np.concatenate([[False], near])[pieces]
    return found


def _pieces(mask: Mask, slice_ml: FloatArray) -> tuple[NDArray[np.uint32], FloatArray]:
    """(K, J, I) number of the piece of each voxel, and volume of each piece in ml; 0 is the background."""
    pieces: NDArray[np.uint32] = cc3d.connected_components(mask, connectivity=26).astype(np.uint32)
    count = int(pieces.max()) + 1
    volumes = np.zeros(count)
    for plane, voxel_ml in zip(pieces, slice_ml, strict=True):
        volumes += np.bincount(plane.ravel(), minlength=count) * voxel_ml
    return pieces, volumes


def _between(mask: Mask, heights_mm: FloatArray) -> Mask:
    """The organ in skipped slices, by shape-based interpolation: the weighted signed distance is positive."""
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
    """Distance in pixels to the border, positive inside; the edge of the image is a border too."""
    padded = np.pad(plane, 1)
    inside: FloatArray = ndimage.distance_transform_edt(padded)
    outside: FloatArray = ndimage.distance_transform_edt(~padded)
    return (inside - outside)[1:-1, 1:-1]


def split_sides(mask: Mask, x_mm: FloatArray, middle_mm: float) -> tuple[Mask, Mask]:
    """Divide a pair of organs that a network found as one organ into left and right.

    A piece that is almost completely on one side belongs to that side; a piece on both sides is cut at the
    midline of the patient.

    Parameters
    ----------
    mask : (K, J, I) bool
    x_mm : (K, J, I) or broadcastable to it; LPS x of each voxel in mm, positive to the patient's left
    middle_mm : LPS x of the midline of the patient in mm

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
