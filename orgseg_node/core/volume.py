"""A CT in Hounsfield units, and the organs found in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.geometry import Box, Grid, VoxelGeometry
from orgseg_node.core.organs import Organ

AIR_HU = -1000

HuArray = NDArray[np.int16] | NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Volume:
    """A CT volume.

    Attributes
    ----------
    grid : geometry of the voxels
    hu : (K, J, I) int16, or float32 if the rescale of a slice is not an integer; Hounsfield units
    """

    grid: Grid
    hu: HuArray

    def __post_init__(self) -> None:
        if self.hu.shape != self.grid.shape:
            raise ValueError(f"Volume of {self.hu.shape} voxels on a grid of {self.grid.shape}.")

    def crop(self, box: Box) -> Volume:
        """The part inside a box; a view, not a copy."""
        return Volume(grid=self.grid.crop(box), hu=self.hu[box.slices])

    def with_air_outside(self, mask: Mask) -> Volume:
        """A copy in which everything outside a mask is air (-1000 HU)."""
        hu = self.hu.copy()
        hu[~mask] = AIR_HU
        return Volume(grid=self.grid, hu=hu)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelMap:
    """One organ number for each voxel.

    Attributes
    ----------
    grid : geometry of the voxels: a regular grid or individual slices
    labels : (K, J, I) uint8, 0 = no organ
    organs : organ of each label number that may occur, including organs that were not found
    """

    grid: VoxelGeometry
    labels: NDArray[np.uint8]
    organs: Mapping[int, Organ]

    def __post_init__(self) -> None:
        if self.labels.shape != self.grid.shape:
            raise ValueError(f"Labels of {self.labels.shape} voxels on a grid of {self.grid.shape}.")
        if self.labels.dtype != np.uint8:
            raise ValueError(f"Labels must be uint8, not {self.labels.dtype}.")
        if 0 in self.organs:
            raise ValueError("Label 0 is the background and cannot be an organ.")

    def mask(self, label: int) -> Mask:
        """(K, J, I) bool, true inside the organ of this number."""
        return np.equal(self.labels, label)

    def voxel_counts(self) -> dict[int, int]:
        """Number of voxels of each organ number, 0 if an organ was not found."""
        counts = counts_by_plane(self.labels).sum(axis=0)
        return {label: int(counts[label]) for label in sorted(self.organs)}

    def volumes_ml(self) -> dict[int, float]:
        """Volume of each organ number in millilitres, 0 if an organ was not found."""
        sums = self.grid.slice_ml @ counts_by_plane(self.labels)
        return {label: float(sums[label]) for label in sorted(self.organs)}


def counts_by_plane(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Number of voxels of each label in each plane.

    Parameters
    ----------
    labels : (K, J, I) uint8

    Returns
    -------
    (K, 256) int64
    """
    counts = np.zeros((labels.shape[0], 256), dtype=np.int64)
    for k, plane in enumerate(
        labels
    ):  # one bincount for all planes would convert the labels to 8-byte integers
        rows = np.flatnonzero(plane.any(axis=1))
        shown = plane[rows[0] : rows[-1] + 1] if rows.size else plane[:0]
        counts[k] = np.bincount(shown.ravel(), minlength=256)
        counts[k, 0] += plane.size - shown.size
    return counts
