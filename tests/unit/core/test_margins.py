"""Margins by hand: distances that are exactly reached, directions of the patient, the edge of the image."""

from __future__ import annotations

import numpy as np
import pytest

from orgseg_node.core.geometry import Grid, Shape, SliceStack, Vector
from orgseg_node.core.margins import Margin, grow, ring, shrink
from orgseg_node.core.volume import Mask

SHAPE = (11, 13, 15)
MIDDLE = (5, 6, 7)
HFS: tuple[Vector, Vector, Vector] = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
FEET_FIRST: tuple[Vector, Vector, Vector] = ((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0))
CORONAL: tuple[Vector, Vector, Vector] = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0))


def grid(
    spacing: Vector = (1.0, 1.0, 1.0), axes: tuple[Vector, Vector, Vector] = HFS, shape: Shape = SHAPE
) -> Grid:
    return Grid(shape=shape, spacing_mm=spacing, origin_mm=(0.0, 0.0, 0.0), axes=axes)


def dot(shape: Shape = SHAPE, where: Shape = MIDDLE) -> Mask:
    mask = np.zeros(shape, dtype=np.bool_)
    mask[where] = True
    return mask


def offsets(mask: Mask) -> set[tuple[int, int, int]]:
    """Where voxels are, from the middle."""
    return {(int(k), int(j), int(i)) for k, j, i in np.argwhere(mask) - MIDDLE}


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.1, 0.1, 0.1), (0.9765625,) * 3, (0.7, 0.7, 0.7)])
def test_a_distance_that_is_exactly_the_margin_belongs_to_it(spacing: Vector) -> None:
    """3, 4 and 5, which binary numbers of the spacing miss by a rounding."""
    found = offsets(grow(dot(), grid(spacing), Margin.uniform(5 * spacing[0])))
    assert {(3, 4, 0), (-4, 0, 3), (0, -3, -4), (5, 0, 0), (0, 5, 0), (0, 0, -5)} <= found
    assert not {(3, 4, 1), (5, 1, 0), (4, 4, 0)} & found
    assert len(found) == 515, "lattice points in a ball of radius 5"


def test_a_margin_that_is_not_quite_a_number_of_voxels_still_reaches_the_last() -> None:
    """0.3 is less than three times 0.1 to a computer."""
    assert 0.3 / 0.1 < 3
    found = offsets(grow(dot(), grid((0.1, 0.1, 0.1)), Margin.uniform(0.3)))
    assert {(3, 0, 0), (0, -3, 0), (0, 0, 3)} <= found


def test_nothing_grows_by_nothing() -> None:
    mask = dot()
    np.testing.assert_array_equal(grow(mask, grid(), Margin.uniform(0)), mask)
    np.testing.assert_array_equal(shrink(mask, grid(), Margin.uniform(0)), mask)
    empty = np.zeros_like(mask)
    assert not grow(empty, grid(), Margin.uniform(5)).any()
    assert not shrink(empty, grid(), Margin.uniform(5)).any()


