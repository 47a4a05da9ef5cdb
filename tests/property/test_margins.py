"""Whatever the grid or the stack, a margin is the distance of voxel centres in millimetres.

Held against SciPy's distance transform where there is one, else against every pair of voxels. Distances
within a hair of the margin may fall to either side; everything else must agree to the voxel.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.core.geometry import Grid, Shape, SliceStack, Vector, VoxelGeometry
from orgseg_node.core.margins import Margin, grow, ring, shrink
from orgseg_node.core.volume import Mask

HAIR = 1e-4
MM = st.floats(0, 12, allow_subnormal=False)
SPACING = st.floats(0.4, 5)
Distances = NDArray[np.float64]


def vector(values: NDArray[np.float64]) -> Vector:
    x, y, z = (float(v) for v in values)
    return x, y, z


@st.composite
def masks(draw: st.DrawFn, largest: int = 8, least: int = 1) -> Mask:
    """Scattered voxels, so that every distance occurs."""
    shape = draw(st.tuples(*[st.integers(least, largest)] * 3))
    seed, share = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0.005, 0.03, 0.3, 0.9]))
    mask: Mask = np.random.default_rng(seed).random(shape) < share
    return mask


@st.composite
def straight(draw: st.DrawFn, shape: Shape) -> Grid:
    """A grid along the axes of the patient, in any order and sign: axial, coronal, sagittal, feet first."""
    turn = np.eye(3)[list(draw(st.permutations(range(3))))]
    turn *= np.array(draw(st.tuples(*[st.sampled_from([-1, 1])] * 3)))[:, None]
    return Grid(
        shape=shape,
        spacing_mm=draw(st.tuples(SPACING, SPACING, SPACING)),
        origin_mm=draw(st.tuples(*[st.floats(-300, 300)] * 3)),
        axes=(vector(turn[0]), vector(turn[1]), vector(turn[2])),
    )


@st.composite
def oblique(draw: st.DrawFn, shape: Shape) -> Grid:
    """A grid that is turned by up to 35 degrees about each of two axes."""
    a, b = draw(st.floats(-0.6, 0.6)), draw(st.floats(-0.6, 0.6))
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    turn = about_z @ about_x
    return Grid(
        shape=shape,
        spacing_mm=draw(st.tuples(SPACING, SPACING, SPACING)),
        origin_mm=(10.0, -20.0, 30.0),
        axes=(vector(turn[:, 2]), vector(turn[:, 1]), vector(turn[:, 0])),
    )


@st.composite
def stacks(draw: st.DrawFn, shape: Shape) -> SliceStack:
    """Slices at uneven heights, each shifted sideways: a tilted gantry, and worse."""
    gaps = draw(st.lists(st.floats(0.3, 7), min_size=shape[0] - 1, max_size=shape[0] - 1))
    tilt = draw(st.floats(-0.5, 0.5))
    jitter = draw(arrays(np.float64, (shape[0], 2), elements=st.floats(-2, 2)))
    heights = np.concatenate([[0.0], np.cumsum(gaps)])
    positions = np.stack([jitter[:, 0], jitter[:, 1] + tilt * heights, heights], axis=1).round(3)
    flip = draw(st.booleans())
    row = np.array([-1.0 if flip else 1.0, 0, 0])
    column = np.array([0, -1.0 if flip else 1.0, 0])
    return SliceStack(
        shape=shape,
        positions_mm=positions,
        orientations=np.tile(np.stack([row, column]), (shape[0], 1, 1)),
        pixel_spacing_mm=draw(st.tuples(SPACING, SPACING)),
    )


@st.composite
def margins(draw: st.DrawFn) -> Margin:
    """A ball, an ellipsoid or six directions; some of them nothing."""
    mm = st.one_of(st.just(0.0), st.floats(0.1, 12))
    kind = draw(st.sampled_from(["ball", "ellipsoid", "six"]))
    if kind == "ball":
        return Margin.uniform(draw(mm))
    if kind == "ellipsoid":
        return Margin.per_axis(draw(mm), draw(mm), draw(mm))
    left, right, anterior, posterior, superior, inferior = draw(st.tuples(*[mm] * 6))
    return Margin(
        left=left,
        right=right,
        anterior=anterior,
        posterior=posterior,
        superior=superior,
        inferior=inferior,
    )


def reach(
    mask: Mask, place: VoxelGeometry, margin: Margin, directions: NDArray[np.float64] | None = None
) -> Distances:
    """Of each voxel, in units of the margin, how far it is from the nearest voxel of a mask: every pair.

    Parameters
    ----------
    directions : (3, 3) unit vectors which stand for left, back and head; those of LPS by default
    """
    indices = np.argwhere(np.ones(mask.shape, dtype=np.bool_))
    points = place.to_lps(indices) @ (np.eye(3) if directions is None else directions).T
    sources = points[mask.ravel()]
    if not len(sources):
        return np.full(mask.shape, np.inf)
    apart = points[:, None] - sources[None]
    toward = np.array([margin.left, margin.posterior, margin.superior])
    away = np.array([margin.right, margin.anterior, margin.inferior])
    limit = np.where(apart > 0, toward, away)
    share = np.where(np.abs(apart) < 1e-9, 0.0, np.abs(apart) / np.maximum(limit, 1e-12))
    found: Distances = np.sqrt((share**2).sum(axis=2)).min(axis=1).reshape(mask.shape)
    return found


def agree(found: Mask, distance: Distances, limit: float = 1.0) -> None:
    """Every voxel nearer than the limit is in, every voxel farther away is out."""
    clear = np.abs(distance - limit) > HAIR * max(limit, 1.0)
    np.testing.assert_array_equal(found[clear], (distance <= limit)[clear])


def to_border(mask: Mask, grid: Grid) -> Distances:
    """Distance in mm of each voxel to the nearest one of a mask."""
    if not mask.any():
        return np.full(mask.shape, np.inf)
    found: Distances = ndimage.distance_transform_edt(~mask, sampling=grid.spacing_mm)
    return found


@given(st.data(), masks(14), MM)
@settings(max_examples=150, deadline=None)
def test_growing_is_the_distance_transform(data: st.DataObject, mask: Mask, mm: float) -> None:
    grid = data.draw(straight(mask.shape))
    agree(grow(mask, grid, Margin.uniform(mm)), to_border(mask, grid), mm)


@given(st.data(), masks(14), MM)
@settings(max_examples=150, deadline=None)
def test_shrinking_is_the_distance_transform_of_what_is_outside(
    data: st.DataObject, mask: Mask, mm: float
) -> None:
    grid = data.draw(straight(mask.shape))
    distance = to_border(~mask, grid)
    agree(~shrink(mask, grid, Margin.uniform(mm)), distance, mm)


@given(st.data(), masks(14), MM, MM)
@settings(max_examples=100, deadline=None)
def test_a_ring_is_between_two_distances(data: st.DataObject, mask: Mask, one: float, two: float) -> None:
    grid = data.draw(straight(mask.shape))
    inner, outer = sorted((one, two))
    distance = to_border(mask, grid)
    found = ring(mask, grid, Margin.uniform(inner), Margin.uniform(outer))
    clear = (np.abs(distance - inner) > HAIR) & (np.abs(distance - outer) > HAIR) & (distance > 0)
    np.testing.assert_array_equal(found[clear], ((distance > inner) & (distance <= outer))[clear])
    assert not (found & mask).any()


@given(st.data(), masks(6), margins())
@settings(max_examples=200, deadline=None)
def test_ellipsoids_and_six_directions_hold_for_every_pair_of_voxels(
    data: st.DataObject, mask: Mask, margin: Margin
) -> None:
    grid = data.draw(straight(mask.shape))
    agree(grow(mask, grid, margin), reach(mask, grid, margin))


@given(st.data(), masks(6), margins())
@settings(max_examples=200, deadline=None)
def test_shrinking_moves_each_side_inwards_by_its_own_margin(
    data: st.DataObject, mask: Mask, margin: Margin
) -> None:
    grid = data.draw(straight(mask.shape))
    agree(~shrink(mask, grid, margin), reach(~mask, grid, margin.opposite))


@given(st.data(), masks(6), margins())
@settings(max_examples=100, deadline=None)
def test_on_an_oblique_grid_each_axis_is_assigned_the_nearest_direction(
    data: st.DataObject, mask: Mask, margin: Margin
) -> None:
    grid = data.draw(oblique(mask.shape))
    directions = np.asarray(grid.axes)[::-1]
    agree(grow(mask, grid, margin), reach(mask, grid, margin, directions))
    if margin.values_mm == (margin.left,) * 6:
        agree(grow(mask, grid, margin), reach(mask, grid, margin))


@given(st.data(), masks(6, least=2), margins())
@settings(max_examples=200, deadline=None)
def test_uneven_heights_and_shifted_slices_are_taken_at_their_places(
    data: st.DataObject, mask: Mask, margin: Margin
) -> None:
    stack = data.draw(stacks(mask.shape))
    agree(grow(mask, stack, margin), reach(mask, stack, margin))
    agree(~shrink(mask, stack, margin), reach(~mask, stack, margin.opposite))


@given(masks(8), margins())
@settings(max_examples=60, deadline=None)
def test_a_stack_that_is_regular_gives_what_its_grid_gives(mask: Mask, margin: Margin) -> None:
    mask = np.concatenate([mask, mask], axis=0)
    grid = Grid(shape=mask.shape, spacing_mm=(2.5, 0.9, 1.1), origin_mm=(-4.0, 7.0, 11.0))
    stack = SliceStack(
        shape=mask.shape,
        positions_mm=grid.to_lps([(k, 0, 0) for k in range(mask.shape[0])]),
        orientations=np.tile(np.array([grid.axes[2], grid.axes[1]]), (mask.shape[0], 1, 1)),
        pixel_spacing_mm=(0.9, 1.1),
    )
    for change in (grow, shrink):
        np.testing.assert_array_equal(change(mask, stack, margin), change(mask, grid, margin))


@pytest.mark.parametrize("change", [grow, shrink])
@given(mask=masks(8), margin=margins())
@settings(max_examples=40, deadline=None)
def test_the_mask_that_is_given_stays_as_it_is(
    change: Callable[[Mask, VoxelGeometry, Margin], Mask], mask: Mask, margin: Margin
) -> None:
    grid = Grid(shape=mask.shape, spacing_mm=(3.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))
    before = mask.copy()
    changed = change(mask, grid, margin)
    np.testing.assert_array_equal(mask, before)
    assert not np.shares_memory(changed, mask)
