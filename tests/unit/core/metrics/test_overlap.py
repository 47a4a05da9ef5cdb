"""The metrics on masks whose agreement is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orgseg_node.core.metrics import dice, jaccard, volume_difference_ml


def test_dice_of_half_overlapping_blocks_is_two_thirds() -> None:
    a, b = np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
    a[:2], b[:1] = True, True
    assert dice(a, b) == pytest.approx(2 * 16 / (32 + 16))


def test_dice_of_a_mask_with_itself_is_one() -> None:
    a = np.eye(5, dtype=bool)
    assert dice(a, a) == 1.0


def test_dice_is_zero_where_one_mask_is_empty_and_undefined_where_both_are() -> None:
    full, empty = np.ones((2, 2), bool), np.zeros((2, 2), bool)
    assert dice(full, empty) == 0.0
    assert math.isnan(dice(empty, empty))


def test_jaccard_and_dice_of_one_pair_are_bound_to_each_other() -> None:
    a, b = np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
    a[:2], b[1:] = True, True
    assert jaccard(a, b) == pytest.approx(dice(a, b) / (2 - dice(a, b)))
    assert jaccard(a, a) == 1.0
    assert math.isnan(jaccard(a & ~a, a & ~a))


def test_volume_difference_is_prediction_minus_reference() -> None:
    small, large = np.zeros((4, 4, 4), bool), np.ones((4, 4, 4), bool)
    small[0] = True
    assert volume_difference_ml(small, large, voxel_ml=0.5) == 24.0
    assert volume_difference_ml(large, small, voxel_ml=0.5) == -24.0
