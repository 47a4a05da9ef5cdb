"""A CT in Hounsfield units, and the organs found in it."""

from __future__ import annotations

import numpy as np
import pytest

from orgseg_node.core.geometry import Box, Grid, SliceStack
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import AIR_HU, LabelMap, Volume

GRID = Grid(shape=(2, 3, 4), spacing_mm=(3.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))


def volume() -> Volume:
    return Volume(grid=GRID, hu=np.arange(24, dtype=np.int16).reshape(GRID.shape))


def test_a_volume_must_fit_its_grid() -> None:
    with pytest.raises(ValueError, match="on a grid of"):
        Volume(grid=GRID, hu=np.zeros((2, 3, 5), dtype=np.int16))


def test_a_crop_is_a_view_in_the_same_place() -> None:
    whole = volume()
    part = whole.crop(Box(start=(1, 1, 2), stop=(2, 3, 4)))
    assert part.hu.tolist() == whole.hu[1:2, 1:3, 2:4].tolist()
    assert np.shares_memory(part.hu, whole.hu)
    assert part.grid.origin_mm == (2.0, 1.0, 3.0)


def test_air_is_put_outside_a_mask_on_a_copy() -> None:
    whole = volume()
    mask = whole.hu > 20
    aired = whole.with_air_outside(mask)
    assert (aired.hu[~mask] == AIR_HU).all()
    assert (aired.hu[mask] == whole.hu[mask]).all()
    assert whole.hu.min() == 0


def labels(organ_table: OrganTable) -> LabelMap:
    numbers = np.zeros(GRID.shape, dtype=np.uint8)
    numbers[0, 0, :3] = 7
    return LabelMap(
        grid=GRID, labels=numbers, organs={7: organ_table["mandible"], 2: organ_table["spinal_cord"]}
    )


def test_organs_that_were_not_found_are_counted_as_nothing(organ_table: OrganTable) -> None:
    assert labels(organ_table).voxel_counts() == {2: 0, 7: 3}


def test_a_mask_is_true_where_the_organ_is(organ_table: OrganTable) -> None:
    mask = labels(organ_table).mask(7)
    assert mask.dtype == bool
    assert np.argwhere(mask).tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2]]


def test_a_label_map_of_the_wrong_kind_is_an_error(organ_table: OrganTable) -> None:
    organs = {1: organ_table["mandible"]}
    with pytest.raises(ValueError, match="on a grid of"):
        LabelMap(grid=GRID, labels=np.zeros((1, 3, 4), dtype=np.uint8), organs=organs)
    with pytest.raises(ValueError, match="uint8"):
        LabelMap(grid=GRID, labels=np.zeros(GRID.shape, dtype=np.int16), organs=organs)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match="background"):
        LabelMap(grid=GRID, labels=np.zeros(GRID.shape, dtype=np.uint8), organs={0: organ_table["mandible"]})


def test_volumes_are_those_of_the_slices_with_the_organ(organ_table: OrganTable) -> None:
    stack = SliceStack(
        shape=(3, 2, 2),
        positions_mm=np.array([(0.0, 0.0, 0.0), (0.0, 0.0, 2.0), (0.0, 0.0, 8.0)]),
        orientations=np.tile([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0)], (3, 1, 1)),
        pixel_spacing_mm=(10.0, 5.0),
    )
    labels = np.zeros(stack.shape, dtype=np.uint8)
    labels[0] = 1
    labels[2, 0] = 1
    labels[1, 1, 1] = 2
    organs = {1: organ_table["liver"], 2: organ_table["spleen"], 3: organ_table["stomach"]}
    found = LabelMap(grid=stack, labels=labels, organs=organs).volumes_ml()
    # slices are 2, 4 and 6 mm thick, pixels of 50 square millimetres
    assert found == pytest.approx({1: 4 * 0.1 + 2 * 0.3, 2: 0.2, 3: 0.0})
    on_grid = LabelMap(grid=GRID, labels=np.ones(GRID.shape, np.uint8), organs={1: organ_table["liver"]})
    assert on_grid.volumes_ml() == pytest.approx({1: 24 * GRID.voxel_ml})
