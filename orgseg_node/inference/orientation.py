"""Turning a CT so that its axes lie as a network was taught, and its labels back; nothing is resampled.

A network sees an array, not a patient: feet first, prone or reformatted series must be turned first, or left
becomes right. An axial DICOM series of a head-first supine patient is LPS: columns grow to the left, rows to
the back, slices to the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.geometry import Grid, Shape, Vector
from orgseg_node.core.volume import Volume
from orgseg_node.inference.bundles.manifest import CANONICAL

_Number = TypeVar("_Number", bound=np.generic)

_TOWARD = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Which axes are exchanged and which are reversed.

    Attributes
    ----------
    order : for each axis after the turn, the axis it was before
    reverse : axes after the turn that run the other way
    """

    order: Shape
    reverse: tuple[int, ...]

    def array(self, values: NDArray[_Number]) -> NDArray[_Number]:
        """The array, turned; a view."""
        return np.flip(values.transpose(self.order), self.reverse)

    def back(self, values: NDArray[_Number]) -> NDArray[_Number]:
        """The array as it was before the turn; a view."""
        turned: NDArray[_Number] = np.flip(values, self.reverse).transpose(np.argsort(self.order))
        return turned

    def grid(self, grid: Grid) -> Grid:
        """The grid, turned: every voxel keeps its place in the patient."""
        corner = [0, 0, 0]
        for axis in self.reverse:
            corner[self.order[axis]] = grid.shape[self.order[axis]] - 1
        x, y, z = grid.to_lps([corner])[0]
        axes = [_times(grid.axes[a], -1 if n in self.reverse else 1) for n, a in enumerate(self.order)]
        return Grid(
            shape=self._three(grid.shape),
            spacing_mm=self._three(grid.spacing_mm),
            origin_mm=(float(x), float(y), float(z)),
            axes=(axes[0], axes[1], axes[2]),
        )

    def volume(self, volume: Volume) -> Volume:
        """The CT, turned."""
        hu: Any = self.array(volume.hu)
        return Volume(grid=self.grid(volume.grid), hu=hu)

    def _three(self, values: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        k, j, i = (values[a] for a in self.order)
        return k, j, i


def turn_to(grid: Grid, orientation: str = CANONICAL) -> Turn:
    """The turn that brings the axes of a grid nearest to an orientation.

    Parameters
    ----------
    grid : where the voxels are; may be oblique, each axis then goes to the patient axis it is nearest to
    orientation : toward where columns (i), rows (j) and slices (k) shall grow, such as ``LPS``
    """
    wanted = np.array([_TOWARD[letter] for letter in reversed(orientation)], dtype=float)
    alike = wanted @ np.asarray(grid.axes).T
    order = max(permutations(range(3)), key=lambda p: sum(abs(alike[n, a]) for n, a in enumerate(p)))
    reverse = tuple(n for n, a in enumerate(order) if alike[n, a] < 0)
    return Turn(order=(order[0], order[1], order[2]), reverse=reverse)


def _times(vector: Vector, factor: int) -> Vector:
    x, y, z = (factor * c for c in vector)
    return x, y, z