@pytest.mark.parametrize(
    ("side", "at"),
    [
        ("left", (0, 0, 2)),
        ("right", (0, 0, -2)),
        ("anterior", (0, -2, 0)),
        ("posterior", (0, 2, 0)),
        ("superior", (2, 0, 0)),
        ("inferior", (-2, 0, 0)),
    ],
)
def test_each_direction_is_that_of_the_patient(side: str, at: tuple[int, int, int]) -> None:
    """Head first, LPS: columns run to the left, rows to the back, slices to the head."""
    margin = Margin(**(dict.fromkeys(Margin.__dataclass_fields__, 0.0) | {side: 2.0}))
    half = tuple(part // 2 for part in at)
    assert offsets(grow(dot(), grid(), margin)) == {(0, 0, 0), half, at}
    turned = {(-k, j, -i) for k, j, i in ((0, 0, 0), half, at)}
    assert offsets(grow(dot(), grid(axes=FEET_FIRST), margin)) == turned
    upright = {(j, -k, i) for k, j, i in ((0, 0, 0), half, at)}
    assert offsets(grow(dot(), grid(axes=CORONAL), margin)) == upright


@pytest.mark.parametrize(
    ("side", "gone"),
    [
        ("left", np.s_[:, :, -2:]),
        ("right", np.s_[:, :, :2]),
        ("anterior", np.s_[:, :2]),
        ("posterior", np.s_[:, -2:]),
        ("superior", np.s_[-2:]),
        ("inferior", np.s_[:2]),
    ],
)
def test_shrinking_takes_from_the_side_it_names(side: str, gone: tuple[slice, ...]) -> None:
    margin = Margin(**(dict.fromkeys(Margin.__dataclass_fields__, 0.0) | {side: 2.0}))
    mask = np.zeros(SHAPE, dtype=np.bool_)
    mask[2:9, 2:10, 2:11] = True
    wanted = mask.copy()
    wanted[2:9, 2:10, 2:11][gone] = False
    np.testing.assert_array_equal(shrink(mask, grid(), margin), wanted)


def test_slices_farther_apart_than_the_margin_are_not_reached() -> None:
    found = offsets(grow(dot(), grid((3.0, 1.0, 1.0)), Margin.uniform(2.9)))
    assert {k for k, _, _ in found} == {0}
    found = offsets(grow(dot(), grid((3.0, 1.0, 1.0)), Margin.uniform(3.0)))
    assert {(1, 0, 0), (-1, 0, 0)} <= found


def test_the_edge_of_the_image_cuts_off_and_takes_nothing_away() -> None:
    corner = dot(where=(0, 0, 0))
    assert grow(corner, grid(), Margin.uniform(1)).sum() == 4
    full = np.ones(SHAPE, dtype=np.bool_)
    np.testing.assert_array_equal(shrink(full, grid(), Margin.uniform(3)), full)
    full[5, 6, 7] = False
    assert shrink(full, grid(), Margin.uniform(1)).sum() == full.size - 7


def test_a_ring_of_no_inner_margin_leaves_the_structure_out() -> None:
    mask = np.zeros(SHAPE, dtype=np.bool_)
    mask[4:7, 5:8, 6:9] = True
    found = ring(mask, grid(), Margin.uniform(0), Margin.uniform(1))
    assert found.sum() == 6 * 9
    assert not (found & mask).any()


def test_a_tilted_stack_grows_straight_through_the_patient() -> None:
    """Slices that begin 6 mm further to the back each: straight up is six rows less."""
    count = SHAPE[0]
    k = np.arange(count, dtype=np.float64)
    stack = SliceStack(
        shape=SHAPE,
        positions_mm=np.stack([np.zeros(count), 6 * k, 4 * k], axis=1),
        orientations=np.tile(np.array([[1.0, 0, 0], [0, 1.0, 0]]), (count, 1, 1)),
        pixel_spacing_mm=(1.0, 1.0),
    )
    found = offsets(grow(dot(), stack, Margin.uniform(4.0)))
    assert {where for where in found if where[0]} == {(1, -6, 0), (-1, 6, 0)}


def test_axes_near_to_the_same_direction_still_take_one_each() -> None:
    """Turned about the diagonal, two axes are nearest to one direction; a margin must not count twice."""
    c, s = np.cos(np.radians(55)), np.sin(np.radians(55))
    n = np.ones(3) / 3**0.5
    cross = np.array([[0, -n[2], n[1]], [n[2], 0, -n[0]], [-n[1], n[0], 0]])
    turn = c * np.eye(3) + s * cross + (1 - c) * np.outer(n, n)
    tilted = turn @ np.array([[1, 0, 0], [0, np.cos(0.3), -np.sin(0.3)], [0, np.sin(0.3), np.cos(0.3)]])
    k, j, i = ((float(a), float(b), float(c)) for a, b, c in tilted.T[::-1])
    assert len(set(np.abs(np.array([k, j, i])).argmax(axis=1).tolist())) < 3, "the case it is about"
    found = offsets(grow(dot(), grid(axes=(k, j, i)), Margin.per_axis(1.0, 2.0, 3.0)))
    assert sorted(max(abs(where[axis]) for where in found) for axis in range(3)) == [1, 2, 3]


def test_margins_are_shown_as_short_text() -> None:
    assert str(Margin.uniform(5)) == "5 mm"
    assert str(Margin.per_axis(3, 3.5, 10)) == "3 x 3.5 x 10 mm"
    six = Margin(left=1, right=2, anterior=3, posterior=4, superior=5, inferior=6)
    assert str(six) == "L 1 R 2 A 3 P 4 S 5 I 6 mm"
    assert six.opposite.values_mm == (2, 1, 4, 3, 6, 5)
    assert six.opposite.opposite == six


@pytest.mark.parametrize("mm", [-0.1, float("nan"), float("inf")])
def test_a_margin_is_a_finite_distance(mm: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        Margin.uniform(mm)
