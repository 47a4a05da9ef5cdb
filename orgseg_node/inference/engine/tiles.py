"""Where nnU-Net places its tiles, and how much each voxel of a tile counts."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from numpy.typing import NDArray

from orgseg_node.core.geometry import Shape
from orgseg_node.core.volume import Mask
from orgseg_node.inference.engine.resampling import Linear


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """The tiles over a working volume, which is first padded to the size of a tile where it is smaller.

    Attributes
    ----------
    shape : of the working volume
    patch : of a tile
    steps : where tiles begin along each axis of the padded volume, ascending
    """

    shape: Shape
    patch: Shape
    steps: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

    @classmethod
    def over(cls, shape: Shape, patch: Shape, step: float) -> Tiling:
        """nnU-Net's tiles.

        Parameters
        ----------
        shape : of the working volume
        patch : of a tile
        step : distance of tiles as part of the patch, 0 to 1; they may lie closer, so that they fit evenly
        """
        padded = [max(n, p) for n, p in zip(shape, patch, strict=True)]
        along = compute_steps_for_sliding_window(padded, patch, step)
        z, y, x = (tuple(int(start) for start in starts) for starts in along)
        return cls(shape=shape, patch=patch, steps=(z, y, x))

    @property
    def padded(self) -> Shape:
        """Shape of the padded volume."""
        z, y, x = (max(n, p) for n, p in zip(self.shape, self.patch, strict=True))
        return z, y, x

    @property
    def before(self) -> Shape:
        """Voxels of padding before the volume along each axis; the larger half lies behind it."""
        z, y, x = ((p - n) // 2 for p, n in zip(self.padded, self.shape, strict=True))
        return z, y, x

    @property
    def final(self) -> tuple[int, ...]:
        """For each step along the first axis, how many planes of its slab no later tile touches."""
        starts = self.steps[0]
        return (*(b - a for a, b in itertools.pairwise(starts)), self.patch[0])


def weights(patch: Shape, device: torch.device) -> torch.Tensor:
    """The weight of each voxel of a tile: nnU-Net's Gaussian, half."""
    gaussian = compute_gaussian(patch, sigma_scale=1.0 / 8, value_scaling_factor=10, device=device)
    return torch.as_tensor(gaussian)


def touched(tiling: Tiling, inside: Mask, axes: tuple[Linear, Linear, Linear]) -> NDArray[np.bool_]:
    """Which tiles a region of the CT needs.

    Parameters
    ----------
    tiling : the tiles
    inside : (K, J, I) the region, on the grid of the cropped CT
    axes : how logits are interpolated to that grid along each axis

    Returns
    -------
    (steps along each axis) bool, true where some voxel of the region is interpolated from the tile
    """
    ranges = [
        [_needing(axis, start - before, start - before + size) for start in starts]
        for axis, starts, before, size in zip(axes, tiling.steps, tiling.before, tiling.patch, strict=True)
    ]
    needed = [bool(inside[region].any()) for region in itertools.product(*ranges)]
    return np.array(needed).reshape([len(starts) for starts in tiling.steps])


def _needing(axis: Linear, start: int, stop: int) -> slice:
    """The output samples that need an input sample from ``start`` to ``stop``."""
    found = np.flatnonzero((axis.high >= start) & (axis.low < stop))
    return slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, 0)
