"""The tiles of nnU-Net's sliding window, and the weight of each voxel of a tile."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from numpy.typing import NDArray

from orgseg_node.core.geometry import Shape
from orgseg_node.core.volume import Mask
from orgseg_node.inference.engine.resampling import LinearInterpolation


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """The tiles over a working volume, which is first padded to the size of a tile where it is smaller.

    Attributes
    ----------
    shape : of the working volume
    patch : of a tile
    starts : first voxel of the tiles along each axis of the padded volume, ascending
    """

    shape: Shape
    patch: Shape
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

    @classmethod
    def covering(cls, shape: Shape, patch: Shape, step: float) -> Tiling:
        """nnU-Net's tiles.

        Parameters
        ----------
        shape : of the working volume
        patch : of a tile
        step : distance of tiles as a fraction of the patch, 0 to 1; it is reduced so that the tiles fit
            evenly
        """
        padded = [max(n, p) for n, p in zip(shape, patch, strict=True)]
        along = compute_steps_for_sliding_window(padded, patch, step)
        z, y, x = (tuple(int(start) for start in starts) for starts in along)
        return cls(shape=shape, patch=patch, starts=(z, y, x))

    @property
    def padded_shape(self) -> Shape:
        """Shape of the padded volume."""
        z, y, x = (max(n, p) for n, p in zip(self.shape, self.patch, strict=True))
        return z, y, x

    @property
    def padding_before(self) -> Shape:
        """Voxels of padding before the volume along each axis; the larger half is behind it."""
        z, y, x = ((p - n) // 2 for p, n in zip(self.padded_shape, self.shape, strict=True))
        return z, y, x

    @property
    def final_planes(self) -> tuple[int, ...]:
        """For each start along the first axis, the number of planes of its slab that no later tile covers."""
        starts = self.starts[0]
        return (*(b - a for a, b in itertools.pairwise(starts)), self.patch[0])

    @property
    def planes_of_a_step(self) -> int:
        """Largest number of planes that become final at once while there are tiles to come; 0 if never."""
        return max(self.final_planes[:-1], default=0)


def gaussian_weights(patch: Shape, device: torch.device) -> torch.Tensor:
    """The weight of each voxel of a tile: nnU-Net's Gaussian, float16."""
    gaussian = compute_gaussian(patch, sigma_scale=1.0 / 8, value_scaling_factor=10, device=device)
    return torch.as_tensor(gaussian)


def needed_tiles(
    tiling: Tiling,
    region: Mask,
    axes: tuple[LinearInterpolation, LinearInterpolation, LinearInterpolation],
    origin: Shape = (0, 0, 0),
) -> NDArray[np.bool_]:
    """Which tiles a region of the CT needs.

    Parameters
    ----------
    tiling : the tiles
    region : (K, J, I) bool, on the grid of the cropped CT
    axes : how logits are interpolated to that grid along each axis
    origin : voxel of the tiled volume that is the first input sample of ``axes``

    Returns
    -------
    (tiles along each axis) bool, true where a voxel of the region is interpolated from the tile
    """
    ranges = [
        [_dependent_samples(axis, start - before - first, start - before - first + size) for start in starts]
        for axis, starts, before, size, first in zip(
            axes, tiling.starts, tiling.padding_before, tiling.patch, origin, strict=True
        )
    ]
    needed = [bool(region[part].any()) for part in itertools.product(*ranges)]
    return np.array(needed).reshape([len(starts) for starts in tiling.starts])


def _dependent_samples(axis: LinearInterpolation, start: int, stop: int) -> slice:
    """The output samples that need an input sample from ``start`` to ``stop``."""
    found = np.flatnonzero((axis.high >= start) & (axis.low < stop))
    return slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, 0)
