"""Mirrored patches in which left and right organs are exchanged: a mirrored right parotid is a left one."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class SideExchange:
    """Mirrors patches from left to right, with their labels.

    Parameters
    ----------
    partners : see `nnunet.sides.other_sides`
    unknown_sets : the organ numbers of each label above those of the organs
    axis : of the three axes of a patch, the one from right to left
    """

    def __init__(self, partners: Sequence[int], unknown_sets: Sequence[Sequence[int]], axis: int) -> None:
        organs = len(partners)
        numbers = [0, *partners]
        sets = [frozenset(one) for one in unknown_sets]
        mirrored = [frozenset(numbers[organ] for organ in one) for one in sets]
        sets += [one for one in dict.fromkeys(mirrored) if one not in sets]
        self.unknown_sets = [sorted(one) for one in sets]
        both_ways = [frozenset(numbers[organ] for organ in one) for one in sets]
        self._labels = torch.tensor([*numbers, *(1 + organs + sets.index(one) for one in both_ways)])
        self._axis = axis - 3  # of (channels, Z, Y, X)

    def apply(self, image: torch.Tensor, targets: Sequence[torch.Tensor]) -> None:
        """Mirror one patch in place.

        Parameters
        ----------
        image : (channels, Z, Y, X)
        targets : (1, Z, Y, X) labels, at each resolution
        """
        image.copy_(image.flip(self._axis))
        for target in targets:
            target.copy_(self._labels[target.flip(self._axis).long()])
