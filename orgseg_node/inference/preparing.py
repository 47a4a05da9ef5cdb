"""Preparing a CT for a network: reorient to LPS, crop to the patient, set the outside to air if required.

The crop is `orgseg_node.core.body.cut_to_body`, which training calls as well: what is trained is what is run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.core.body import Body, cut_to_body
from orgseg_node.core.boxes import Boxes
from orgseg_node.core.geometry import Box, Grid, Shape
from orgseg_node.core.volume import Mask, Volume
from orgseg_node.errors import BodyNotFound
from orgseg_node.inference.bundles.manifest import Preprocessing
from orgseg_node.inference.orientation import Reorientation, reorientation_to

SEARCH_MARGIN_MM: Final = 10.0
"""Organs are searched up to this distance outside the body mask if the rest of the image is skipped."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedCt:
    """A CT ready for a network, and the way back.

    Attributes
    ----------
    volume : the crop around the patient, in HU; columns to the left, rows to the back, slices to the head
        (LPS)
    mask : (K, J, I) bool on the same grid, true inside the patient
    box : the crop, in voxels of the reoriented CT
    reorientation : from the original CT to LPS
    shape : of the reoriented CT
    """

    volume: Volume
    mask: Mask
    box: Box
    reorientation: Reorientation
    shape: Shape

    def restore(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Labels (K, J, I) of the crop, on the grid of the original CT; 0 outside the crop."""
        whole = labels
        if self.box.shape != self.shape:
            whole = np.zeros(self.shape, dtype=np.uint8)
            whole[self.box.slices] = labels
        return np.ascontiguousarray(self.reorientation.undo(whole))

    def boxes_of(self, boxes: Boxes, shape: Shape) -> Boxes:
        """What of some boxes of the original CT lies in the crop, in its voxels.

        Parameters
        ----------
        boxes : in voxels of the original CT
        shape : of the original CT
        """
        return self.reorientation.apply_to_boxes(boxes, shape).in_part(self.box)

    def restore_boxes(self, boxes: Boxes, shape: Shape) -> Boxes:
        """Boxes of the crop, in voxels of the original CT.

        Parameters
        ----------
        boxes : in voxels of the crop
        shape : of the original CT
        """
        return self.reorientation.undo_boxes(boxes.out_of_part(self.box), shape)


def prepare_ct(volume: Volume, body: Body, preprocessing: Preprocessing) -> PreparedCt:
    """Reorient a CT to LPS, crop it to the patient with a margin and, if required, set the outside to air.

    Parameters
    ----------
    volume : CT in HU, any orientation
    body : the patient in it
    preprocessing : from the model's manifest

    Raises
    ------
    BodyNotFound
        If the body mask is empty.
    """
    if not body.mask.any():
        raise BodyNotFound
    reorientation = reorientation_to(volume.grid)
    reoriented, mask = reorientation.apply_to_volume(volume), reorientation.apply(body.mask)
    upright = replace(body, mask=np.ascontiguousarray(mask), box=Box.around(mask))
    part, box = cut_to_body(
        reoriented, upright, preprocessing.body_margin_mm, outside_to_air=preprocessing.outside_to_air
    )
    return PreparedCt(
        volume=part, mask=mask[box.slices], box=box, reorientation=reorientation, shape=reoriented.grid.shape
    )


def dilate_mm(mask: Mask, grid: Grid, distance_mm: float) -> Mask:
    """A mask dilated by a distance along each axis: every voxel within the box of this half size.

    Parameters
    ----------
    mask : (K, J, I) bool
    grid : of the mask
    distance_mm : rounded to whole voxels along each axis

    Returns
    -------
    (K, J, I) bool
    """
    dilated = mask.view(np.uint8)
    for axis, spacing in enumerate(grid.spacing_mm):
        reach = round(distance_mm / spacing)
        if reach:
            dilated = ndimage.maximum_filter1d(dilated, 2 * reach + 1, axis=axis, mode="constant")
    found: Mask = dilated.view(np.bool_)
    return found
