"""Whatever the mask and the place of the pixels, the written decimals enclose exactly its voxels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from orgseg_node.core.contours import Contour, Holes, Tracing, rasterise, trace_mask
from orgseg_node.core.geometry import Grid, Shape
from orgseg_node.core.loops import SLACK
from orgseg_node.dicom.objects.uids import derive_uid

MASKS = arrays(np.bool_, st.tuples(st.integers(1, 3), st.integers(1, 14), st.integers(1, 14)))


def _grid(mask: NDArray[np.bool_]) -> Grid:
    return Grid(shape=mask.shape, spacing_mm=(1.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))


def _area(points: NDArray[np.float64]) -> float:
    x, y = points.T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


@given(mask=MASKS, max_points=st.sampled_from([24, 1700]), holes=st.sampled_from(Holes))
@settings(max_examples=200, deadline=None)
def test_any_mask_comes_back(mask: NDArray[np.bool_], max_points: int, holes: Holes) -> None:
    contours = trace_mask(mask, Tracing(holes=holes, max_points=max_points))
    assert all(len(np.unique(contour.points, axis=0)) >= 3 for contour in contours)
    assert all(len(contour.points) <= max_points for contour in contours)
    np.testing.assert_array_equal(rasterise(contours, _grid(mask)), mask)


def _hard_slices(count: int, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Slices with specks and corners that touch, holes in islands in holes, and organs cut by the border."""
    random = np.random.default_rng(20)
    rows, columns = shape
    y, x = np.mgrid[:rows, :columns]
    slices = np.empty((count, rows, columns), dtype=np.bool_)
    for k in range(count):
        centre = random.uniform((-2, -2), (rows + 2, columns + 2))
        radius = np.hypot(y - centre[0], x - centre[1])
        rings = np.floor(radius / random.uniform(1.0, 4.0)) % 2 == 0
        specks = random.random(shape) < random.uniform(0.02, 0.6)
        checks = (x + y) % 2 == 0
        slices[k] = (rings, specks, rings ^ specks, rings & checks, rings | (specks & checks))[k % 5]
    return slices


@pytest.mark.parametrize("holes", Holes)
@pytest.mark.parametrize("count", [300, pytest.param(1500, marks=pytest.mark.slow)])
def test_many_hard_slices_come_back_without_a_wrong_voxel(holes: Holes, count: int) -> None:
    mask = _hard_slices(count, (26, 31))
    contours = trace_mask(mask, Tracing(holes=holes))
    wrong = np.count_nonzero(rasterise(contours, _grid(mask)) != mask)
    assert wrong == 0


def _alone(contour: Contour, shape: Shape) -> NDArray[np.bool_]:
    grid = Grid(shape=(1, *shape[1:]), spacing_mm=(1.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))
    return rasterise([replace(contour, k=0)], grid)[0]


def test_each_encoding_means_what_its_readers_take_it_for() -> None:
    """Keyholes are united, exclusive contours excluded; without holes all encodings are the same."""
    mask = _hard_slices(100, (18, 21))
    united, excluded = np.zeros_like(mask), np.zeros_like(mask)
    for contour in trace_mask(mask, Tracing(holes=Holes.KEYHOLE)):
        united[contour.k] |= _alone(contour, mask.shape)
    for contour in trace_mask(mask, Tracing(holes=Holes.XOR)):
        excluded[contour.k] ^= _alone(contour, mask.shape)
    np.testing.assert_array_equal(united, mask)
    np.testing.assert_array_equal(excluded, mask)
    solid = mask[:, :3, :3] | True
    one, other = (trace_mask(solid, Tracing(holes=holes)) for holes in (Holes.KEYHOLE, Holes.NESTED))
    for contour, same in zip(one, other, strict=True):
        np.testing.assert_array_equal(contour.points, same.points)


@given(mask=MASKS, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_any_rounding_within_the_slack_changes_no_voxel(mask: NDArray[np.bool_], seed: int) -> None:
    random = np.random.default_rng(seed)
    moved = []
    for contour in trace_mask(mask):
        # the same point is written with the same decimals, so the two ends of a bridge move together
        _, place = np.unique(contour.points, axis=0, return_inverse=True)
        angle = random.uniform(0, 2 * np.pi, place.max() + 1)
        shift = 0.99 * SLACK * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        moved.append(replace(contour, points=contour.points + shift[place.ravel()]))
    np.testing.assert_array_equal(rasterise(moved, _grid(mask)), mask)


@given(mask=MASKS)
@settings(max_examples=100, deadline=None)
def test_half_pixel_law_is_made_good(mask: NDArray[np.bool_]) -> None:
    voxels = int(mask.sum())
    contours = trace_mask(mask)
    area = sum(_area(contour.points) for contour in contours)
    assert abs(area - voxels) <= 0.2 * len(contours) + 0.03 * voxels


@given(
    polygon=arrays(np.float64, (7, 2), elements=st.floats(-3, 12)),
    other=arrays(np.float64, (3, 2), elements=st.floats(-3, 12)),
)
@settings(max_examples=100, deadline=None)
def test_two_contours_together_are_the_exclusive_or_of_each(
    polygon: NDArray[np.float64], other: NDArray[np.float64]
) -> None:
    grid = Grid(shape=(1, 9, 10), spacing_mm=(1.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))
    one, two = Contour(k=0, points=polygon), Contour(k=0, points=other)
    np.testing.assert_array_equal(
        rasterise([one, two], grid), rasterise([one], grid) ^ rasterise([two], grid)
    )


@given(parts=st.lists(st.text(min_size=1), min_size=1, max_size=4), more=st.text(min_size=1))
def test_uids_are_legal_and_depend_on_every_part(parts: list[str], more: str) -> None:
    uid = derive_uid(*parts)
    assert uid == derive_uid(*parts)
    assert uid != derive_uid(*parts, more)
    assert uid.startswith("2.25.")
    assert len(uid) <= 64
    assert not uid.removeprefix("2.25.").startswith("0")
