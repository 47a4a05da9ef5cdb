"""Label images in which an organ that was not drawn is no background."""

from __future__ import annotations

import numpy as np

from orgseg_training.tuning.labels import UnknownSets, label_image, overlap_order

SHAPE = (2, 3, 10)


def _box(start: int, stop: int) -> np.ndarray:
    mask = np.zeros(SHAPE, np.bool_)
    mask[..., start:stop] = True
    return mask


def test_background_is_plain_where_everything_is_known() -> None:
    sets = UnknownSets(2)
    labels, base = label_image(SHAPE, {1: _box(0, 3), 2: _box(5, 7)}, [1, 2], {}, sets)
    assert base == 0
    assert labels[0, 0].tolist() == [1, 1, 1, 0, 0, 2, 2, 0, 0, 0]
    assert sets.sets == []


def test_an_organ_unknown_everywhere_and_one_in_a_part() -> None:
    sets = UnknownSets(3)
    labels, base = label_image(SHAPE, {1: _box(0, 3)}, [1], {2: None, 3: _box(6, 10)}, sets)
    assert base == 4
    assert labels[0, 0].tolist() == [1, 1, 1, 4, 4, 4, 5, 5, 5, 5]
    assert sets.sets == [[2], [2, 3]]
    again, base = label_image(SHAPE, {1: _box(0, 3)}, [1], {3: None}, sets)
    assert base == 6
    assert again[0, 0, -1] == 6


def test_the_numbers_of_known_sets_stay(tmp_path: object) -> None:
    del tmp_path
    first = UnknownSets(2)
    assert [first.number(frozenset(one)) for one in ([2], [1, 2])] == [3, 4]
    again = UnknownSets(2, first.sets)
    assert again.number(frozenset({1, 2})) == 4
    assert again.number(frozenset({1})) == 5


def test_more_sets_than_numbers_become_all_organs() -> None:
    sets = UnknownSets(250)
    numbers = [sets.number(frozenset({n})) for n in range(1, 9)]
    assert numbers == [251, 252, 253, 254, 255, 255, 255, 255]
    assert sets.sets[-1] == list(range(1, 251))


def test_the_smaller_organ_keeps_an_overlap() -> None:
    order = overlap_order({1: [50.0, 60.0], 2: [5.0], 3: []})
    assert order == [3, 2, 1]
    labels, _ = label_image(SHAPE, {1: _box(0, 6), 2: _box(4, 8)}, order, {}, UnknownSets(3))
    assert labels[0, 0].tolist() == [1, 1, 1, 1, 2, 2, 2, 2, 0, 0]


def test_a_scan_without_contours_knows_what_is_outside_it() -> None:
    sets = UnknownSets(3)
    labels, base = label_image(SHAPE, {}, [1, 2, 3], {2: None}, sets)
    assert base == 4
    assert np.all(labels == 4), "background, or the organ of which nothing is known"
    assert sets.sets == [[2]]
