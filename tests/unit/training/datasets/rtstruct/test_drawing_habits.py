"""Stripes are filled in where they are a habit; beyond an organ drawn in part nothing is known."""

from __future__ import annotations

import numpy as np
import pytest

from orgseg_node.core.organs import OrganTable
from orgseg_training.datasets.rtstruct.drawing_habits import fill_habit, known_slices

_COUNT = 100


def _mask(slices: list[int], count: int = _COUNT) -> np.ndarray:
    """A disc that grows to the head, on these slices."""
    k, j, i = np.ogrid[:count, :40, :40]
    whole = np.hypot(j - 20, i - 20) <= 5 + k / 20
    mask = np.zeros((count, 40, 40), bool)
    mask[slices] = np.broadcast_to(whole, mask.shape)[slices]
    return mask


@pytest.mark.parametrize(("step", "start"), [(2, 10), (3, 11)])
def test_contours_on_every_second_or_third_slice_are_filled_in(step: int, start: int) -> None:
    whole, striped = _mask(list(range(start, 71))), _mask(list(range(start, 71, step)))
    filled = fill_habit(striped, 3.0)
    assert filled.every == step
    assert filled.filled == filled.mask.any(axis=(1, 2)).sum() - striped.any(axis=(1, 2)).sum()
    last = np.flatnonzero(striped.any(axis=(1, 2)))[-1]
    agreement = 2 * (filled.mask & whole)[: last + 1].sum() / (filled.mask.sum() + whole[: last + 1].sum())
    assert agreement > 0.97
    assert filled.mask[striped].all()


@pytest.mark.parametrize(
    "slices",
    [
        [*range(10, 30), *range(31, 50)],  # an oversight
        [*range(10, 30), *range(34, 50)],  # two parts
        [*range(10, 20), 22, 24, *range(25, 40)],  # two gaps one after the other
        list(range(10, 90, 9)),  # 27 mm apart
        [5],
        [],
    ],
)
def test_what_is_no_habit_stays(slices: list[int]) -> None:
    filled = fill_habit(_mask(slices), 3.0)
    assert (filled.every, filled.filled) == (1, 0)
    assert np.array_equal(filled.mask, _mask(slices))


def test_a_habit_in_a_part_of_an_organ_is_filled_there() -> None:
    slices = [*range(10, 30), *range(30, 51, 2), 60, 61]
    filled = fill_habit(_mask(slices), 3.0).mask.any(axis=(1, 2))
    assert list(np.flatnonzero(filled)) == [*range(10, 51), 60, 61]


def test_a_small_organ_with_three_contours_on_every_second_slice_is_filled() -> None:
    assert fill_habit(_mask([10, 12, 14]), 2.0).filled == 2


@pytest.mark.parametrize(
    ("organ", "slices", "known"),
    [
        ("spinal_cord", (40, 50), (40, 50)),  # 30 mm: both ends are open
        ("spinal_cord", (30, 80), (30, 100)),  # to the brainstem, not to the end of the scan
        ("spinal_cord", (0, 80), None),  # the scan ends there
        ("spinal_cord", (2, 80), None),
        ("spinal_cord", (10, 90), (10, 100)),
        ("spinal_cord", (0, 100), None),
        ("esophagus", (20, 50), (20, 100)),
        ("esophagus", (20, 65), None),  # 135 mm: a whole one
        ("bowel_bag", (0, 20), (0, 20)),
        ("parotid_left", (60, 64), (60, 64)),  # 12 mm
        ("parotid_left", (60, 75), None),
        ("parotid_left", (96, 100), None),  # the scan cuts it
        ("optic_chiasm", (60, 61), None),  # nothing is stated of its length
    ],
)
def test_beyond_the_open_end_of_an_organ_nothing_is_known(
    organ: str, slices: tuple[int, int], known: tuple[int, int] | None, organ_table: OrganTable
) -> None:
    assert known_slices(_mask(list(range(*slices))), organ_table[organ], 3.0) == known
