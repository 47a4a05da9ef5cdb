"""Added path length: the length of contour that a person would have to redraw.

Vaassen et al., Phys. Imaging Radiat. Oncol. 13 (2020) 1: the number of pixels of the reference contour,
slice by slice, that are not on the automatic contour, times the pixel size. A contour pixel is a pixel
inside the organ with at least one of its four neighbours in the slice outside; the border of the image is no
contour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orgseg_node.core.geometry import Vector
from orgseg_node.core.volume import Mask


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedPath:
    """Length of contour that would have to be redrawn.

    Attributes
    ----------
    added_mm : reference contour that is not on the automatic contour
    added_beyond_1px_mm : the same, if the automatic contour may also be on one of the four neighbours
    contour_mm : the whole reference contour
    """

    added_mm: float
    added_beyond_1px_mm: float
    contour_mm: float

    @property
    def percent(self) -> float:
        """Added path in per cent of the reference contour; NaN if there is none."""
        return 100.0 * self.added_mm / self.contour_mm if self.contour_mm > 0 else float("nan")


def added_path(reference: Mask, prediction: Mask, spacing_mm: Vector) -> AddedPath:
    """Added path length of a prediction.

    Parameters
    ----------
    reference, prediction : (K, J, I) bool, the whole scan or a box of it with a margin of one voxel
    spacing_mm : distance of voxel centres along ``(k, j, i)``; the length of a pixel is the
        mean of its sides
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"Masks of {reference.shape} and {prediction.shape} voxels cannot be compared.")
    pixel_mm = (spacing_mm[1] + spacing_mm[2]) / 2
    wanted, drawn = contour_pixels(reference), contour_pixels(prediction)
    near = near_pixels(drawn)
    return AddedPath(
        added_mm=int(np.count_nonzero(wanted & ~drawn)) * pixel_mm,
        added_beyond_1px_mm=int(np.count_nonzero(wanted & ~near)) * pixel_mm,
        contour_mm=int(np.count_nonzero(wanted)) * pixel_mm,
    )


def near_pixels(contour: Mask) -> Mask:
    """The pixels of a contour and their four neighbours in the slice."""
    near = contour.copy()
    near[:, 1:] |= contour[:, :-1]
    near[:, :-1] |= contour[:, 1:]
    near[:, :, 1:] |= contour[:, :, :-1]
    near[:, :, :-1] |= contour[:, :, 1:]
    return near


def contour_pixels(mask: Mask) -> Mask:
    """The pixels of a mask with at least one of their four neighbours in the slice outside."""
    surrounded = mask.copy()
    surrounded[:, 1:] &= mask[:, :-1]
    surrounded[:, :-1] &= mask[:, 1:]
    surrounded[:, :, 1:] &= mask[:, :, :-1]
    surrounded[:, :, :-1] &= mask[:, :, 1:]
    return mask & ~surrounded
