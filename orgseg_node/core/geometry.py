"""Where a voxel is.

Arrays are indexed ``(k, j, i)`` = (slice, row, column). Points are ``(x, y, z)`` in millimetres in the
DICOM patient frame LPS: x to the patient's left, y to the back, z to the head. This is said here and
holds everywhere. NIfTI's RAS appears only in `Grid.ras_affine`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = tuple[float, float, float]
Shape = tuple[int, int, int]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A block of voxels, ``start`` inclusive and ``stop`` exclusive, in ``(k, j, i)``."""

    start: Shape
    stop: Shape

    def __post_init__(self) -> None:
        if any(a < 0 or b <= a for a, b in zip(self.start, self.stop, strict=True)):
            raise ValueError(f"Box from {self.start} to {self.stop} holds no voxel.")

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
        """The smallest box that holds a mask, grown by a margin in voxels and clipped to the array.

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
                raise ValueError("An empty mask has no box.")
            starts.append(max(0, int(occupied[0]) - grow))
            stops.append(min(size, int(occupied[-1]) + 1 + grow))
        return cls(start=(starts[0], starts[1], starts[2]), stop=(stops[0], stops[1], stops[2]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A regular grid of voxels in the patient.

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
            raise ValueError(f"Grid of shape {self.shape} holds no voxel.")
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
        """(4, 4) NIfTI affine from ``(i, j, k, 1)`` to RAS mm: the only place where RAS appears."""
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ self.affine @ np.eye(4)[:, [2, 1, 0, 3]]

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        k, j, i = self.spacing_mm
        return k * j * i / 1000.0

    def to_lps(self, indices: ArrayLike) -> FloatArray:
        """Points in LPS mm of voxel indices.

        Parameters
        ----------
        indices : (N, 3) ``(k, j, i)``, may lie between voxels

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
        """The part of the grid inside a box; every voxel keeps its place in the patient."""
        if any(b > n for b, n in zip(box.stop, self.shape, strict=True)):
            raise ValueError(f"Box up to {box.stop} does not fit into grid {self.shape}.")
        x, y, z = self.to_lps([box.start])[0]
        return Grid(
            shape=box.shape,
            spacing_mm=self.spacing_mm,
            origin_mm=(float(x), float(y), float(z)),
            axes=self.axes,
        )
