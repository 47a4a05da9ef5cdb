"""Which slices of a contour a person has edited.

A planning system that stores a contour again may move its points by a part of a pixel. So a slice counts as
edited only if a pixel of one of the two contours is neither on the other contour nor one of the four
neighbours of a pixel of it, as in `path_length.AddedPath.added_beyond_1px_mm`, looked at from both sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orgseg_node.core.metrics.path_length import contour_pixels, near_pixels
from orgseg_node.core.volume import Mask


@dataclass(frozen=True, slots=True, kw_only=True)
class EditedSlices:
    """The slices with an organ, and how many of them were edited.

    Attributes
    ----------
    slices : slices in which either contour is
    edited : those in which the contours differ by more than one pixel, or only one of them is
    """

    slices: int
    edited: int

    @property
    def share(self) -> float:
        """Share of the slices that were edited, 0 to 1; NaN without any slice."""
        return self.edited / self.slices if self.slices else float("nan")


def edited_slices(before: Mask, after: Mask) -> EditedSlices:
    """The slices in which a person has edited a contour.

    Parameters
    ----------
    before, after : (K, J, I) bool of one shape
    """
    if before.shape != after.shape:
        raise ValueError(f"Masks of {before.shape} and {after.shape} voxels cannot be compared.")
    either = (before | after).any(axis=(1, 2))
    contours = [contour_pixels(mask[either]) for mask in (before, after)]
    first, second = contours
    apart = (first & ~near_pixels(second)) | (second & ~near_pixels(first))
    return EditedSlices(slices=int(np.count_nonzero(either)), edited=int(apart.any(axis=(1, 2)).sum()))
