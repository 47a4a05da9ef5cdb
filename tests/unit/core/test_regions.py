"""A region gives back the mask it was made from, and holds no more than it needs."""

from __future__ import annotations

import numpy as np
import pytest

from orgseg_node.core.geometry import Box
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.regions import Region

SHAPE = (6, 9, 11)


def test_the_mask_comes_back(organ_table: OrganTable) -> None:
    mask = np.random.default_rng(1).random(SHAPE) < 0.02
    region = Region.of(organ_table["spinal_cord"], mask, "SpinalCord + 5 mm")
    np.testing.assert_array_equal(region.full(SHAPE), mask)
    assert region.box == Box.around(mask)
    assert region.organ is organ_table["spinal_cord"]
    assert region.derivation == "SpinalCord + 5 mm"


def test_it_is_a_copy_as_small_as_its_box(organ_table: OrganTable) -> None:
    mask = np.zeros(SHAPE, dtype=np.bool_)
    mask[2:4, 3:8, 5:6] = True
    region = Region.of(organ_table["rectum"], mask, "")
    mask[:] = False
    assert region.mask.base is None, "no view that keeps the whole image in memory"
    assert region.mask.shape == (2, 5, 1)
    assert region.mask.all()


def test_an_empty_region_stays_empty(organ_table: OrganTable) -> None:
    region = Region.of(organ_table["rectum"], np.zeros(SHAPE, dtype=np.bool_), "")
    assert region.mask.shape == region.box.shape
    assert not region.full(SHAPE).any()


def test_mask_and_box_must_fit(organ_table: OrganTable) -> None:
    with pytest.raises(ValueError, match="in a box of"):
        Region(
            organ=organ_table["rectum"],
            box=Box(start=(0, 0, 0), stop=(2, 2, 2)),
            mask=np.ones((2, 2, 3), dtype=np.bool_),
            derivation="",
        )
