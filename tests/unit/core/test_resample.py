"""From slices to the network's grid and back."""

from __future__ import annotations

import numpy as np
import pytest

from orgseg_node.core.geometry import FloatArray, Grid, SliceStack
from orgseg_node.core.resample import MAX_GROWTH, OUTSIDE_HU, grid_for, resample_hu_to_grid, to_slices
from orgseg_node.core.volume import LabelMap


def stack_at(
    heights: list[float] | FloatArray,
    *,
    shear: float = 0.0,
    shape: tuple[int, int] = (20, 24),
    angle: float = 0.0,
) -> SliceStack:
    """Slices of 2 x 1.5 mm pixels at heights, sheared along the columns, turned about x."""
    places = np.asarray(heights, dtype=np.float64)
    column = np.array([0.0, np.cos(angle), np.sin(angle)])
    row = np.array([1.0, 0.0, 0.0])
    positions = places[:, None] * (np.cross(row, column) + shear * column) + [-10.0, 5.0, 100.0]
    return SliceStack(
        shape=(len(places), *shape),
        positions_mm=positions,
        orientations=np.tile([row, column], (len(places), 1, 1)),
        pixel_spacing_mm=(2.0, 1.5),
    )


def noise(stack: SliceStack) -> np.ndarray:
    """Numbers that no interpolation reproduces by chance."""
    return np.random.default_rng(1).integers(-1000, 2000, stack.shape).astype(np.int16)


def ramp(points_mm: FloatArray) -> FloatArray:
    """A linear function of the place, which linear interpolation must reproduce."""
    return points_mm @ np.array([1.0, 2.0, -1.5])


def points_of(place: Grid | SliceStack) -> FloatArray:
    """(K, J, I, 3) centres of all voxels."""
    return place.to_lps(np.indices(place.shape).reshape(3, -1).T).reshape(*place.shape, 3)


@pytest.mark.parametrize(
    ("heights", "spacing", "planes"),
    [
        ([0, 3, 6, 12, 15], 3.0, 6),  # a slice is missing
        ([0, 3, 6, 21, 24], 3.0, 9),
        ([0, 2.5, 5, 7.5, 10, 15, 20, 25, 30], 2.5, 13),
        ([0, 5, 10, 15, 20, 22.5, 25, 27.5], 2.5, 12),
        ([0, 5, 8, 13, 16], 1.0, 17),
        (list(range(40)) + [40 + 5 * k for k in range(10)], 1.0, 86),
    ],
)
def test_all_slices_lie_on_planes_where_a_usual_distance_allows_it_and_are_copied(
    heights: list[float], spacing: float, planes: int
) -> None:
    stack = stack_at(heights)
    grid = grid_for(stack)
    assert grid.spacing_mm == pytest.approx((spacing, 2.0, 1.5))
    assert grid.shape == (planes, 20, 24)
    hu = noise(stack)
    seen = resample_hu_to_grid(hu, stack, grid)
    assert seen.dtype == np.int16
    on = np.rint(np.asarray(heights) / spacing).astype(int)
    assert np.array_equal(seen[on], hu)


def test_planes_between_two_slices_are_interpolated() -> None:
    stack = stack_at([0, 3, 6, 12, 15])
    hu = noise(stack)
    seen = resample_hu_to_grid(hu, stack, grid_for(stack))
    assert np.array_equal(seen[3], np.rint((hu[2].astype(float) + hu[3]) / 2))


@pytest.mark.parametrize("shear", [0.3, -0.41])
@pytest.mark.parametrize("angle", [0.0, -0.3])
def test_the_sideways_shift_of_a_tilted_gantry_is_undone(shear: float, angle: float) -> None:
    stack = stack_at(np.arange(20) * 3.0, shear=shear, angle=angle)
    grid = grid_for(stack)
    assert grid.shape[1] == 20 + np.ceil(abs(shear) * 57 / 2)  # rows are added, so that nothing is lost
    seen = resample_hu_to_grid(ramp(points_of(stack)).astype(np.float32), stack, grid)
    index = stack.to_index(points_of(grid).reshape(-1, 3)).reshape(*grid.shape, 3)
    inside = ((index >= 0) & (index <= np.array(stack.shape) - 1)).all(axis=-1)
    assert inside.mean() > 0.5
    off = np.abs(seen - ramp(points_of(grid)))[inside]
    assert off.max() < 2.0 * 2.0 * 0.06  # a shift of less than a twentieth of a pixel is left as it is
    outside = ((index < -1.01) | (index > np.array(stack.shape) + 0.01)).any(axis=-1)
    assert (seen[outside] == OUTSIDE_HU).all()


