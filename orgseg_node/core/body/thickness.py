"""How thick an object is: where both of its surfaces lie in air, they show it.

A board and the tissue that lies on it may have the same HU, and the tissue may be as even as the board. But
beside the patient the board lies in air on both sides, and below the patient it is as thick as there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.core.body.blocks import FACES, Slices
from orgseg_node.core.geometry import Box
from orgseg_node.core.volume import Mask

_SEEN: Final = 0.2  # smallest fraction of the lines inward from a surface that must end in air
_USUAL: Final = 0.9  # fraction of these lines that are not longer than the object is thick

Labels = NDArray[np.int32]


def as_thick_as_seen(
    regions: Mask, air: Mask, faces: Iterable[tuple[Slices, Mask]], deep: int
) -> tuple[Mask, Mask]:
    """Regions without what lies deeper below their surface than they are thick.

    Parameters
    ----------
    regions : (K, J, I) bool
    air : (K, J, I) bool
    faces : for each direction in the slice an index into the regions, and the blocks there with such a face
    deep : the depth in blocks where no thickness is seen

    Returns
    -------
    the regions, and the blocks that lie beyond their thickness
    """
    within, beyond = np.zeros_like(regions), np.zeros_like(regions)
    if not regions.any():
        return regions, beyond
    box = Box.around(regions, margin=(0, 2, 2)).slices
    labels, count = ndimage.label(regions[box], FACES)
    for here, face in faces:
        start = np.zeros_like(regions)
        start[here] = face
        axis = 1 if here[1] != slice(None) else 2
        inward = 1 if here[axis].start == 1 else -1
        numbers = np.moveaxis(labels, axis, 0)[::inward]
        around, first = (np.moveaxis(each, axis, 0)[::inward] for each in (air[box], start[box]))
        found = _inward(numbers, around, first, count, deep)
        for whole, part in zip((within, beyond), found, strict=True):
            view = np.moveaxis(whole[box], axis, 0)[::inward]
            view |= part
    beyond &= ~within
    return regions & ~beyond, beyond


def _inward(labels: Labels, air: Mask, start: Mask, count: int, deep: int) -> tuple[Mask, Mask]:
    """The blocks of regions that lie along the first axis below a surface, as deep as the region is thick.

    Parameters
    ----------
    labels : number of each block's region, 0 for none
    air : blocks of air
    start : blocks of the regions with a face towards smaller indices
    count : number of regions
    deep : the depth in blocks where no thickness is seen

    Returns
    -------
    these blocks, and those that lie deeper where a thickness is seen
    """
    lengths = np.zeros((count + 1, deep + 1), dtype=np.int64)  # lines that end in air, by region and length
    line = start
    for length in range(1, deep + 1):
        ends = line[:-1] & air[1:]
        lengths[:, length] = np.bincount(labels[:-1][ends], minlength=count + 1)
        line = _next(line) & (labels > 0)
    lines = np.bincount(labels[start], minlength=count + 1)
    seen = lengths.sum(axis=1)
    usual = (np.cumsum(lengths, axis=1) < _USUAL * seen[:, None]).sum(axis=1)
    is_seen = seen >= np.maximum(_SEEN * lines, 1)
    depth = np.where(is_seen, usual, deep)
    within, beyond = start.copy(), np.zeros_like(start)
    owner = np.where(start, labels, 0)
    for length in range(1, deep + 2):  # one more, since blocks around a region may belong to its object
        owner[1:], owner[0] = owner[:-1].copy(), 0
        is_deeper = depth[owner] <= length
        within |= (owner > 0) & (owner == labels) & ~is_deeper
        beyond |= (owner > 0) & is_seen[owner] & is_deeper
    return within, beyond


def _next(line: Mask) -> Mask:
    """The blocks one step farther along the first axis."""
    further = np.zeros_like(line)
    further[1:] = line[:-1]
    return further
