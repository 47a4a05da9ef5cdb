"""An organ that the guide suspects inside another one is left out only if nothing can be lost by it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray

from orgseg_node.core.boxes import Boxes
from orgseg_node.core.geometry import Box
from orgseg_node.inference.backends.guided.explained import explaining_ranks, unexplained
from orgseg_node.inference.predictor import GuidedOutcome
from orgseg_node.organ_table import organ_table
from tests.support.models.organ_bench import PLACES, OrgansInCt

_GOOD = {key: key for key in PLACES}
_WITHOUT = {key: key for key in PLACES if key != "esophagus"}
_LOWEST = ("esophagus", *_WITHOUT)
_HIGHEST = (*_WITHOUT, "esophagus")


def test_what_lies_in_other_organs_that_their_networks_confirmed_needs_no_tile() -> None:
    organs = OrgansInCt(shown=tuple(_WITHOUT), ranks=_LOWEST)
    found, rows = organs.guided(_GOOD)
    assert (found == organs.unguided()).all()
    row = rows["esophagus"]
    assert (row.outcome, row.tiles, row.sparse) == (GuidedOutcome.EXPLAINED, 0, None)
    found, rows = organs.guided(_GOOD, explained=False)
    assert (found == organs.unguided()).all()
    assert rows["esophagus"].outcome in {GuidedOutcome.REFUTED, GuidedOutcome.MISSED}
    assert rows["esophagus"].tiles > 0


@pytest.mark.parametrize(
    ("shown", "ranks"), [(tuple(PLACES), _LOWEST), (tuple(_WITHOUT), _LOWEST), (tuple(PLACES), _HIGHEST)]
)
@pytest.mark.parametrize(
    "changed",
    [
        {"parotid_left": "parotid_right", "parotid_right": "parotid_left"},
        {"parotid_right": "parotid_left"},  # one side named for both
        {"parotid_left": "parotid_right"},
        {"esophagus": "brainstem", "brainstem": "esophagus"},
        {"esophagus": "brainstem"},
        {"esophagus": "mandible"},
        {"mandible": "esophagus"},
        dict(zip(PLACES, [*list(PLACES)[1:], "parotid_right"], strict=True)),
    ],
)
def test_no_organ_is_lost_by_the_names_of_a_guide(
    changed: dict[str, str], shown: tuple[str, ...], ranks: tuple[str, ...]
) -> None:
    found, _ = OrgansInCt(shown=shown, ranks=ranks).guided(_GOOD | changed)
    assert (found == _unguided(shown, ranks)).all()


@pytest.mark.parametrize("called", ["", "mandible", "esophagus"])
def test_no_organ_is_lost_that_a_guide_does_not_know(called: str) -> None:
    for shown in (tuple(PLACES), tuple(_WITHOUT)):
        names = {key: key for key in PLACES if key != "brainstem"} | ({"brainstem": called} if called else {})
        found, _ = OrgansInCt(shown=shown, ranks=_LOWEST).guided(names, unknown="brainstem")
        assert (found == _unguided(shown, _LOWEST)).all()


@lru_cache
def _unguided(shown: tuple[str, ...], ranks: tuple[str, ...]) -> NDArray[np.uint8]:
    return OrgansInCt(shown=shown, ranks=ranks).unguided()


def test_an_organ_under_the_name_of_the_other_side_is_searched_where_its_network_denies_it() -> None:
    """The network of the left parotid confirms the guide, but for the right one."""
    organs = OrgansInCt(ranks=("parotid_right", *(key for key in PLACES if key != "parotid_right")))
    _, rows = organs.guided(_GOOD | {"parotid_right": "parotid_left"})
    assert rows["parotid_left"].outcome is GuidedOutcome.BOX
    assert rows["parotid_right"].outcome is GuidedOutcome.SUSPECTED


@pytest.mark.parametrize("ranks", [_LOWEST, _HIGHEST])
def test_a_part_of_a_larger_organ_is_found_if_it_keeps_its_voxels(ranks: tuple[str, ...]) -> None:
    """As the brainstem in the brain: the network of the larger organ labels both, and so does the guide."""
    organs = OrgansInCt(mistakes={"brainstem": ["esophagus"]}, ranks=ranks)
    found, rows = organs.guided(_GOOD | {"esophagus": "brainstem"})
    assert (found == organs.unguided()).all()
    assert rows["brainstem"].outcome is GuidedOutcome.BOX
    assert (rows["esophagus"].outcome is GuidedOutcome.EXPLAINED) == (ranks == _LOWEST)
    number = list(PLACES).index("esophagus") + 1
    assert bool((found == number).any()) == (ranks == _HIGHEST)


@pytest.mark.parametrize(("labelled", "left"), [(4, 0), (3, 0), (2, 1), (0, 1)])
def test_a_voxel_is_explained_by_its_larger_part(labelled: int, left: int) -> None:
    """The voxel of the guide is 4 voxels of the CT long, and is interpolated to 2 more on each side."""
    suspected = Boxes.of([Box(start=(0, 0, 2), stop=(1, 1, 10))])
    guide, merged = np.zeros((1, 1, 12), dtype=np.uint8), np.zeros((1, 1, 12), dtype=np.uint8)
    guide[:], merged[0, 0, : 4 + labelled] = 3, 7
    ranks = np.zeros(256, dtype=np.uint8)
    ranks[3] = 7
    assert len(unexplained(suspected, guide, merged, ranks)) == left
    assert len(unexplained(suspected, guide + 1, merged, ranks)) == 1, "the guide sees another organ there"
    assert len(unexplained(suspected, guide, merged * 0 + 6, ranks)) == 1, "another organ was found there"


def test_only_confirmed_organs_of_higher_priority_explain() -> None:
    keys = ("liver", "spleen", "heart", "esophagus")
    organs = {number: organ_table()[key] for number, key in enumerate(keys, start=1)}
    ranks = {"liver": 4, "spleen": 1, "heart": 3, "esophagus": 2}
    table = explaining_ranks("esophagus", organs, {"liver", "spleen", "esophagus"}, ranks)
    assert table[:5].tolist() == [0, 4, 0, 0, 0]
    assert not table[5:].any()
