"""The coarse grid has the axes of the patient, whatever the axes of the scan are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orgseg_node.core.geometry import Grid
from orgseg_node.core.scan.grid import scan_grid
from orgseg_node.core.scan.slices import slice_measures, turned
from orgseg_node.core.volume import Volume
from tests.support.ct.torsos import Torso


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)])
def test_a_scan_with_axes_that_run_the_other_way_gives_the_same_grid(axes: tuple[int, ...]) -> None:
    volume, body = Torso().volume()
    corner = [size - 1 if axis in axes else 0 for axis, size in enumerate(volume.grid.shape)]
    x, y, z = volume.grid.to_lps([corner])[0]
    turned_axes = [
        tuple(-c for c in vector) if axis in axes else vector for axis, vector in enumerate(volume.grid.axes)
    ]
    grid = Grid(
        shape=volume.grid.shape,
        spacing_mm=volume.grid.spacing_mm,
        origin_mm=(float(x), float(y), float(z)),
        axes=(turned_axes[0], turned_axes[1], turned_axes[2]),
    )
    other = scan_grid(Volume(grid=grid, hu=np.flip(volume.hu, axes)), np.flip(body, axes))
    first = scan_grid(volume, body)
    assert np.array_equal(other.hu, first.hu)
    assert np.allclose(other.z_mm, first.z_mm)


def test_fine_voxels_are_averaged_inside_the_patient_only() -> None:
    grid = Grid(shape=(4, 20, 20), spacing_mm=(2.5, 1.0, 1.0), origin_mm=(0.0, 0.0, 10.0))
    hu = np.full(grid.shape, 500, dtype=np.int16)
    body = np.zeros(grid.shape, dtype=np.bool_)
    body[:, 5:15, 5:15] = True
    hu[body] = 40
    scan = scan_grid(Volume(grid=grid, hu=hu), body)
    assert scan.hu.shape == (2, 2, 2)
    assert scan.spacing_mm == (5.0, 5.0, 5.0)
    assert np.allclose(scan.hu, 40.0)


def test_measures_of_a_turned_scan_follow_from_those_of_the_scan() -> None:
    scan = Torso(seed=3).scan()
    for z, y in ((True, False), (False, True), (True, True)):
        direct = slice_measures(scan.flipped(z=z, y=y, x=True))
        assert np.allclose(direct, turned(slice_measures(scan), z=z, y=y), atol=0.12)


def test_slices_without_a_patient_have_no_measures() -> None:
    scan = Torso().scan()
    inside = scan.inside.copy()
    inside[0] = False
    rows = slice_measures(replace(scan, inside=inside))
    assert np.isnan(rows[0]).all()
    assert np.isfinite(rows[1:]).all()
