"""Many boxes at once are the same as each alone."""

from __future__ import annotations

import numpy as np
import pytest

from orgseg_node.core.boxes import Boxes
from orgseg_node.core.geometry import Box, box_out_of_part

_BOXES = [Box(start=(2, 3, 4), stop=(3, 4, 9)), Box(start=(1, 5, 6), stop=(2, 9, 7))]


def test_the_box_around_all() -> None:
    assert Boxes.of(_BOXES).enclosing() == Box(start=(1, 3, 4), stop=(3, 9, 9))
    both = Boxes.joined([Boxes.of(_BOXES[:1]), Boxes.of(_BOXES[1:])])
    assert (len(both), both.enclosing()) == (2, Boxes.of(_BOXES).enclosing())
    assert both.select(np.array([False, True])).enclosing() == _BOXES[1]


def test_what_lies_in_a_part_of_the_grid() -> None:
    part = Box(start=(0, 4, 5), stop=(3, 7, 9))
    inside = Boxes.of(_BOXES).in_part(part)
    assert len(inside) == 1, "the first one ends where the part begins"
    assert inside.enclosing() == Box(start=(1, 1, 1), stop=(2, 3, 2))
    assert inside.out_of_part(part).enclosing() == box_out_of_part(inside.enclosing(), part)
    beyond = Box(start=(0, 0, 0), stop=(1, 1, 1))
    assert not len(Boxes.of(_BOXES).in_part(beyond))


def test_the_share_of_the_voxels_of_each_for_which_something_is_true() -> None:
    mask = np.zeros((4, 10, 10), dtype=bool)
    mask[2, 3, 4:6] = mask[1, 5:9, 6] = mask[1, 5:9, 7] = True
    boxes = Boxes.of(_BOXES)
    assert boxes.share(lambda k, j, i: mask[k, j, i]).tolist() == [0.4, 1.0]
    nothing = boxes.select(np.array([False, False]))
    assert nothing.share(lambda k, j, i: mask[k, j, i]).tolist() == []


@pytest.mark.parametrize(
    ("size", "expected"), [(1, (0, 1)), (2, (0, 2)), (3, (1, 2)), (4, (1, 3)), (8, (2, 6)), (9, (2, 7))]
)
def test_the_middle_half_of_a_box(size: int, expected: tuple[int, int]) -> None:
    (a, b), middle = expected, Boxes.of([Box(start=(5, 5, 5), stop=(6, 5 + size, 7))]).middle()
    assert middle.enclosing() == Box(start=(5, 5 + a, 5), stop=(6, 5 + b, 7))
