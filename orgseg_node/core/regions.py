"""Structures beside the label map: margins, rings, unions and the like, which may overlap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orgseg_node.core.geometry import Box, Shape
from orgseg_node.core.organs import Organ
from orgseg_node.core.volume import Mask


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Region:
    """One structure as a mask of its own.

    Attributes
    ----------
    organ : name, colour, type and codes as they are to be written
    box : the part of the picture that holds it
    mask : bool, of the shape of the box
    how : how it came about, such as ``SpinalCord + 5 mm``
    """

    organ: Organ
    box: Box
    mask: Mask
    how: str

    def __post_init__(self) -> None:
        if self.mask.shape != self.box.shape:
            raise ValueError(f"A region of {self.mask.shape} voxels in a box of {self.box.shape}.")

    @classmethod
    def of(cls, organ: Organ, mask: Mask, how: str) -> Region:
        """A region from a mask of the whole picture; one voxel, not set, where it is empty."""
        box = Box.around(mask) if mask.any() else Box(start=(0, 0, 0), stop=(1, 1, 1))
        return cls(organ=organ, box=box, mask=mask[box.slices].copy(), how=how)

    def full(self, shape: Shape) -> Mask:
        """The mask on the whole picture."""
        whole = np.zeros(shape, dtype=np.bool_)
        whole[self.box.slices] = self.mask
        return whole
