"""The axes of the patient: points of the working grid are where the grid of the CT says they are."""

from __future__ import annotations

import numpy as np
import pytest

from orgseg_node.core.anatomy.measures import centroid_mm, measure_organ
from orgseg_node.core.anatomy.working_grid import WorkingGrid
from orgseg_node.core.geometry import Grid, Vector

_TILT = np.radians(25.0)
_COS, _SIN = float(np.cos(_TILT)), float(np.sin(_TILT))
AXES: dict[str, tuple[Vector, Vector, Vector]] = {
    "usual": ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
    "prone, feet first": ((0.0, 0.0, -1.0), (0.0, -1.0, 0.0), (1.0, 0.0, 0.0)),
    "sagittal": ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)),
    "oblique": ((0.0, -_SIN, _COS), (0.0, _COS, _SIN), (1.0, 0.0, 0.0)),
}


@pytest.mark.parametrize("name", AXES)
def test_two_organs_are_as_far_apart_as_on_the_grid_of_the_ct(name: str) -> None:
    grid = Grid(shape=(24, 30, 28), spacing_mm=(3.0, 2.0, 2.5), origin_mm=(7.0, -5.0, 3.0), axes=AXES[name])
    body = np.ones(grid.shape, dtype=bool)
    scan = WorkingGrid(grid, np.zeros(grid.shape, dtype=np.int16), body)
    places, expected = [], []
    for low in ((4, 5, 6), (14, 20, 17)):
        mask = np.zeros(grid.shape, dtype=bool)
        mask[tuple(slice(n, n + 5) for n in low)] = True
        measures = measure_organ(scan, mask)
        assert measures is not None
        places.append(scan.lps_mm(centroid_mm(measures)))
        expected.append(grid.to_lps([np.add(low, 2.0)])[0])
    np.testing.assert_allclose(places[1] - places[0], expected[1] - expected[0], atol=1e-9)
