"""Surface distances where the right answer can be worked out by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from orgseg_node.core.metrics import SurfaceDistances, surface_distances
from orgseg_node.core.metrics.elements import CORNER_BITS, element_areas
from orgseg_node.core.volume import Mask

SPACING = (2.5, 0.9, 1.1)


def block(start: tuple[int, int, int], size: tuple[int, int, int] = (6, 8, 10)) -> Mask:
    mask = np.zeros((30, 32, 34), bool)
    mask[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = True
    return mask


def ball(radius_mm: float, spacing_mm: tuple[float, float, float]) -> Mask:
    half = [math.ceil(radius_mm / s) + 2 for s in spacing_mm]
    axes = np.ix_(*(np.arange(-n, n + 1) * s for n, s in zip(half, spacing_mm, strict=True)))
    return np.asarray(sum(a * a for a in axes) <= radius_mm**2)


def test_a_plane_between_voxels_has_the_area_of_the_face_they_share() -> None:
    for axis, spacing in enumerate(SPACING):
        code = sum(1 << bit for corner, bit in CORNER_BITS.items() if corner[axis] == 0)
        assert element_areas(SPACING)[code] == pytest.approx(math.prod(SPACING) / spacing)


def test_turning_or_mirroring_a_cell_never_changes_its_area() -> None:
    areas = element_areas((1.0, 1.0, 1.0))
    for code in range(256):
        for order in itertools.permutations(range(3)):
            for flip in itertools.product((0, 1), repeat=3):
                turned = 0
                for corner, bit in CORNER_BITS.items():
                    moved = tuple(corner[axis] ^ f for axis, f in zip(order, flip, strict=True))
                    turned |= (code >> bit & 1) << CORNER_BITS[moved]  # type: ignore[index]
                assert areas[turned] == pytest.approx(areas[code])


def test_every_cell_with_inside_and_outside_has_an_area_and_no_other() -> None:
    areas = element_areas(SPACING)
    assert set(np.flatnonzero(areas == 0)) == {0, 255}


def test_the_areas_of_a_spacing_are_computed_once_and_nobody_can_change_them() -> None:
    areas = element_areas(SPACING)
    assert element_areas(SPACING) is areas
    with pytest.raises(ValueError, match="read-only"):
        areas[1] = 0.0
    assert element_areas((5.0, 0.9, 1.1))[1] != areas[1]


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 1.0, 1.0)])
def test_area_of_a_ball_is_near_the_truth_though_steps_enlarge_it(
    spacing: tuple[float, float, float],
) -> None:
    mask = ball(25.0, spacing)
    area = surface_distances(mask, mask, spacing).reference_mm2.sum()
    assert area / (4 * math.pi * 25.0**2) == pytest.approx(1.1, abs=0.08)


def test_a_mask_has_no_distance_from_itself() -> None:
    same = surface_distances(block((5, 5, 5)), block((5, 5, 5)), SPACING)
    assert (same.mean_mm, same.hausdorff_mm, same.hausdorff95_mm) == (0.0, 0.0, 0.0)
    assert same.surface_dice(0.0) == 1.0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_block_moved_by_two_voxels_has_that_distance_in_mm_on_each_axis(axis: int) -> None:
    start = [5, 5, 5]
    start[axis] += 2
    moved = surface_distances(block((5, 5, 5)), block((start[0], start[1], start[2])), SPACING)
    assert moved.hausdorff_mm == pytest.approx(2 * SPACING[axis])


def test_hausdorff_is_the_larger_direction_whichever_mask_comes_first() -> None:
    small, large = block((5, 5, 5)), block((5, 5, 5), (6, 8, 20))
    assert surface_distances(small, large, SPACING).hausdorff_mm == pytest.approx(10 * 1.1)
    assert surface_distances(large, small, SPACING).hausdorff_mm == pytest.approx(10 * 1.1)


def test_hd95_weighs_elements_by_area_and_not_by_number() -> None:
    """6 % of the elements lie far away, with 0.6 % of the area; then with 39 % of it."""
    far = np.repeat([0.0, 9.0], [94, 6])
    for near_mm2, far_mm2, expected in ((10.0, 1.0, 0.0), (1.0, 10.0, 9.0)):
        areas = np.repeat([near_mm2, far_mm2], [94, 6])
        found = SurfaceDistances(
            to_prediction_mm=far, reference_mm2=areas, to_reference_mm=far * 0, prediction_mm2=areas
        )
        assert found.hausdorff95_mm == expected
        assert found.hausdorff_mm == 9.0
    few = np.repeat([0.0, 9.0], [96, 4])
    found = SurfaceDistances(
        to_prediction_mm=few, reference_mm2=few * 0 + 1, to_reference_mm=few, prediction_mm2=few * 0 + 1
    )
    assert (found.hausdorff95_mm, found.percentile_mm(97.0)) == (0.0, 9.0)


def test_mean_distance_pools_both_surfaces_by_area() -> None:
    found = surface_distances(block((5, 5, 5)), block((5, 5, 9), (6, 8, 10)), SPACING)
    weights = np.concatenate([found.reference_mm2, found.prediction_mm2])
    values = np.concatenate([found.to_prediction_mm, found.to_reference_mm])
    assert found.mean_mm == pytest.approx(np.average(values, weights=weights))


def test_surface_dice_counts_what_is_within_the_tolerance_and_on_it() -> None:
    moved = surface_distances(block((5, 5, 5)), block((5, 5, 7)), SPACING)
    assert moved.surface_dice(2.2 + 1e-9) == 1.0
    assert 0.3 < moved.surface_dice(2.19) < 1.0


def test_the_cut_of_the_scan_is_no_surface_but_may_be_measured_to() -> None:
    """An organ runs out of the scan; the prediction ends one slice before the end."""
    whole = block((0, 5, 5), (30, 20, 20))
    short = whole.copy()
    short[-1] = False
    found = surface_distances(whole, short, SPACING)
    assert found.hausdorff_mm == pytest.approx(2.5), "not the half width of the organ"
    walls = found.reference_mm2.sum()
    assert walls == pytest.approx(29 * 2.5 * 2 * (20 * 0.9 + 20 * 1.1), rel=0.1), "the caps are not counted"


def test_without_a_surface_nothing_is_defined() -> None:
    empty, full = np.zeros((4, 4, 4), bool), np.ones((4, 4, 4), bool)
    for pair in ((empty, full), (full, empty), (empty, empty), (full, full)):
        found = surface_distances(*pair, SPACING)
        assert math.isnan(found.mean_mm)
        assert math.isnan(found.hausdorff95_mm)
        assert math.isnan(found.surface_dice(2.0))


def test_masks_of_different_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        surface_distances(np.ones((3, 3, 3), bool), np.ones((3, 3, 4), bool), SPACING)
