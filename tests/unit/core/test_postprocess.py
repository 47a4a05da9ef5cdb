"""Postprocessing takes away small pieces, fills only what is free, and never does what was not asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from orgseg_node.core.geometry import FloatArray, Shape
from orgseg_node.core.postprocess import FillHoles, Postprocessing, postprocess, split_sides
from orgseg_node.core.volume import Mask

SHAPE = (8, 16, 20)
SLICES = Postprocessing(fill_holes=FillHoles.SLICES)
VOLUME = Postprocessing(fill_holes=FillHoles.VOLUME)
BETWEEN = Postprocessing(interpolate_slices=True)


def nothing(shape: Shape = SHAPE) -> Mask:
    return np.zeros(shape, dtype=np.bool_)


def pieces() -> Mask:
    """Pieces of 24, 8 and 1 voxels."""
    mask = nothing()
    mask[1:4, 1:3, 1:5] = True
    mask[5:7, 8:10, 8:10] = True
    mask[7, 15, 19] = True
    return mask


def tidied(
    mask: Mask,
    how: Postprocessing,
    *,
    free: Mask | None = None,
    slice_ml: FloatArray | None = None,
    heights: FloatArray | None = None,
) -> Mask:
    count = mask.shape[0]
    return postprocess(
        mask,
        ~mask if free is None else free,
        np.full(count, 0.01) if slice_ml is None else slice_ml,
        np.arange(count, dtype=np.float64) if heights is None else heights,
        how,
    )


def test_what_asks_for_nothing_is_nothing() -> None:
    assert Postprocessing().has_no_effect
    for how in (SLICES, BETWEEN, Postprocessing(keep_components=1), Postprocessing(min_island_ml=0.1)):
        assert not how.has_no_effect
    np.testing.assert_array_equal(tidied(pieces(), Postprocessing()), pieces())


@pytest.mark.parametrize(("count", "voxels"), [(1, 24), (2, 32), (3, 33), (4, 33)])
def test_the_largest_pieces_stay(count: int, voxels: int) -> None:
    assert tidied(pieces(), Postprocessing(keep_components=count)).sum() == voxels


@pytest.mark.parametrize(("ml", "voxels"), [(0.01, 33), (0.011, 32), (0.08, 32), (0.081, 24), (0.25, 0)])
def test_islands_below_a_volume_go_and_those_of_just_that_volume_stay(ml: float, voxels: int) -> None:
    assert tidied(pieces(), Postprocessing(min_island_ml=ml)).sum() == voxels


def test_both_limits_hold() -> None:
    assert tidied(pieces(), Postprocessing(keep_components=2, min_island_ml=0.1)).sum() == 24


def test_what_counts_is_volume_and_not_voxels() -> None:
    """Slices as thick as five make the piece of 8 voxels larger than that of 24."""
    mask, slice_ml = pieces(), np.full(8, 0.01)
    slice_ml[5:] = 0.05
    np.testing.assert_array_equal(
        tidied(mask, Postprocessing(keep_components=1), slice_ml=slice_ml).any(axis=(1, 2)).nonzero()[0],
        [5, 6],
    )


def test_pieces_that_touch_at_a_corner_are_one() -> None:
    mask = nothing()
    mask[2, 3, 3] = mask[3, 4, 4] = mask[4, 5, 5] = True
    assert tidied(mask, Postprocessing(keep_components=1)).sum() == 3


def test_an_organ_that_is_not_there_stays_away() -> None:
    for how in (Postprocessing(keep_components=1, min_island_ml=1.0), SLICES, VOLUME, BETWEEN):
        assert not tidied(nothing(), how).any()


def hollow() -> Mask:
    """A pipe along the slices, closed at its lower end only, and a closed box."""
    mask = nothing()
    mask[2:7, 2:7, 2:7] = True
    mask[3:7, 3:6, 3:6] = False  # open at slice 6
    mask[2:5, 9:12, 9:12] = True
    mask[3, 10, 10] = False
    return mask


def test_holes_are_filled_slice_by_slice_or_where_closed_on_all_sides() -> None:
    by_slice, by_volume = tidied(hollow(), SLICES), tidied(hollow(), VOLUME)
    assert by_slice[3:7, 3:6, 3:6].all()
    assert by_slice[3, 10, 10]
    assert not by_volume[3:7, 3:6, 3:6].any()
    assert by_volume[3, 10, 10]
    assert by_volume.sum() == hollow().sum() + 1


def test_a_bay_that_is_open_to_the_edge_of_the_image_is_no_hole() -> None:
    mask = nothing()
    mask[2:5, 0:4, 0:4] = True
    mask[2:5, 0:2, 1:3] = False
    np.testing.assert_array_equal(tidied(mask, SLICES), mask)


def test_holes_that_belong_to_another_organ_stay() -> None:
    mask = hollow()
    free = ~mask
    free[3, 4, 4] = free[3, 10, 10] = False
    for how in (SLICES, VOLUME):
        found = tidied(mask, how, free=free)
        assert not found[3, 4, 4]
        assert not found[3, 10, 10]
    assert tidied(mask, SLICES, free=free)[3, 4, 5]


def cone(missing: list[int]) -> Mask:
    """Discs that shrink from slice to slice, some of them missing."""
    y, x = np.ogrid[:16, :20]
    mask = np.stack([np.hypot(y - 8, x - 10) <= 7.4 - k for k in range(8)])
    mask[missing] = False
    return mask


def test_skipped_slices_are_interpolated() -> None:
    whole = cone([])
    found = tidied(cone([2, 3, 5]), BETWEEN)
    for k, below, above in ((2, 1, 4), (3, 1, 4), (5, 4, 6)):
        assert (whole[above] <= found[k]).all(), "holds the smaller one"
        assert (found[k] <= whole[below]).all(), "is within the larger one"
        assert whole[above].sum() < found[k].sum() < whole[below].sum()
    kept = [0, 1, 4, 6, 7]
    np.testing.assert_array_equal(found[kept], whole[kept])


def test_slices_before_the_first_and_after_the_last_are_not_invented() -> None:
    found = tidied(cone([0, 1, 6, 7]), BETWEEN)
    assert found.any(axis=(1, 2)).nonzero()[0].tolist() == [2, 3, 4, 5]


def test_a_skipped_slice_near_to_one_neighbour_is_like_it() -> None:
    mask = cone([1])[:3]
    near, far = (tidied(mask, BETWEEN, heights=np.array([0.0, at, 10.0]))[1] for at in (0.5, 9.5))
    np.testing.assert_array_equal(near, mask[0])
    np.testing.assert_array_equal(far, mask[2])


def test_the_edge_of_the_image_is_a_border_of_what_fills_it() -> None:
    mask = np.ones((3, 5, 5), dtype=np.bool_)
    mask[1] = False
    assert tidied(mask, BETWEEN).all()
    mask[2] = False
    mask[2, 2, 2] = True
    between = np.zeros((5, 5), dtype=np.bool_)
    between[1:4, 1:4] = True
    np.testing.assert_array_equal(tidied(mask, BETWEEN)[1], between)


def test_skipped_slices_are_filled_only_where_no_other_organ_is() -> None:
    mask = cone([3])
    free = ~mask
    free[3, :, :10] = False
    found = tidied(mask, BETWEEN, free=free)
    assert not found[3, :, :10].any()
    assert found[3, :, 10:].any()


@given(
    arrays(np.uint8, (4, 6, 7), elements=st.integers(0, 2)),
    st.builds(
        Postprocessing,
        keep_components=st.none() | st.integers(1, 3),
        min_island_ml=st.sampled_from([0.0, 0.02, 0.05]),
        fill_holes=st.sampled_from(FillHoles),
        interpolate_slices=st.booleans(),
    ),
)
@settings(max_examples=200, deadline=None)
def test_whatever_is_done_only_free_voxels_come_and_no_other_organ_is_touched(
    labels: np.ndarray, how: Postprocessing
) -> None:
    mask, free = labels == 1, labels == 0
    found = tidied(mask, how, free=free)
    assert not (found & (labels == 2)).any()
    removing = how.keep_components is not None or how.min_island_ml > 0
    filling = how.fill_holes is not FillHoles.NONE or how.interpolate_slices
    assert removing or not (mask & ~found).any()
    assert filling or not (found & ~mask).any()


# ---------------------------------------------------------------------- left and right

X_MM = np.linspace(-95, 95, SHAPE[2])  # columns run to the patient's left


def test_whole_pieces_go_to_their_sides() -> None:
    mask = nothing()
    mask[2:5, 4:8, 2:6] = True
    mask[3:6, 4:8, 14:18] = True
    left, right = split_sides(mask, X_MM, 0.0)
    np.testing.assert_array_equal(left[..., 10:], mask[..., 10:])
    np.testing.assert_array_equal(right[..., :10], mask[..., :10])
    assert not left[..., :10].any()
    assert not right[..., 10:].any()


def test_a_piece_that_reaches_a_little_across_stays_whole() -> None:
    mask = nothing()
    mask[3, 5, 9:19] = True  # one voxel of ten on the right
    mask[3, 6, 10:19] = True
    left, right = split_sides(mask, X_MM, 0.0)
    np.testing.assert_array_equal(left, mask)
    assert not right.any()
    right_too, left_too = split_sides(mask, -X_MM, 0.0)
    np.testing.assert_array_equal(left_too, mask)
    assert not right_too.any()


def test_a_piece_on_both_sides_is_cut_in_the_middle() -> None:
    mask = nothing()
    mask[3:5, 5:7, 3:17] = True
    left, right = split_sides(mask, X_MM, 0.0)
    assert (left.sum(), right.sum()) == (28, 28)
    assert not left[..., :10].any()
    left, right = split_sides(mask, X_MM, 25.0)
    assert (left.sum(), right.sum()) == (4 * 4, 10 * 4)


@given(arrays(np.bool_, (3, 5, 20)), st.floats(-120, 120))
@settings(max_examples=100, deadline=None)
def test_left_and_right_together_are_the_organ(mask: Mask, middle: float) -> None:
    left, right = split_sides(mask, X_MM, middle)
    assert not (left & right).any()
    np.testing.assert_array_equal(left | right, mask)
