"""The prepared CT as the networks of one preprocessing plan see it, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.boxes import Boxes
from orgseg_node.core.geometry import Box, Shape, Vector
from orgseg_node.inference.engine.plans import PreprocessingPlan
from orgseg_node.inference.engine.working import WorkingVolume, nonzero_box, working_volume
from orgseg_node.inference.orientation import Reorientation, reorientation_to
from orgseg_node.inference.preparing import PreparedCt

_Number = TypeVar("_Number", bound=np.generic)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NetworkView:
    """A prepared CT in the axes of a network, cropped to its non-zero part.

    Attributes
    ----------
    working : the normalised and resampled CT
    box : the part that is not zero, in the reoriented and transposed CT
    spacing_mm : of that CT before resampling, axes of the network
    transpose : for each axis of the network, the axis of the reoriented CT
    reorientation : from the prepared CT to the orientation of the training data
    """

    working: WorkingVolume
    box: Box
    spacing_mm: Vector
    transpose: Shape
    reorientation: Reorientation

    def of(self, array: NDArray[_Number]) -> NDArray[_Number]:
        """An array on the grid of the prepared CT, reoriented, transposed and cropped; a view."""
        return self.reorientation.apply(array).transpose(self.transpose)[self.box.slices]

    def boxes_of(self, boxes: Boxes, shape: Shape) -> Boxes:
        """What of some boxes of the prepared CT lies in the view, in its voxels.

        Parameters
        ----------
        boxes : in voxels of the prepared CT
        shape : of the prepared CT
        """
        reoriented = self.reorientation.apply_to_boxes(boxes, shape)
        return self._transposition.apply_to_boxes(reoriented, shape).in_part(self.box)

    def restore_boxes(self, boxes: Boxes, shape: Shape) -> Boxes:
        """Boxes of the view, in voxels of the prepared CT.

        Parameters
        ----------
        boxes : in voxels of the view
        shape : of the prepared CT
        """
        transposed = boxes.out_of_part(self.box)
        return self.reorientation.undo_boxes(self._transposition.undo_boxes(transposed, shape), shape)

    @property
    def _transposition(self) -> Reorientation:
        return Reorientation(axis_order=self.transpose, flipped_axes=())


def view_for_network(
    prepared: PreparedCt, preprocessing: PreprocessingPlan, orientation: str
) -> NetworkView | None:
    """The prepared CT as networks with this preprocessing see it.

    Parameters
    ----------
    prepared : the CT, see `prepare_ct`
    preprocessing : of the networks
    orientation : of the training data, such as ``LPS``

    Returns
    -------
    None if every voxel is 0, so that nnU-Net would have nothing to segment
    """
    reorientation = reorientation_to(prepared.volume.grid, orientation)
    axes = preprocessing.transpose
    hu = reorientation.apply(prepared.volume.hu).transpose(axes)
    box = nonzero_box(hu)
    if box is None:
        return None
    reoriented_mm = reorientation.apply_to_grid(prepared.volume.grid).spacing_mm
    spacing_mm = (reoriented_mm[axes[0]], reoriented_mm[axes[1]], reoriented_mm[axes[2]])
    working = working_volume(
        hu[box.slices], preprocessing.normalisation, preprocessing.regrid(box.shape, spacing_mm)
    )
    return NetworkView(
        working=working, box=box, spacing_mm=spacing_mm, transpose=axes, reorientation=reorientation
    )
