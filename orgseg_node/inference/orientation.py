"""Reorienting a CT to the axes of the training data, and its labels back; nothing is resampled.

A network receives an array without patient axes: feet-first, prone or reformatted series must be reoriented
first, otherwise left and right may be exchanged. An axial DICOM series of a head-first supine patient is LPS:
columns grow to the left, rows to the back, slices to the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.boxes import Boxes
from orgseg_node.core.geometry import Grid, Shape, Vector
from orgseg_node.core.volume import Volume
from orgseg_node.inference.bundles.manifest import CANONICAL

_Number = TypeVar("_Number", bound=np.generic)

_DIRECTIONS = {
    "L": (1, 0, 0),
    "R": (-1, 0, 0),
    "P": (0, 1, 0),
    "A": (0, -1, 0),
    "S": (0, 0, 1),
    "I": (0, 0, -1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reorientation:
    """A permutation of the axes of an array, and flips of some of them.

    Attributes
    ----------
    axis_order : for each axis after the reorientation, the axis before it
    flipped_axes : axes, numbered after the reorientation, that run in the opposite direction
    """

    axis_order: Shape
    flipped_axes: tuple[int, ...]

    def apply(self, values: NDArray[_Number]) -> NDArray[_Number]:
        """The array, reoriented; a view."""
        return np.flip(values.transpose(self.axis_order), self.flipped_axes)

    def undo(self, values: NDArray[_Number]) -> NDArray[_Number]:
        """The array before the reorientation; a view."""
        original: NDArray[_Number] = np.flip(values, self.flipped_axes).transpose(np.argsort(self.axis_order))
        return original

    def apply_to_boxes(self, boxes: Boxes, shape: Shape) -> Boxes:
        """Boxes of an array, in voxels of the array after the reorientation.

        Parameters
        ----------
        boxes : before the reorientation
        shape : of the array before the reorientation
        """
        order = list(self.axis_order)
        permuted = Boxes(start=boxes.start[:, order], stop=boxes.stop[:, order])
        return self._flipped(permuted, self._three(shape))

    def undo_boxes(self, boxes: Boxes, shape: Shape) -> Boxes:
        """Boxes of an array after the reorientation, in voxels of the array before it.

        Parameters
        ----------
        boxes : after the reorientation
        shape : of the array before the reorientation
        """
        permuted = self._flipped(boxes, self._three(shape))
        order = np.argsort(self.axis_order)
        return Boxes(start=permuted.start[:, order], stop=permuted.stop[:, order])

    def apply_to_grid(self, grid: Grid) -> Grid:
        """The grid, reoriented: every voxel keeps its position in the patient."""
        corner = [0, 0, 0]
        for axis in self.flipped_axes:
            corner[self.axis_order[axis]] = grid.shape[self.axis_order[axis]] - 1
        x, y, z = grid.to_lps([corner])[0]
        axes = [
            _scaled(grid.axes[a], -1 if n in self.flipped_axes else 1) for n, a in enumerate(self.axis_order)
        ]
        return Grid(
            shape=self._three(grid.shape),
            spacing_mm=self._three(grid.spacing_mm),
            origin_mm=(float(x), float(y), float(z)),
            axes=(axes[0], axes[1], axes[2]),
        )

    def apply_to_volume(self, volume: Volume) -> Volume:
        """The CT, reoriented."""
        hu: Any = self.apply(volume.hu)
        return Volume(grid=self.apply_to_grid(volume.grid), hu=hu)

    def _flipped(self, boxes: Boxes, shape: Shape) -> Boxes:
        """Boxes, numbered along the flipped axes from the other end; the shape is that after reorienting."""
        start, stop = boxes.start.copy(), boxes.stop.copy()
        for axis in self.flipped_axes:
            start[:, axis] = shape[axis] - boxes.stop[:, axis]
            stop[:, axis] = shape[axis] - boxes.start[:, axis]
        return Boxes(start=start, stop=stop)

    def _three(self, values: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        k, j, i = (values[a] for a in self.axis_order)
        return k, j, i


def reorientation_to(grid: Grid, orientation: str = CANONICAL) -> Reorientation:
    """The reorientation that brings the axes of a grid closest to an orientation.

    Parameters
    ----------
    grid : of the CT; if it is oblique, each axis goes to the closest patient axis
    orientation : patient directions in which columns (i), rows (j) and slices (k) must increase, such as
        ``LPS``
    """
    wanted = np.array([_DIRECTIONS[letter] for letter in reversed(orientation)], dtype=float)
    cosines = wanted @ np.asarray(grid.axes).T
    order = max(permutations(range(3)), key=lambda p: sum(abs(cosines[n, a]) for n, a in enumerate(p)))
    flipped = tuple(n for n, a in enumerate(order) if cosines[n, a] < 0)
    return Reorientation(axis_order=(order[0], order[1], order[2]), flipped_axes=flipped)


def _scaled(vector: Vector, factor: int) -> Vector:
    x, y, z = (factor * c for c in vector)
    return x, y, z
