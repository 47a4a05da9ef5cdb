"""The coarse grid on which the patient is found: blocks of voxels, about 4 mm wide."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.core.geometry import Shape
from orgseg_node.core.volume import Mask, Volume

_COARSE_MM: Final = 4.0

FACES: Final = ndimage.generate_binary_structure(3, 1)
IN_PLANE: Final = FACES & (np.arange(3) == 1)[:, None, None]

Slices = tuple[slice, ...]
_AXES = tuple(
    (tuple(slice(1, None) if a == axis else slice(None) for a in range(3)),
     tuple(slice(None, -1) if a == axis else slice(None) for a in range(3)))
    for axis in range(3)
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """A grid of blocks of voxels.

    Attributes
    ----------
    factors : voxels of a block along ``(k, j, i)``
    full : shape of the CT
    spacing_mm : size of a block along ``(k, j, i)``
    """

    factors: Shape
    full: Shape
    spacing_mm: tuple[float, float, float]

    @classmethod
    def of(cls, volume: Volume) -> Blocks:
        """The grid for a CT."""
        k, j, i = (
            max(1, min(round(_COARSE_MM / s), n))
            for s, n in zip(volume.grid.spacing_mm, volume.grid.shape, strict=True)
        )
        dk, dj, di = (f * s for f, s in zip((k, j, i), volume.grid.spacing_mm, strict=True))
        return cls(factors=(k, j, i), full=volume.grid.shape, spacing_mm=(dk, dj, di))

    @property
    def ml(self) -> float:
        """Volume of a block in millilitres."""
        k, j, i = self.spacing_mm
        return k * j * i / 1000.0

    def radius(self, mm: float) -> Shape:
        """A length in blocks, at least one where the blocks are not already wider."""
        k, j, i = (max(1, round(mm / s)) for s in self.spacing_mm)
        return k, j, i

    def reduce(self, mask: Mask) -> Mask:
        """True where at least half of a block is true."""
        counts: NDArray[np.uint8] | NDArray[np.uint16] = mask.view(np.uint8)
        for axis, factor in enumerate(self.factors):
            if factor > 1:
                counts = _added_by(factor, counts, axis)
        return np.greater_equal(counts, (math.prod(self.factors) + 1) // 2)

    def sample(self, volume: Volume) -> NDArray[np.int16]:
        """The HU at the centre of each block."""
        places = [
            np.minimum(np.arange(0, n, f) + f // 2, n - 1)
            for n, f in zip(self.full, self.factors, strict=True)
        ]
        return np.clip(volume.hu[np.ix_(*places)], -32768, 32767).astype(np.int16)

    def expand(self, low: Mask) -> Mask:
        """The blocks as full-resolution voxels."""
        for axis, (factor, size) in enumerate(zip(self.factors, self.full, strict=True)):
            if factor > 1:
                low = np.repeat(low, factor, axis=axis).take(np.arange(size), axis=axis)
        return low

    def expand_slice(self, low: Mask) -> Mask:
        """The blocks of a slice as pixels of full resolution."""
        _, rows, columns = self.factors
        _, height, width = self.full
        return np.repeat(np.repeat(low, rows, axis=0)[:height], columns, axis=1)[:, :width]


def _added_by(factor: int, counts: NDArray[np.uint8] | NDArray[np.uint16], axis: int) -> NDArray[np.uint16]:
    """Sums of ``factor`` neighbours along an axis, fewer at the end; faster than `reduceat`."""
    along = np.moveaxis(counts, axis, 0)
    sums = np.zeros((-(-along.shape[0] // factor), *along.shape[1:]), dtype=np.uint16)
    for first in range(factor):
        part = along[first::factor]
        sums[: part.shape[0]] += part
    return np.moveaxis(sums, 0, axis)


def dilate(mask: Mask, steps: int = 1, axes: tuple[int, ...] = (0, 1, 2)) -> Mask:
    """Grown over faces; faster than `ndimage`.

    Parameters
    ----------
    mask : (K, J, I) bool
    steps : number of blocks
    axes : the axes along which it grows
    """
    for _ in range(steps):
        grown = mask.copy()
        for axis in axes:
            upper, lower = _AXES[axis]
            grown[upper] |= mask[lower]
            grown[lower] |= mask[upper]
        mask = grown
    return mask


def erode(mask: Mask, axes: tuple[int, ...] = (0, 1, 2)) -> Mask:
    """Without the blocks that have a face to the outside; the border of the image is none."""
    shrunk = mask.copy()
    for axis in axes:
        upper, lower = _AXES[axis]
        shrunk[upper] &= mask[lower]
        shrunk[lower] &= mask[upper]
    return shrunk


def grown_within(mask: Mask, space: Mask, steps: int, axes: tuple[int, ...] = (0, 1, 2)) -> Mask:
    """Grown by a number of blocks, but only into a space.

    Parameters
    ----------
    mask : (K, J, I) bool
    space : (K, J, I) bool, where it may grow
    steps : number of blocks
    axes : the axes along which it grows
    """
    for _ in range(steps):
        mask = mask | (dilate(mask, 1, axes) & space)
    return mask


def opened(mask: Mask, radius: Shape) -> Mask:
    """What is at least as thick as a ball of this radius; the image continues beyond its borders."""
    if radius == (1, 1, 1):
        return dilate(erode(mask)) & mask
    offsets = _ball(radius)
    padded = np.pad(mask, [(2 * r, 2 * r) for r in radius], mode="edge")
    inner = _combined(np.logical_and, padded, radius, offsets)
    return _combined(np.logical_or, inner, radius, offsets) & mask


def opened_in_plane(plane: Mask, radius: int) -> Mask:
    """A slice without what is thinner than twice a radius in pixels; it continues beyond its border."""
    mask = plane
    for combine in (np.logical_and, np.logical_or):
        for _ in range(radius):
            changed = mask.copy()
            combine(changed[1:], mask[:-1], out=changed[1:])
            combine(changed[:-1], mask[1:], out=changed[:-1])
            combine(changed[:, 1:], mask[:, :-1], out=changed[:, 1:])
            combine(changed[:, :-1], mask[:, 1:], out=changed[:, :-1])
            mask = changed
    return mask & plane


def _ball(radius: Shape) -> list[Shape]:
    """The offsets of an ellipsoid with these radii in blocks."""
    rk, rj, ri = radius
    box = np.ndindex(2 * rk + 1, 2 * rj + 1, 2 * ri + 1)
    return [
        (k, j, i)
        for k, j, i in box
        if ((k - rk) / rk) ** 2 + ((j - rj) / rj) ** 2 + ((i - ri) / ri) ** 2 <= 1.0
    ]


def _combined(combine: np.ufunc, mask: Mask, radius: Shape, offsets: list[Shape]) -> Mask:
    """All shifted copies of a mask combined; smaller by the radius on each side."""
    size = [n - 2 * r for n, r in zip(mask.shape, radius, strict=True)]
    result: Mask | None = None
    for offset in offsets:
        shifted = mask[tuple(slice(o, o + n) for o, n in zip(offset, size, strict=True))]
        if result is None:
            result = shifted.copy()
        else:
            combine(result, shifted, out=result)
    return mask if result is None else result


def opposite(axis: int) -> tuple[tuple[Slices, Slices], tuple[Slices, Slices]]:
    """The blocks that have a neighbour along an axis, and these neighbours, as indices; for both sides."""
    upper, lower = _AXES[axis]
    return (upper, lower), (lower, upper)


def shared_faces(
    regions: NDArray[np.int32], count: int, other: Mask, axes: tuple[int, ...] = (1, 2)
) -> NDArray[np.int64]:
    """(count + 1,) number of faces that each region shares with a mask.

    Parameters
    ----------
    regions : (K, J, I) number of each block's region, 0 for none
    count : number of regions
    other : (K, J, I) bool
    axes : the axes along which the faces lie: in the slice (1, 2), between slices (0,)
    """
    faces = np.zeros(count + 1, dtype=np.int64)
    for axis in axes:
        for here, there in opposite(axis):
            shared = (regions[here] > 0) & other[there]  # few, so that the selection is fast
            faces += np.bincount(regions[here][shared], minlength=count + 1)
    faces[0] = 0
    return faces
