"""Left and right of the patient: LPS x of voxels, and of the middle of a body."""

from __future__ import annotations

import numpy as np

from orgseg_node.core.geometry import Box, FloatArray, VoxelGeometry
from orgseg_node.core.volume import Mask


def _x_steps_mm(place: VoxelGeometry, box: Box) -> tuple[FloatArray, FloatArray, FloatArray]:
    """LPS x in mm in a box: of the first voxel of each slice, and the steps of rows and of columns."""
    _, down, across = place.axes
    row_mm, column_mm = place.pixel_spacing_mm
    starts = place.to_lps([(k, *box.start[1:]) for k in range(box.start[0], box.stop[0])])[:, 0]
    j, i = (np.arange(n, dtype=np.float64) for n in box.shape[1:])
    return starts, j * (row_mm * down[0]), i * (column_mm * across[0])


def lps_x_mm(place: VoxelGeometry, box: Box) -> FloatArray:
    """LPS x in mm of every voxel of a box."""
    starts, rows, columns = _x_steps_mm(place, box)
    x_mm: FloatArray = starts[:, None, None] + rows[:, None] + columns
    return x_mm


def middle_x_mm(place: VoxelGeometry, body: Mask) -> float:
    """LPS x in mm of the middle of the patient: the mean over its voxels."""
    if not body.any():
        return 0.0
    box = Box.around(body)
    inside = body[box.slices]
    numbers = (inside.sum(axis=axes) for axes in ((1, 2), (0, 2), (0, 1)))
    steps = _x_steps_mm(place, box)
    return float(sum(count @ x for count, x in zip(numbers, steps, strict=True)) / inside.sum())
