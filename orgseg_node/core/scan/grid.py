"""A CT on a coarse grid with axes of the patient, on which a scan is measured before the network runs.

Every scan is measured at the same scale of some 5 mm: in the plane by means over blocks, which also removes
noise; along the body by every n-th slice. Outside the patient everything is air, so that couch and masks do
not count, and scans whose background was blanked are measured like all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.geometry import Box, FloatArray, Grid
from orgseg_node.core.volume import AIR_HU, Mask, Volume

_COARSE_MM: Final = 5.0
_RANGE_HU: Final = (-1024, 3071)

FloatImage = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScanGrid:
    """The patient in a scan, coarsely; axes ``(z, y, x)`` grow to the head, the back and the left.

    Attributes
    ----------
    hu : (K, J, I) float32, mean HU of the patient in each block; -1000 where less than half is patient
    inside : (K, J, I) bool, true where at least half of the block is patient
    spacing_mm : of the blocks along z, y and x
    z_mm : (K,) positions of the slices along the z axis in mm, increasing
    planes : (K,) slice numbers in the scan
    """

    hu: FloatImage
    inside: Mask
    spacing_mm: tuple[float, float, float]
    z_mm: FloatArray
    planes: NDArray[np.intp]

    def flipped(self, *, z: bool, y: bool, x: bool) -> ScanGrid:
        """The scan as if its axes ran the other way, which is how a false patient position shows.

        Parameters
        ----------
        z, y, x : the axes that are turned round
        """
        axes = tuple(axis for axis, turned in enumerate((z, y, x)) if turned)
        return ScanGrid(
            hu=np.flip(self.hu, axes),
            inside=np.flip(self.inside, axes),
            spacing_mm=self.spacing_mm,
            z_mm=-self.z_mm[::-1] if z else self.z_mm,
            planes=self.planes[::-1] if z else self.planes,
        )

    def part(self, slices: NDArray[np.bool_]) -> ScanGrid:
        """The slices that are true in a (K,) bool array."""
        return ScanGrid(
            hu=self.hu[slices],
            inside=self.inside[slices],
            spacing_mm=self.spacing_mm,
            z_mm=self.z_mm[slices],
            planes=self.planes[slices],
        )


def scan_grid(volume: Volume, body: Mask) -> ScanGrid:
    """Bring the patient onto the coarse grid.

    Parameters
    ----------
    volume : CT in HU, any axes; an oblique one is taken by the closest axes
    body : (K, J, I) bool, the patient

    Raises
    ------
    ValueError
        If the body is empty.
    """
    box = Box.around(body)
    order, turned = _canonical(volume.grid)
    hu = np.flip(volume.hu[box.slices].transpose(order), turned)
    inside = np.flip(body[box.slices].transpose(order), turned)
    spacing = tuple(volume.grid.spacing_mm[axis] for axis in order)
    steps = tuple(max(1, round(_COARSE_MM / mm)) for mm in spacing)
    first = (hu.shape[0] - 1) % steps[0] // 2
    hu, inside = hu[first :: steps[0]], inside[first :: steps[0]]
    planes = np.arange(box.start[order[0]], box.stop[order[0]])
    planes = (planes[::-1] if 0 in turned else planes)[first :: steps[0]]
    clipped = np.clip(hu, *_RANGE_HU).astype(np.float32)
    clipped[~inside] = 0.0
    share = _block_mean(inside.astype(np.float32), steps[1:])
    mean = _block_mean(clipped, steps[1:]) / np.maximum(share, 1e-6)
    mostly = share >= 0.5
    sign = -1.0 if 0 in turned else 1.0
    return ScanGrid(
        hu=np.where(mostly, mean, np.float32(AIR_HU)),
        inside=mostly,
        spacing_mm=(spacing[0] * steps[0], spacing[1] * steps[1], spacing[2] * steps[2]),
        z_mm=np.sort(_along_z(volume.grid, order[0], sign, planes)),
        planes=planes,
    )


def _along_z(grid: Grid, axis: int, sign: float, planes: NDArray[np.intp]) -> FloatArray:
    """Positions of slices along z in mm."""
    return np.asarray(grid.origin_mm[2] + sign * planes * grid.spacing_mm[axis], dtype=np.float64)


def _canonical(grid: Grid) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """The axes of the array that are closest to z, y and x, and those of the result to be turned round."""
    cosines = np.asarray(grid.axes)[:, ::-1].T  # rows: patient z, y, x; columns: axes of the array
    order = max(permutations(range(3)), key=lambda p: sum(abs(cosines[n, a]) for n, a in enumerate(p)))
    return (order[0], order[1], order[2]), tuple(n for n, a in enumerate(order) if cosines[n, a] < 0)


def _block_mean(values: FloatImage, steps: tuple[int, ...]) -> FloatImage:
    """Means over blocks in the plane; blocks at the end that are cut count as if continued by zeros."""
    sj, si = steps
    k, j, i = values.shape
    padded = np.pad(values, ((0, 0), (0, -j % sj), (0, -i % si))) if j % sj or i % si else values
    blocks: Any = padded.reshape(k, -(-j // sj), sj, -(-i // si), si)
    mean: FloatImage = blocks.mean(axis=(2, 4))
    return mean
