"""Status first, then numbers; added path length by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from orgseg_node.core.metrics import Comparison, Status, added_path, compare
from orgseg_node.core.metrics.comparison import NOT_LABELLED
from orgseg_node.core.volume import Mask

SPACING = (3.0, 1.0, 1.0)


def block(start: int = 4, size: int = 6) -> Mask:
    mask = np.zeros((20, 20, 20), bool)
    mask[start : start + size, start : start + size, start : start + size] = True
    return mask


EMPTY = np.zeros((20, 20, 20), bool)


def numbers(result: Comparison) -> dict[str, float]:
    return {k: v for k, v in dataclasses.asdict(result).items() if k != "status" and not math.isnan(v)}


def test_an_organ_found_where_it_is() -> None:
    result = compare(block(), block(), SPACING, tolerance_mm=1.5)
    assert result.status is Status.OK
    assert (result.dsc, result.jaccard, result.sdsc, result.vd_ml, result.apl_mm) == (1, 1, 1, 0, 0)
    assert result.reference_ml == pytest.approx(6**3 * 3 / 1000)
    assert result.tolerance_mm == 1.5
    assert len(numbers(result)) == 15


def test_a_miss_has_no_overlap_no_distance_and_the_whole_contour_to_draw() -> None:
    result = compare(block(), EMPTY, SPACING)
    assert result.status is Status.PRED_EMPTY
    assert (result.dsc, result.jaccard, result.sdsc_2mm) == (0, 0, 0)
    assert result.apl_percent == 100
    assert math.isnan(result.hd95_mm)
    assert math.isnan(result.msd_mm)
    assert result.vd_ml == -result.reference_ml


def test_a_false_finding_has_only_volumes() -> None:
    result = compare(EMPTY, block(), SPACING)
    assert result.status is Status.REF_EMPTY
    assert set(numbers(result)) == {"reference_ml", "prediction_ml", "vd_ml", "tolerance_mm"}
    assert result.prediction_ml == result.vd_ml > 0


def test_rightly_nothing_and_not_looked_for_are_not_the_same() -> None:
    assert compare(EMPTY, EMPTY, SPACING).status is Status.BOTH_EMPTY
    assert numbers(NOT_LABELLED) == {}
    assert not Status.BOTH_EMPTY.is_scored
    assert not Status.NOT_LABELLED.is_scored
    assert Status.PRED_EMPTY.is_scored


@pytest.mark.parametrize("start", [0, 14])
def test_an_organ_at_the_edge_of_the_scan_is_reported_as_cropped(start: int) -> None:
    assert compare(block(start), block(start), SPACING).status is Status.CROPPED_BY_FOV
    assert compare(block(), block(start), SPACING).status is Status.OK, "the reference decides"


def test_a_box_with_a_margin_of_one_voxel_gives_what_the_whole_scan_gives() -> None:
    a, b = block(4, 6), block(5, 7)
    cut = (slice(3, 13),) * 3
    assert compare(a[cut], b[cut], SPACING) == compare(a, b, SPACING)


def test_masks_of_different_shape_are_refused() -> None:
    for function in (compare, added_path):
        with pytest.raises(ValueError, match="cannot be compared"):
            function(EMPTY, EMPTY[1:], SPACING)


def test_added_path_counts_contour_pixels_slice_by_slice() -> None:
    """Each slice of a block of 6 x 6 pixels has 20 contour pixels; moved by one, 5 + 4 of them stay drawn."""
    reference, moved = block(), np.roll(block(), 1, axis=2)
    path = added_path(reference, moved, SPACING)
    assert path.contour_mm == 6 * 20
    kept = 2 * 5  # of the upper and lower side; the left side is free, the right one is inside
    assert path.added_mm == 6 * (20 - kept)
    assert path.added_beyond_1px_mm == 0
    assert path.percent == pytest.approx(50.0)


def test_one_pixel_is_a_step_along_a_side_and_not_across_a_corner() -> None:
    reference = np.zeros((1, 7, 7), bool)
    aslant = reference.copy()
    reference[0, 3, 3] = aslant[0, 4, 4] = True
    assert added_path(reference, aslant, SPACING).added_beyond_1px_mm == 1.0
    assert added_path(reference, np.roll(reference, 1, axis=1), SPACING).added_beyond_1px_mm == 0.0


def test_where_the_image_ends_there_is_no_contour() -> None:
    reference = np.zeros((2, 6, 6), bool)
    reference[:, :3] = True
    assert added_path(reference, reference, (3.0, 1.0, 2.0)).contour_mm == 2 * 6 * 1.5
    assert math.isnan(added_path(np.ones((2, 6, 6), bool), reference, SPACING).percent)
