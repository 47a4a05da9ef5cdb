"""Voxels claimed by several organs: drawn before predicted, then by rank; every conflict is listed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from orgseg_training.experiment.merge import merge_masks

ORGANS = ("aorta", "liver", "spleen")
RANKS = {"aorta": 0.9, "liver": 0.8, "spleen": 0.7}


def _mask(*places: int) -> np.ndarray:
    mask = np.zeros((1, 1, 6), bool)
    mask[0, 0, list(places)] = True
    return mask


def test_what_was_drawn_beats_what_was_predicted_whatever_the_rank() -> None:
    labels, conflicts = merge_masks(ORGANS, {"spleen": _mask(0, 1)}, {"aorta": _mask(1, 2)}, RANKS)
    assert labels.ravel().tolist() == [3, 3, 1, 0, 0, 0]
    (one,) = conflicts
    assert (one.winner, one.loser, one.winner_drawn, one.loser_drawn, one.voxels) == (
        "spleen", "aorta", True, False, 1,
    )  # fmt: skip


def test_among_predicted_organs_the_higher_rank_gets_the_voxel() -> None:
    labels, _ = merge_masks(
        ORGANS, {}, {"liver": _mask(0, 1, 2), "aorta": _mask(2, 3), "spleen": _mask(3)}, RANKS
    )
    assert labels.ravel().tolist() == [2, 2, 1, 1, 0, 0]


def test_the_order_of_the_arguments_changes_nothing() -> None:
    one = merge_masks(ORGANS, {}, {"liver": _mask(0), "aorta": _mask(0)}, RANKS)[0]
    other = merge_masks(ORGANS, {}, {"aorta": _mask(0), "liver": _mask(0)}, RANKS)[0]
    assert np.array_equal(one, other)


def test_an_organ_is_drawn_or_predicted_and_not_both() -> None:
    with pytest.raises(ValueError, match="liver"):
        merge_masks(ORGANS, {"liver": _mask(0)}, {"liver": _mask(1)}, RANKS)


_MASKS = arrays(bool, (2, 3, 4))


@given(st.fixed_dictionaries(dict.fromkeys(ORGANS, _MASKS)), st.sets(st.sampled_from(ORGANS)))
def test_no_claimed_voxel_is_lost_and_every_lost_claim_is_counted(
    masks: dict[str, np.ndarray], drawn: set[str]
) -> None:
    given_drawn = {organ: masks[organ] for organ in drawn}
    predicted = {organ: mask for organ, mask in masks.items() if organ not in drawn}
    labels, conflicts = merge_masks(ORGANS, given_drawn, predicted, RANKS)
    claimed = np.logical_or.reduce(list(masks.values()))
    assert np.array_equal(labels > 0, claimed)
    for number, organ in enumerate(ORGANS, 1):
        kept = int((labels == number).sum())
        lost = sum(conflict.voxels for conflict in conflicts if conflict.loser == organ)
        assert kept + lost == int(masks[organ].sum())
