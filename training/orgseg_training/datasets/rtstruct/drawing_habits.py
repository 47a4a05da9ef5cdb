"""Habits of drawing: contours only on every second slice, and organs that are drawn only in part.

Slices between two contours of a habit are filled in. Slices beyond the end of an organ that was drawn in part
are unknown: the organ may go on there, so they are neither the organ nor background.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.core.organs import Organ
from orgseg_training.datasets.case import Mask

_LEAST_GAPS: Final = 3  # equal gaps one after the other are a habit, fewer an oversight
_LEAST_GAPS_IF_ALL: Final = 2  # of a small organ without any two contours on neighbouring slices
_WIDEST_GAP_MM: Final = 15.0
_AT_SCAN_END_MM: Final = 8.0
_SHORT: Final = 0.25  # of the shortest complete organ: then both ends are open


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledMask:
    """A mask without the gaps of a habit.

    Attributes
    ----------
    mask : (K, J, I) bool
    every : distance of the drawn slices in the habit, 1 if there is none
    filled : number of slices that were filled in
    """

    mask: Mask
    every: int
    filled: int


def fill_habit(mask: Mask, slice_mm: float) -> FilledMask:
    """Fill slices in between where contours are regularly drawn on every second, third ... slice.

    Parameters
    ----------
    mask : (K, J, I) bool
    slice_mm : distance of the slices
    """
    drawn = np.flatnonzero(mask.any(axis=(1, 2)))
    filled = 0
    every = 1
    made = mask
    for start, stop, step in _habits(np.diff(drawn)):
        if step * slice_mm > _WIDEST_GAP_MM:
            continue
        if made is mask:
            made = mask.copy()
        for below, above in zip(drawn[start:stop], drawn[start + 1 : stop + 1], strict=True):
            made[below + 1 : above] = _between(mask[below], mask[above], int(above - below))
            filled += int(above - below) - 1
        every = max(every, step)
    return FilledMask(mask=made, every=every, filled=filled)


def known_slices(mask: Mask, organ: Organ, slice_mm: float) -> tuple[int, int] | None:
    """The slices in which it is known where an organ is, if it was drawn only in part; else None.

    Parameters
    ----------
    mask : (K, J, I) bool, k from feet to head
    organ : of the organ table
    slice_mm : distance of the slices

    Returns
    -------
    First slice, and the slice after the last one.
    """
    drawn = np.flatnonzero(mask.any(axis=(1, 2)))
    if organ.length_mm is None or not drawn.size:
        return None
    count = mask.shape[0]
    first, last = int(drawn[0]), int(drawn[-1])
    length, shortest = (last - first + 1) * slice_mm, organ.length_mm[0]
    if length >= min(shortest, (count - 2) * slice_mm):
        return None
    both = not organ.open_end or organ.open_end == "both" or length < _SHORT * shortest
    feet_open = (both or organ.open_end == "feet") and first * slice_mm > _AT_SCAN_END_MM
    head_open = (both or organ.open_end == "head") and (count - 1 - last) * slice_mm > _AT_SCAN_END_MM
    if not organ.open_end and not (feet_open and head_open):
        return None  # the scan cuts the organ
    if not feet_open and not head_open:
        return None
    return (first if feet_open else 0, last + 1 if head_open else count)


def _habits(gaps: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """Runs of equal gaps of more than one slice: number of the first, number after the last, and the gap."""
    everywhere = gaps.size >= _LEAST_GAPS_IF_ALL and bool((gaps > 1).all())
    least = _LEAST_GAPS_IF_ALL if everywhere else _LEAST_GAPS
    place = 0
    for gap, members in groupby(gaps.tolist()):
        size = len(list(members))
        if gap > 1 and size >= least:
            yield place, place + size, int(gap)
        place += size


def _between(below: Mask, above: Mask, steps: int) -> Mask:
    """(steps - 1, J, I) slices between two contours, by their signed distances."""
    first, last = _signed_distance(below), _signed_distance(above)
    weights = (np.arange(1, steps) / steps)[:, None, None]
    inside: Mask = (1 - weights) * first + weights * last > 0
    return inside


def _signed_distance(mask: Mask) -> NDArray[np.float64]:
    """(J, I) distance to the outline in voxels, positive inside."""
    signed: NDArray[np.float64] = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    return signed
