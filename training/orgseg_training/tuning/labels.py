"""Label images of scans in which some organs are unknown, everywhere or in a part.

A voxel has the number of the organ drawn there, 0 for background, or the number of a set of organs of which
nothing is known there; see `nnunet.partial_loss`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.geometry import Shape
from orgseg_training.datasets.case import Mask

_HIGHEST = 255  # label images are uint8


class UnknownSets:
    """The sets of unknown organs that occur, each with a label number above those of the organs.

    Parameters
    ----------
    organs : number of organs
    sets : those known already, in the order of their numbers
    """

    def __init__(self, organs: int, sets: Iterable[Sequence[int]] = ()) -> None:
        self._organs = organs
        self._numbers: dict[frozenset[int], int] = {}
        for one in sets:
            self.number(frozenset(one))

    def number(self, unknown: frozenset[int]) -> int:
        """The label number of a set of organ numbers; 0 for the empty set, which is plain background.

        If there are more sets than label numbers, the last number stands for all organs: less is learned from
        such a voxel, but nothing wrong.
        """
        if not unknown:
            return 0
        if unknown not in self._numbers:
            number = self._organs + 1 + len(self._numbers)
            if number == _HIGHEST:
                unknown = frozenset(range(1, self._organs + 1))
            if number > _HIGHEST:
                return _HIGHEST
            self._numbers[unknown] = number
        return self._numbers[unknown]

    @property
    def sets(self) -> list[list[int]]:
        """The sets in the order of their numbers."""
        return [sorted(one) for one in self._numbers]


def label_image(
    shape: Shape,
    drawn: Mapping[int, Mask],
    precedence: Sequence[int],
    unknown: Mapping[int, Mask | None],
    sets: UnknownSets,
) -> tuple[NDArray[np.uint8], int]:
    """The label image of a scan.

    Parameters
    ----------
    shape : (K, J, I) of the scan
    drawn : (K, J, I) bool of each organ number that was drawn; none if only organs outside the scan are known
    precedence : organ numbers; where two overlap, the earlier one keeps the voxel
    unknown : organ numbers of which something is unknown, with the (K, J, I) bool voxels; None for all voxels
    sets : numbers of the sets of unknown organs

    Returns
    -------
    (K, J, I) labels, and the number that background has in this scan where no organ is unknown in a part only
    """
    everywhere = frozenset(number for number, mask in unknown.items() if mask is None)
    found = [everywhere]
    index = np.zeros(shape, np.uint16)
    for number, mask in sorted(unknown.items()):
        if mask is None:
            continue
        for one in np.unique(index[mask]):
            wider = found[int(one)] | {number}
            if wider not in found:
                found.append(wider)
            index[mask & (index == one)] = found.index(wider)
    numbers = np.array([sets.number(one) for one in found], np.uint8)
    labels: NDArray[np.uint8] = numbers[index]
    for number in reversed([number for number in precedence if number in drawn]):
        labels[drawn[number]] = number
    return labels, int(numbers[0])


def overlap_order(sizes: Mapping[int, Sequence[float]]) -> list[int]:
    """Organ numbers, the smaller organ first: where contours overlap, it keeps the voxel.

    Parameters
    ----------
    sizes : volumes of each organ in the scans
    """
    medians = {number: float(np.median(values)) if values else 0.0 for number, values in sizes.items()}
    return sorted(medians, key=lambda number: (medians[number], number))
