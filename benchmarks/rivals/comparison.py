"""How far two label maps of the same organs differ."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far two label maps differ.

    Attributes
    ----------
    voxels : of the CT
    labelled : voxels that one of them labels
    differ : voxels whose labels differ
    differ_known : those among them where the other one has no label that the import left out
    organs : number of organs that both or one of them have
    dice_mean, dice_lowest : over these organs
    """

    voxels: int
    labelled: int
    differ: int
    differ_known: int
    organs: int
    dice_mean: float
    dice_lowest: float

    def __str__(self) -> str:
        share = self.differ / max(self.labelled, 1)
        return (
            f"{self.differ} of {self.voxels} voxels differ ({share:.2%} of {self.labelled} labelled), "
            f"{self.differ_known} of them not by a label that was left out; Dice of {self.organs} organs: "
            f"mean {self.dice_mean:.4f}, lowest {self.dice_lowest:.4f}"
        )


def compare(one: NDArray[np.uint8], other: NDArray[np.uint8], known: NDArray[np.bool_]) -> Difference:
    """Compare two label maps with the same numbers.

    Parameters
    ----------
    one, other : (K, J, I) number of the organ of each voxel, 0 for none
    known : (K, J, I) where the other one has no label that the import left out
    """
    differ = one != other
    counts = [np.bincount(each.ravel(), minlength=256)[1:] for each in (one, other, one[~differ])]
    there = (counts[0] + counts[1]) > 0
    dice = (2 * counts[2] / np.maximum(counts[0] + counts[1], 1))[there]
    return Difference(
        voxels=one.size,
        labelled=int(np.count_nonzero((one > 0) | (other > 0))),
        differ=int(np.count_nonzero(differ)),
        differ_known=int(np.count_nonzero(differ & known)),
        organs=int(there.sum()),
        dice_mean=statistics.fmean(dice) if dice.size else 1.0,
        dice_lowest=float(dice.min()) if dice.size else 1.0,
    )