def test_labels_come_back_from_a_tilted_grid_where_they_were() -> None:
    stack = stack_at(np.arange(20) * 3.0, shear=0.35, shape=(60, 60))
    grid = grid_for(stack)

    def ball(place: Grid | SliceStack) -> np.ndarray:
        return np.linalg.norm(points_of(place) - [30.0, 60.0, 130.0], axis=-1) < 22.0

    found = to_slices(LabelMap(grid=grid, labels=ball(grid).astype(np.uint8), organs={}), stack)
    truth = ball(stack)
    wrong = np.equal(found.labels, 1) ^ truth
    assert truth.sum() > 3000
    assert wrong.sum() < 0.06 * truth.sum()
    depth = np.abs(np.linalg.norm(points_of(stack) - [30.0, 60.0, 130.0], axis=-1) - 22.0)
    assert depth[wrong].max() < 1.3  # half a pixel of the rim
    assert found.grid is stack


def test_labels_on_slices_that_lie_on_planes_come_back_to_the_voxel() -> None:
    stack = stack_at([0, 2.5, 5, 10, 15, 20])
    grid = grid_for(stack)
    labels = np.random.default_rng(2).integers(0, 9, grid.shape).astype(np.uint8)
    found = to_slices(LabelMap(grid=grid, labels=labels, organs={}), stack)
    assert np.array_equal(found.labels, labels[[0, 1, 2, 4, 6, 8]])


def test_uneven_distances_get_their_ordinary_one_and_a_grid_of_bounded_size() -> None:
    heights = np.cumsum([0.0, *[4.22] * 14, 1.14, *[7.38] * 12])
    grid = grid_for(stack_at(heights))
    assert grid.spacing_mm[0] == pytest.approx(4.22, abs=0.05)
    assert len(heights) <= grid.shape[0] <= 2 * len(heights)


def test_slices_of_random_distances_make_no_giant_grid() -> None:
    heights = np.cumsum(np.random.default_rng(3).uniform(0.1, 6.0, 300))
    grid = grid_for(stack_at(heights, shape=(2, 2)))
    assert grid.shape[0] <= MAX_GROWTH * 300 + 2


def test_small_jitter_is_no_reason_for_a_finer_grid() -> None:
    jitter = np.random.default_rng(4).uniform(-0.2, 0.2, 500)
    grid = grid_for(stack_at(np.arange(500) * 2.0 + jitter, shape=(2, 2)))
    assert grid.spacing_mm[0] == pytest.approx(2.0, abs=0.15)


def test_a_grid_of_other_pixels_or_directions_is_an_error() -> None:
    stack = stack_at([0, 3, 9])
    grid = grid_for(stack)
    hu = noise(stack)
    other_pixels = Grid(
        shape=grid.shape, spacing_mm=(3.0, 2.0, 2.0), origin_mm=grid.origin_mm, axes=grid.axes
    )
    with pytest.raises(ValueError, match="pixels"):
        resample_hu_to_grid(hu, stack, other_pixels)
    with pytest.raises(ValueError, match="directions"):
        resample_hu_to_grid(hu, stack, grid_for(stack_at([0, 3, 9], angle=0.2)))
    with pytest.raises(ValueError, match="voxels"):
        resample_hu_to_grid(hu[1:], stack, grid)
    on_slices = LabelMap(grid=stack, labels=np.zeros(stack.shape, np.uint8), organs={})
    with pytest.raises(ValueError, match="not a regular grid"):
        to_slices(on_slices, stack)


def test_slices_so_near_that_they_share_a_plane_say_nothing_of_its_distance() -> None:
    stack = stack_at([0.0, 0.3125, 17.3125, 33.3125])
    grid = grid_for(stack)
    assert grid.heights_mm[0] <= stack.heights_mm[0] + 0.32
    assert grid.heights_mm[-1] >= stack.heights_mm[-1] - 0.32
