"""Edited slices, and surfaces near a place."""

from __future__ import annotations

import numpy as np
import pytest

from orgseg_node.core.metrics import edited_slices, surface_distances
from orgseg_node.core.volume import Mask


def block(*, j: int = 4, i: int = 4, k: int = 3, slices: int = 4) -> Mask:
    mask = np.zeros((10, 20, 20), dtype=np.bool_)
    mask[k : k + slices, j : j + 8, i : i + 8] = True
    return mask


def test_equal_masks_have_no_edited_slice() -> None:
    found = edited_slices(block(), block())
    assert (found.slices, found.edited, found.share) == (4, 0, 0.0)


def test_a_shift_by_one_pixel_is_no_edit_and_by_two_it_is() -> None:
    assert edited_slices(block(), block(i=5)).edited == 0
    assert edited_slices(block(), block(i=6)).edited == 4


def test_an_edit_of_one_slice_is_one_of_them() -> None:
    after = block()
    after[4, 12:16, 4:12] = True
    assert edited_slices(block(), after).share == pytest.approx(0.25)


def test_a_slice_that_only_one_has_is_edited() -> None:
    found = edited_slices(block(), block(slices=6))
    assert (found.slices, found.edited) == (6, 2)


def test_nothing_at_all_has_no_share() -> None:
    nothing = np.zeros((3, 4, 4), dtype=np.bool_)
    assert np.isnan(edited_slices(nothing, nothing).share)


def test_only_surfaces_that_touch_a_place_count_near_it() -> None:
    """The left side moved by 3 pixels, the right side did not: near the right all is well."""
    before, after = block(), block()
    after[3:7, 4:12, 4:7] = False
    right = np.zeros_like(before)
    right[:, :, 10:14] = True
    left = np.zeros_like(before)
    left[:, :, :8] = True
    spacing = (3.0, 1.0, 1.0)
    whole = surface_distances(after, before, spacing).surface_dice(2.0)
    assert surface_distances(after, before, spacing, within=right).surface_dice(2.0) == 1.0
    assert surface_distances(after, before, spacing, within=left).surface_dice(2.0) < whole < 1.0
    nowhere = np.zeros_like(before)
    assert np.isnan(surface_distances(after, before, spacing, within=nowhere).surface_dice(2.0))
