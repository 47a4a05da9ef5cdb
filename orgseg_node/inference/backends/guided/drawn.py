"""What a first pass drew, to compare it with a second one.

Two passes of a network that lay their tiles differently draw an organ that is there nearly alike. Where few
tiles drew something that more tiles would average away, they do not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.geometry import Box, box_out_of_part, enclosing_box
from orgseg_node.core.volume import Mask
from orgseg_node.inference.backends.guided.box_search import PartSearch, SearchedPart
from orgseg_node.inference.engine.label_planes import Labels

MIN_DICE: Final = 0.5
"""Dice of two passes below which what they drew is in doubt.

Of six organs that were there it was 0.88 to 0.96, of one that was not there 0.17."""

IsCrumb = Callable[[str, int], bool]
"""Whether a number of voxels is too small for an organ with a key."""


class FirstPass:
    """Where a first pass over the whole CT drew the organs of a network, one bit for each voxel.

    Parameters
    ----------
    search : the network and the CT
    """

    def __init__(self, search: PartSearch) -> None:
        self._labels, self._organs = list(search.organs), tuple(search.organs.values())
        self._columns = search.view.box.shape[2]
        self._planes: dict[int, NDArray[np.uint8]] = {}

    def add(self, k: int, labels: Labels) -> None:
        """Take a plane; see `PlaneCallback`."""
        drawn = np.isin(labels, self._labels)
        if drawn.any():
            self._planes[k] = np.packbits(drawn, axis=1)

    def agrees(self, second: SearchedPart, is_crumb: IsCrumb) -> bool:
        """Whether a second pass drew about the same, or neither more than a crumb.

        Parameters
        ----------
        second : with labels
        is_crumb : see `IsCrumb`
        """
        drawn, (slices, *inside) = self._second(second), second.part
        first = sum(int(np.count_nonzero(self._plane(k))) for k in self._planes)
        again = int(np.count_nonzero(drawn))
        if all(is_crumb(key, max(first, again)) for key in self._organs):
            return True
        both = sum(
            int(np.count_nonzero(self._plane(k)[tuple(inside)] & drawn[k - slices.start]))
            for k in self._planes
            if slices.start <= k < slices.stop
        )
        return 2 * both >= MIN_DICE * (first + again)

    def box_with(self, second: SearchedPart) -> Box:
        """The box around all that one of the passes drew, in voxels of the view; there must be something.

        Parameters
        ----------
        second : with labels
        """
        boxes = []
        for k in self._planes:
            here = Box.around(self._plane(k)[None])
            boxes.append(box_out_of_part(here, Box(start=(k, 0, 0), stop=(k + 1, *here.stop[1:]))))
        drawn = self._second(second)
        if drawn.any():
            starts = [part.start for part in second.part]
            stops = [part.stop for part in second.part]
            part = Box(start=(starts[0], starts[1], starts[2]), stop=(stops[0], stops[1], stops[2]))
            boxes.append(box_out_of_part(Box.around(drawn), part))
        return enclosing_box(boxes)

    def _plane(self, k: int) -> Mask:
        return np.unpackbits(self._planes[k], axis=1, count=self._columns).view(np.bool_)

    def _second(self, second: SearchedPart) -> Mask:
        if second.labels is None:
            raise ValueError("A pass without labels drew nothing.")
        return np.isin(second.labels, self._labels)
