"""Voxel indices and patient coordinates.

Arrays are indexed ``(k, j, i)`` = (slice, row, column). Points are ``(x, y, z)`` in millimetres in the DICOM
patient coordinate system LPS: x to the patient's left, y to the back, z to the head. This convention holds
everywhere. NIfTI's RAS is used only in `Grid.ras_affine`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = tuple[float, float, float]
Shape = tuple[int, int, int]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A block of voxels: ``start`` inclusive and ``stop`` exclusive, in ``(k, j, i)``."""

    start: Shape
    stop: Shape

    def __post_init__(self) -> None:
        if any(a < 0 or b <= a for a, b in zip(self.start, self.stop, strict=True)):
            raise ValueError(f"Box from {self.start} to {self.stop} contains no voxel.")

    @property
    def shape(self) -> Shape:
        """Number of voxels along ``(k, j, i)``."""
        k, j, i = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return k, j, i

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as an index into an array of the full grid."""
        k, j, i = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return k, j, i

    @classmethod
    def around(cls, mask: NDArray[np.bool_], margin: Shape = (0, 0, 0)) -> Box:
        """The bounding box of a mask, expanded by a margin in voxels and clipped to the array.

        Parameters
        ----------
        mask : (K, J, I) bool
        margin : voxels to add on both sides along ``(k, j, i)``

        Raises
        ------
        ValueError
            If the mask is empty.
        """
        starts, stops = [], []
        for axis, (size, grow) in enumerate(zip(mask.shape, margin, strict=True)):
            others = tuple(a for a in range(3) if a != axis)
            occupied = np.flatnonzero(mask.any(axis=others))
            if occupied.size == 0:
                raise ValueError("An empty mask has no bounding box.")
            starts.append(max(0, int(occupied[0]) - grow))
            stops.append(min(size, int(occupied[-1]) + 1 + grow))
        return cls(start=(starts[0], starts[1], starts[2]), stop=(stops[0], stops[1], stops[2]))


def box_out_of_part(box: Box, part: Box) -> Box:
    """A box in voxels of a part of the grid, in voxels of the grid."""
    k, j, i = (a + first for a, first in zip(box.start, part.start, strict=True))
    stop_k, stop_j, stop_i = (b + first for b, first in zip(box.stop, part.start, strict=True))
    return Box(start=(k, j, i), stop=(stop_k, stop_j, stop_i))


def enclosing_box(boxes: Iterable[Box]) -> Box:
    """The smallest box around several boxes; at least one."""
    several = list(boxes)
    k, j, i = (min(starts) for starts in zip(*(box.start for box in several), strict=True))
    stop_k, stop_j, stop_i = (max(stops) for stops in zip(*(box.stop for box in several), strict=True))
    return Box(start=(k, j, i), stop=(stop_k, stop_j, stop_i))


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A regular grid of voxels in patient coordinates.

    Attributes
    ----------
    shape : number of voxels along ``(k, j, i)``
    spacing_mm : distance of neighbouring voxel centres along ``(k, j, i)``
    origin_mm : centre of voxel ``(0, 0, 0)``, LPS
    axes : unit vectors in LPS along which ``k``, ``j`` and ``i`` grow
    """

    shape: Shape
    spacing_mm: Vector
    origin_mm: Vector
    axes: tuple[Vector, Vector, Vector] = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))

    def __post_init__(self) -> None:
        if any(n < 1 for n in self.shape):
            raise ValueError(f"Grid of shape {self.shape} contains no voxel.")
        if any(not s > 0 for s in self.spacing_mm):
            raise ValueError(f"Grid spacing must be positive, not {self.spacing_mm}.")
        axes = np.asarray(self.axes)
        if not np.allclose(axes @ axes.T, np.eye(3), atol=1e-4):
            raise ValueError(f"Grid axes must be orthogonal unit vectors, not {self.axes}.")

    @property
    def affine(self) -> FloatArray:
        """(4, 4) matrix from homogeneous ``(k, j, i, 1)`` to ``(x, y, z, 1)`` in LPS mm."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.asarray(self.axes).T * np.asarray(self.spacing_mm)
        matrix[:3, 3] = self.origin_mm
        return matrix

    @property
    def ras_affine(self) -> FloatArray:
        """(4, 4) NIfTI affine from ``(i, j, k, 1)`` to RAS mm; RAS is used nowhere else."""
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ self.affine @ np.eye(4)[:, [2, 1, 0, 3]]

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        k, j, i = self.spacing_mm
        return k * j * i / 1000.0

    @property
    def pixel_spacing_mm(self) -> tuple[float, float]:
        """(row spacing, column spacing), as in the DICOM attribute of this name."""
        return self.spacing_mm[1], self.spacing_mm[2]

    @property
    def heights_mm(self) -> FloatArray:
        """(K,) positions of the slices along their normal in mm."""
        start = float(np.dot(self.origin_mm, self.axes[0]))
        return start + self.spacing_mm[0] * np.arange(self.shape[0], dtype=np.float64)

    @property
    def slice_ml(self) -> FloatArray:
        """(K,) volume of one voxel of each slice in millilitres; equal for all slices."""
        return np.full(self.shape[0], self.voxel_ml)

    def to_lps(self, indices: ArrayLike) -> FloatArray:
        """Points in LPS mm of voxel indices.

        Parameters
        ----------
        indices : (N, 3) ``(k, j, i)``, may be fractional

        Returns
        -------
        (N, 3) float64 ``(x, y, z)`` in mm
        """
        matrix = self.affine
        points: FloatArray = np.asarray(indices, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
        return points

    def to_index(self, points_mm: ArrayLike) -> FloatArray:
        """Voxel indices of points in LPS mm; the inverse of `to_lps`.

        Parameters
        ----------
        points_mm : (N, 3) ``(x, y, z)``

        Returns
        -------
        (N, 3) float64 ``(k, j, i)``
        """
        matrix = self.affine
        offset = np.asarray(points_mm, dtype=np.float64) - matrix[:3, 3]
        return np.asarray(np.linalg.solve(matrix[:3, :3], offset.T).T, dtype=np.float64)

    def crop(self, box: Box) -> Grid:
        """The part of the grid inside a box; the patient coordinates of its voxels are unchanged."""
        if any(b > n for b, n in zip(box.stop, self.shape, strict=True)):
            raise ValueError(f"Box up to {box.stop} does not fit into grid {self.shape}.")
        x, y, z = self.to_lps([box.start])[0]
        return Grid(
            shape=box.shape,
            spacing_mm=self.spacing_mm,
            origin_mm=(float(x), float(y), float(z)),
            axes=self.axes,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SliceStack:
    """Parallel slices with individual positions: tilted gantry, missing slices, changing distances.

    Attributes
    ----------
    shape : number of slices, rows and columns
    positions_mm : (K, 3) centre of the first pixel of each slice, LPS
    orientations : (K, 2, 3) unit vectors of each slice along which ``i``, then ``j`` grows, LPS
    pixel_spacing_mm : (row spacing, column spacing), as in the DICOM attribute of this name
    """

    shape: Shape
    positions_mm: FloatArray
    orientations: FloatArray
    pixel_spacing_mm: tuple[float, float]

    def __post_init__(self) -> None:
        count = self.shape[0]
        if count < 2 or min(self.shape) < 1:
            raise ValueError(f"A stack of shape {self.shape} has less than two slices or no pixels.")
        if self.positions_mm.shape != (count, 3) or self.orientations.shape != (count, 2, 3):
            raise ValueError(f"A stack of {count} slices needs {count} positions and orientations.")
        if not np.isfinite(self.positions_mm).all() or any(not s > 0 for s in self.pixel_spacing_mm):
            raise ValueError("The positions of a stack must be finite, its pixel spacing positive.")
        gram = self.orientations @ self.orientations.transpose(0, 2, 1)
        if not np.allclose(gram, np.eye(2), atol=1e-4):
            raise ValueError("The orientation of a slice must be two perpendicular unit vectors.")
        if not (np.diff(self.heights_mm) > 0).all():
            raise ValueError("The slices of a stack must follow each other along their normal.")

    @property
    def axes(self) -> tuple[Vector, Vector, Vector]:
        """Mean unit vectors in LPS of the normal, ``j`` and ``i``, exactly perpendicular."""
        row, column = self.orientations.mean(axis=0)
        row = row / np.linalg.norm(row)
        normal = np.cross(row, column)
        normal /= np.linalg.norm(normal)
        return _vector(normal), _vector(np.cross(normal, row)), _vector(row)

    @property
    def heights_mm(self) -> FloatArray:
        """(K,) positions of the slices along their mean normal in mm."""
        heights: FloatArray = self.positions_mm @ np.asarray(self.axes[0])
        return heights

    @property
    def slice_ml(self) -> FloatArray:
        """(K,) volume of one voxel of each slice in millilitres.

        A slice extends half-way to its neighbours; the outermost are as thick as their single gap.
        """
        gaps = np.diff(self.heights_mm)
        thick = (np.concatenate([gaps[:1], gaps]) + np.concatenate([gaps, gaps[-1:]])) / 2
        row_mm, column_mm = self.pixel_spacing_mm
        volumes: FloatArray = thick * row_mm * column_mm / 1000.0
        return volumes

    def to_lps(self, indices: ArrayLike) -> FloatArray:
        """Points in LPS mm of voxel indices.

        Parameters
        ----------
        indices : (N, 3) ``(k, j, i)``; positions between two slices are interpolated linearly

        Returns
        -------
        (N, 3) float64 ``(x, y, z)`` in mm
        """
        k, j, i = np.asarray(indices, dtype=np.float64).reshape(-1, 3).T
        below = np.clip(np.floor(k).astype(np.intp), 0, self.shape[0] - 2)
        part = (k - below)[:, None]
        row_mm, column_mm = self.pixel_spacing_mm

        def on(n: NDArray[np.intp]) -> FloatArray:
            row, column = self.orientations[n, 0], self.orientations[n, 1]
            points: FloatArray = (
                self.positions_mm[n] + (i * column_mm)[:, None] * row + (j * row_mm)[:, None] * column
            )
            return points

        first, second = on(below), on(below + 1)
        # exact on a slice, without rounding errors from the other one
        return np.where(part == 1, second, first + part * (second - first))

    def to_index(self, points_mm: ArrayLike) -> FloatArray:
        """Voxel indices of points in LPS mm; the inverse of `to_lps` on the slices and between them.

        Parameters
        ----------
        points_mm : (N, 3) ``(x, y, z)``

        Returns
        -------
        (N, 3) float64 ``(k, j, i)``
        """
        points = np.asarray(points_mm, dtype=np.float64).reshape(-1, 3)
        normal, column, row = np.asarray(self.axes)
        heights, positions = self.heights_mm, points @ normal
        below = np.clip(np.searchsorted(heights, positions, side="right") - 1, 0, self.shape[0] - 2)
        part = (positions - heights[below]) / (heights[below + 1] - heights[below])
        start = self.positions_mm[below] + part[:, None] * (
            self.positions_mm[below + 1] - self.positions_mm[below]
        )
        row_mm, column_mm = self.pixel_spacing_mm
        offset = points - start
        return np.stack([below + part, offset @ column / row_mm, offset @ row / column_mm], axis=1)


VoxelGeometry = Grid | SliceStack
"""Geometry of an image: a regular grid, or slices with individual positions."""


def _vector(values: FloatArray) -> Vector:
    x, y, z = (float(v) for v in values)
    return x, y, z
