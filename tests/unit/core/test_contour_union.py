"""Contours of other systems: what they enclose together, and what is unusual about them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orgseg_node.core.contour_union import unite
from orgseg_node.core.contours import trace_mask
from orgseg_node.core.geometry import Grid
from orgseg_node.core.rasterise import Contour, rasterise

GRID = Grid(shape=(2, 30, 40), spacing_mm=(3.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))


def square(left: float, top: float, side: float, k: int = 0) -> Contour:
    """A square whose edges are between pixel centres."""
    right, bottom = left + side, top + side
    points = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    return Contour(k=k, points=points - 0.5)


def keyhole(outer: Contour, inner: Contour) -> Contour:
    """One contour that goes around a hole."""
    points = [*outer.points, outer.points[0], inner.points[0], *inner.points[::-1], outer.points[0]]
    return Contour(k=outer.k, points=np.array(points))


OUTER, INNER, ASIDE = square(2, 2, 10), square(5, 5, 3), square(20, 2, 4)


def test_one_contour_and_separate_ones_enclose_what_the_even_odd_rule_says() -> None:
    united = unite([OUTER, ASIDE, square(0, 0, 3, k=1)], (), GRID)
    assert np.array_equal(united.mask, rasterise([OUTER, ASIDE, square(0, 0, 3, k=1)], GRID))
    assert (united.repeated, united.nested, united.overlapping) == (0, 0, 0)


@pytest.mark.parametrize(
    "again",
    [
        OUTER,
        Contour(k=0, points=OUTER.points[::-1]),
        Contour(k=0, points=np.roll(OUTER.points, 1, axis=0)),
        Contour(k=0, points=OUTER.points + 0.01),
    ],
    ids=["equal", "backwards", "from another point", "rounded"],
)
def test_a_contour_that_occurs_twice_counts_once(again: Contour) -> None:
    for closed, exclusive in (([OUTER, again, ASIDE], []), ([], [OUTER, again, ASIDE])):
        united = unite(closed, exclusive, GRID)
        assert np.array_equal(united.mask, rasterise([OUTER, ASIDE], GRID))
        assert (united.repeated, united.nested, united.overlapping) == (1, 0, 0)


def test_contours_that_overlap_in_part_unite() -> None:
    united = unite([OUTER, square(8, 8, 10)], (), GRID)
    assert united.mask.sum() == 100 + 100 - 16
    assert (united.repeated, united.nested, united.overlapping) == (0, 0, 1)


def test_a_contour_inside_another_one_is_no_hole_but_is_counted() -> None:
    united = unite([OUTER, INNER], (), GRID)
    assert united.mask.sum() == 100
    assert (united.repeated, united.nested, united.overlapping) == (0, 1, 0)


def test_exclusive_contours_and_keyholes_leave_holes() -> None:
    for closed, exclusive in (([], [OUTER, INNER]), ([keyhole(OUTER, INNER)], []), ([OUTER], [INNER])):
        united = unite(closed, exclusive, GRID)
        assert united.mask.sum() == 100 - 9
        assert (united.repeated, united.nested, united.overlapping) == (0, 0, 0)


def test_contours_beyond_the_image_are_clipped() -> None:
    beyond = [
        square(-5, -5, 10),
        square(38, 28, 10),
        square(100, 100, 5),
        Contour(k=0, points=np.empty((0, 2))),
    ]
    assert np.array_equal(unite(beyond, (), GRID).mask, rasterise(beyond, GRID))
    with pytest.raises(ValueError, match="slice 2 of 2"):
        unite([square(0, 0, 3, k=2)], (), GRID)


@given(bits=st.binary(min_size=12 * 10 // 8, max_size=12 * 10 // 8))
def test_contours_of_any_mask_give_the_mask(bits: bytes) -> None:
    mask = np.unpackbits(np.frombuffer(bits, np.uint8)).reshape(1, 12, 10).astype(np.bool_)
    grid = Grid(shape=(1, 12, 10), spacing_mm=(1.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))
    united = unite(trace_mask(mask), (), grid)
    assert np.array_equal(united.mask, mask)
    assert (united.repeated, united.overlapping) == (0, 0)
