"""The metrics on masks whose agreement is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orgseg_node.core.metrics import dice


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
