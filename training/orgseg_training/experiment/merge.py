"""One label for each voxel that several organs claim, by the rule of the study, and a list of conflicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orgseg_training.datasets.case import Mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Voxels that two organs claimed.

    Attributes
    ----------
    winner, loser : organs
    winner_drawn, loser_drawn : whether it was drawn, else it was predicted
    voxels : number of voxels
    """

    winner: str
    loser: str
    winner_drawn: bool
    loser_drawn: bool
    voxels: int


def merge_masks(
    organs: Sequence[str],
    drawn: Mapping[str, Mask],
    predicted: Mapping[str, Mask],
    ranks: Mapping[str, float],
) -> tuple[NDArray[np.uint8], tuple[Conflict, ...]]:
    """Put the organs of a scan into one label image.

    A drawn organ takes a voxel before a predicted one; of two drawn or two predicted organs the one with the
    higher Dice in the cross-validation of strategy 1, as in the study.

    Parameters
    ----------
    organs : label number = position in this list, from 1
    drawn, predicted : (K, J, I) bool by organ; an organ that was drawn has no prediction
    ranks : Dice by organ

    Returns
    -------
    (K, J, I) labels, and every conflict.
    """
    both = sorted(set(drawn) & set(predicted))
    if both:
        raise ValueError(f"Drawn and predicted: {', '.join(both)}.")
    masks = {**drawn, **predicted}
    shape = next(iter(masks.values())).shape
    labels = np.zeros(shape, np.uint8)
    owner = dict(enumerate(organs, 1))
    numbers = {organ: number for number, organ in owner.items()}
    conflicts = []
    # in the order of precedence; later organs get only free voxels
    order = sorted(masks, key=lambda organ: (organ not in drawn, -ranks.get(organ, 0.0), organ))
    for organ in order:
        taken = labels[masks[organ]]
        counts = np.bincount(taken, minlength=len(organs) + 1)
        conflicts += [
            Conflict(
                winner=owner[number],
                loser=organ,
                winner_drawn=owner[number] in drawn,
                loser_drawn=organ in drawn,
                voxels=int(counts[number]),
            )
            for number in map(int, np.flatnonzero(counts))
            if number
        ]
        labels[masks[organ] & (labels == 0)] = numbers[organ]
    return labels, tuple(conflicts)
