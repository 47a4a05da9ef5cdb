"""A turned CT shows every point of the patient at the same place, and turns back to itself."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from orgseg_node.core.boxes import Boxes
from orgseg_node.core.geometry import Box, Grid
from orgseg_node.core.volume import Volume
from orgseg_node.inference.orientation import reorientation_to

_TOWARD = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
_ALL = ["".join(p) for sides in product("LR", "PA", "SI") for p in permutations(sides)]


def _volume(orientation: str) -> Volume:
    k, j, i = (tuple(float(c) for c in _TOWARD[letter]) for letter in reversed(orientation))
    grid = Grid(shape=(3, 4, 5), spacing_mm=(3.0, 2.0, 1.0), origin_mm=(10.0, -20.0, 30.0), axes=(k, j, i))  # type: ignore[arg-type]  # tuples of three
    return Volume(grid=grid, hu=np.arange(60, dtype=np.int16).reshape(3, 4, 5))


@pytest.mark.parametrize("stored", _ALL)
@pytest.mark.parametrize("wanted", ["LPS", "RAS", "PIR"])
def test_every_voxel_keeps_its_position_in_the_patient(stored: str, wanted: str) -> None:
    volume = _volume(stored)
    turned = reorientation_to(volume.grid, wanted).apply_to_volume(volume)
    indices = np.argwhere(np.ones(volume.grid.shape, dtype=bool))
    found = np.rint(turned.grid.to_index(volume.grid.to_lps(indices))).astype(int)
    assert (turned.hu[tuple(found.T)] == volume.hu[tuple(indices.T)]).all()


@pytest.mark.parametrize("stored", _ALL)
def test_reoriented_axes_increase_as_requested_and_undo_restores_the_array(stored: str) -> None:
    volume = _volume(stored)
    reorientation = reorientation_to(volume.grid)
    assert np.allclose(reorientation.apply_to_grid(volume.grid).axes, np.eye(3)[::-1])
    assert (reorientation.undo(reorientation.apply(volume.hu)) == volume.hu).all()


def test_a_head_first_supine_axial_series_is_not_changed() -> None:
    reorientation = reorientation_to(_volume("LPS").grid)
    assert (reorientation.axis_order, reorientation.flipped_axes) == ((0, 1, 2), ())


def test_a_feet_first_series_has_its_slices_and_columns_reversed() -> None:
    reorientation = reorientation_to(_volume("RPI").grid)
    assert (reorientation.axis_order, reorientation.flipped_axes) == ((0, 1, 2), (0, 2))


def test_a_slightly_oblique_series_goes_to_the_nearest_axes() -> None:
    angle = np.deg2rad(20)
    c, s = float(np.cos(angle)), float(np.sin(angle))
    grid = Grid(
        shape=(2, 3, 4),
        spacing_mm=(1, 1, 1),
        origin_mm=(0, 0, 0),
        axes=((0.0, -s, -c), (0.0, -c, s), (1.0, 0.0, 0.0)),
    )
    reorientation = reorientation_to(grid)
    assert (reorientation.axis_order, reorientation.flipped_axes) == ((0, 1, 2), (0, 1))


@pytest.mark.parametrize("stored", _ALL)
def test_a_box_goes_with_its_voxels_and_back(stored: str) -> None:
    volume = _volume(stored)
    reorientation = reorientation_to(volume.grid)
    box = Box(start=(0, 1, 3), stop=(2, 4, 4))
    mask = np.zeros(volume.grid.shape, dtype=bool)
    mask[box.slices] = True
    turned = reorientation.apply_to_boxes(Boxes.of([box, box]), volume.grid.shape)
    assert len(turned) == 2
    assert turned.enclosing() == Box.around(reorientation.apply(mask))
    assert reorientation.undo_boxes(turned, volume.grid.shape).enclosing() == box
