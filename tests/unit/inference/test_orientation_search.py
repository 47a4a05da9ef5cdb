"""What speaks for an orientation, and when the answer is clear."""

from __future__ import annotations

import numpy as np
import pytest

from orgseg_node.core.geometry import Grid
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap
from orgseg_node.inference.orientation_search import (
    ORIENTATIONS,
    OrientationScore,
    clear_orientation,
    score_orientation,
    search_orientation,
)

_GRID = Grid(shape=(40, 30, 60), spacing_mm=(4.0, 4.0, 4.0), origin_mm=(-120.0, -60.0, -80.0))
_KEYS = ("parotid_left", "parotid_right", "mandible", "spinal_cord")


def _found(table: OrganTable, *, flip: tuple[int, ...] = ()) -> LabelMap:
    """Parotids beside the mandible, the cord behind them."""
    labels = np.zeros(_GRID.shape, dtype=np.uint8)
    labels[20:26, 10:15, 45:50] = 1  # to the left: x increases
    labels[20:26, 10:15, 10:15] = 2
    labels[18:24, 4:8, 20:40] = 3
    labels[0:24, 20:22, 29:31] = 4
    organs = {number: table[key] for number, key in enumerate(_KEYS, start=1)}
    return LabelMap(grid=_GRID, labels=np.ascontiguousarray(np.flip(labels, flip)), organs=organs)


def test_organs_as_in_every_body_speak_for_an_orientation(organ_table: OrganTable) -> None:
    good = score_orientation("LPS", _found(organ_table))
    assert (good.organs, good.right, good.wrong) == (4, 2, 0)
    mirrored = score_orientation("RPS", _found(organ_table, flip=(2,)))
    assert (mirrored.organs, mirrored.right, mirrored.wrong) == (4, 1, 1)
    turned = score_orientation("RAS", _found(organ_table, flip=(1, 2)))
    assert (turned.right, turned.wrong) == (0, 2)


def test_nothing_found_speaks_for_nothing(organ_table: OrganTable) -> None:
    nothing = LabelMap(
        grid=_GRID, labels=np.zeros(_GRID.shape, dtype=np.uint8), organs=_found(organ_table).organs
    )
    empty = score_orientation("LPS", nothing)
    assert (empty.organs, empty.right, empty.wrong, empty.points) == (0, 0, 0, 0)
    assert clear_orientation((empty,)) is None


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([(7, 4, 0), (5, 1, 1)], "A"),
        ([(7, 4, 0), (7, 3, 0)], None),  # too near
        ([(7, 4, 1), (2, 0, 0)], None),  # anatomy contradicts it
        ([(3, 0, 0), (0, 0, 0)], None),  # nothing says where left is
    ],
)
def test_an_answer_is_clear_or_there_is_none(
    scores: list[tuple[int, int, int]], expected: str | None
) -> None:
    made = [
        OrientationScore(orientation=name, organs=organs, right=right, wrong=wrong)
        for name, (organs, right, wrong) in zip("AB", scores, strict=True)
    ]
    assert clear_orientation(made) == expected


def test_all_48_orientations_are_tried_and_the_likeliest_comes_first(organ_table: OrganTable) -> None:
    tried: list[str] = []

    def run(orientation: str) -> LabelMap:
        tried.append(orientation)
        return _found(organ_table, flip=() if orientation == "PSR" else (1, 2))

    scores = search_orientation(run)
    assert len(set(tried)) == len(ORIENTATIONS) == 48
    assert scores[0].orientation == "PSR"
    assert clear_orientation(scores) == "PSR"
