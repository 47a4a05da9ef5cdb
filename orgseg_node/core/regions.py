"""Structures outside the label map: margins, rings, unions and others, which may overlap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orgseg_node.core.geometry import Box, Shape
from orgseg_node.core.organs import Organ
from orgseg_node.core.volume import Mask


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Region:
    """One structure with its own mask.

    Attributes
    ----------
    organ : name, colour, type and codes for the objects
    box : its part of the image
    mask : bool, of the shape of the box
    derivation : how it was made, such as ``SpinalCord + 5 mm``
    """

    organ: Organ
    box: Box
    mask: Mask
    derivation: str

    def __post_init__(self) -> None:
        if self.mask.shape != self.box.shape:
            raise ValueError(f"A region of {self.mask.shape} voxels in a box of {self.box.shape}.")

    @classmethod
    def of(cls, organ: Organ, mask: Mask, derivation: str) -> Region:
        """A region from a mask of the whole image; with a box of one voxel, not set, if it is empty.

        Parameters
        ----------
        organ : name, colour, type and codes for the objects
        mask : (K, J, I) bool
        derivation : how it was made, such as ``SpinalCord + 5 mm``
        """
        box = Box.around(mask) if mask.any() else Box(start=(0, 0, 0), stop=(1, 1, 1))
        return cls(organ=organ, box=box, mask=mask[box.slices].copy(), derivation=derivation)

    def full(self, shape: Shape) -> Mask:
        """The (K, J, I) bool mask of the whole image."""
        whole = np.zeros(shape, dtype=np.bool_)
        whole[self.box.slices] = self.mask
        return whole
