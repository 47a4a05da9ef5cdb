"""A phantom of 26 organs that could be those of a patient: by volumes, and how they lie to each other."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.inference.phantom import organs, slices
from orgseg_node.core.anatomy.possible import POSITION_MARGIN_MM, is_possible_volume
from orgseg_node.core.anatomy.relative_position import relative_position_conflicts
from orgseg_node.core.geometry import FloatArray, Grid
from orgseg_node.core.volume import Volume
from orgseg_node.organ_table import organ_table

CLASSES = 27
"""Number of organs, plus 1 for the background."""

_ENDS_MM = 80.0  # the phantom begins so far before its organs and ends so far behind them
_LENGTH_MM = 400.0
_WIDTH_MM = 400.0


def phantom(size: int, count: int) -> Volume:
    """Each organ of the phantom once, whole.

    Parameters
    ----------
    size : rows and columns
    count : slices
    """
    step = (_LENGTH_MM + 2 * _ENDS_MM) / count
    z_mm = np.arange(count) * step - _ENDS_MM
    pixel = _WIDTH_MM / size
    hu, _ = slices(z_mm, size, pixel, CLASSES, seed=99, period_mm=10 * _LENGTH_MM)
    grid = Grid(shape=hu.shape, spacing_mm=(step, pixel, pixel), origin_mm=(0.0, 0.0, 0.0))
    return Volume(grid=grid, hu=hu)


_FOUND = (0.15, 1.0)  # networks find at least so much of each organ, see `phantom_network`


def possible_names() -> list[str]:
    """A key of the organ table for each organ of the phantom, none of which contradicts anatomy."""
    left = dict(organ_table().items())
    centres: dict[str, FloatArray] = {}
    for z, y, x, *radii, _ in organs(CLASSES):
        ml = 4 / 3 * math.pi * float(np.prod(radii)) / 1000
        centre = np.array([x, y, z])
        key = next(
            key
            for key, organ in left.items()
            if all(is_possible_volume(part * ml, organ.volume_ml) for part in _FOUND)
            and not any(relative_position_conflicts(centres | {key: centre}, POSITION_MARGIN_MM))
        )
        centres[key] = centre
        del left[key]
    return list(centres)
