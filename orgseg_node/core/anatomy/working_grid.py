"""The grid on which organs are measured: about 3 x 4 x 4 mm, along the axes of the patient.

A reference made from coarse CTs must fit fine ones. So every CT is reduced by whole factors to about the same
voxel size, and turned so that the axes increase to the head, to the back and to the patient's left.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.geometry import FloatArray, Grid
from orgseg_node.core.volume import AIR_HU, HuArray, Mask

_STEP_MM = (3.0, 4.0, 4.0)  # along z, y and x of the patient
_MAX_HU = 1500  # metal and dense bone are the same for the measures

Float32Array = NDArray[np.float32]
Span = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class WorkingGrid:
    """A CT and its body, reduced on demand and turned into the axes of the patient.

    Arrays are indexed ``(z, y, x)``, increasing to the head, to the back and to the patient's left.

    Attributes
    ----------
    grid : of the CT
    hu : (K, J, I) Hounsfield units
    body : (K, J, I) bool, the patient
    """

    grid: Grid
    hu: HuArray
    body: Mask

    @cached_property
    def order(self) -> tuple[int, int, int]:
        """The array axis (0 = k, 1 = j, 2 = i) that is closest to z, y and x of the patient."""
        left = np.abs(np.asarray(self.grid.axes))
        axes = [0, 0, 0]
        for _ in range(3):
            axis, direction = np.unravel_index(int(np.argmax(left)), left.shape)
            axes[2 - int(direction)] = int(axis)
            left[axis, :] = left[:, direction] = -1.0
        return axes[0], axes[1], axes[2]

    @cached_property
    def reversed_axes(self) -> tuple[int, ...]:
        """Axes of ``(z, y, x)`` along which the array of the CT decreases."""
        return tuple(n for n, axis in enumerate(self.order) if self.grid.axes[axis][2 - n] < 0)

    @cached_property
    def factors(self) -> tuple[int, int, int]:
        """Number of voxels of the CT in one of this grid, along z, y and x."""
        z, y, x = (
            max(1, min(round(step / self.grid.spacing_mm[axis]), self.grid.shape[axis]))
            for step, axis in zip(_STEP_MM, self.order, strict=True)
        )
        return z, y, x

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Size of a voxel along z, y and x in mm."""
        z, y, x = (
            factor * self.grid.spacing_mm[axis] for factor, axis in zip(self.factors, self.order, strict=True)
        )
        return z, y, x

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along z, y and x; the last one may be incomplete."""
        z, y, x = (
            -(-self.grid.shape[axis] // factor) for factor, axis in zip(self.factors, self.order, strict=True)
        )
        return z, y, x

    @cached_property
    def reduced_body(self) -> Mask:
        """(Z, Y, X) bool, the patient on this grid."""
        view = self.turned(self.body)
        middles = [
            np.minimum(np.arange(n) * factor + factor // 2, size - 1)
            for n, factor, size in zip(self.shape, self.factors, view.shape, strict=True)
        ]
        return np.asarray(view[np.ix_(*middles)], dtype=np.bool_)

    def turned(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """A view of an array of the CT along z, y and x of the patient."""
        return np.flip(array.transpose(self.order), self.reversed_axes)

    def lps_mm(self, point_mm: FloatArray) -> FloatArray:
        """(3,) x, y, z (LPS) of a point that is given along z, y and x of this grid, without the origin."""
        along = [-mm if n in self.reversed_axes else mm for n, mm in enumerate(point_mm)]
        turned: FloatArray = np.asarray(along) @ np.asarray(self.grid.axes)[list(self.order)]
        return turned

    def reduced_hu(self, span: Span) -> Float32Array:
        """(z, y, x) mean HU of each voxel of a part of this grid, with air outside the patient."""
        means = self._means(self.turned(self.hu), span)
        means[~self.reduced_body[span]] = AIR_HU
        return np.clip(means, AIR_HU, _MAX_HU)

    def occupancy(self, mask: Mask, span: Span) -> Float32Array:
        """(z, y, x) fraction of each voxel of a part of this grid that is inside a mask of the CT."""
        return self._means(self.turned(mask), span)

    def _means(self, view: NDArray[np.generic], span: Span) -> Float32Array:
        part = view[tuple(slice(s.start * f, s.stop * f) for s, f in zip(span, self.factors, strict=True))]
        missing = [-size % factor for size, factor in zip(part.shape, self.factors, strict=True)]
        sums = part.astype(np.float32)
        if any(missing):
            sums = np.pad(sums, [(0, n) for n in missing], mode="edge")
        for axis, factor in enumerate(self.factors):
            along = np.moveaxis(sums, axis, 0)
            total = along[::factor].copy() if factor > 1 else along
            for first in range(1, factor):
                total += along[first::factor]
            sums = np.moveaxis(total, 0, axis)
        return np.ascontiguousarray(sums / np.float32(np.prod(self.factors)))
