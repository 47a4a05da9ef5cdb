"""Many boxes of voxels of one grid at once, as arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.geometry import Box, FloatArray, Shape

Numbers = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Boxes:
    """Blocks of voxels; each holds at least one.

    Attributes
    ----------
    start, stop : (N, 3) ``(k, j, i)`` of each box, inclusive and exclusive
    """

    start: Numbers
    stop: Numbers

    @classmethod
    def of(cls, boxes: Sequence[Box]) -> Boxes:
        """Single boxes together; at least one."""
        return cls(
            start=np.array([box.start for box in boxes]),
            stop=np.array([box.stop for box in boxes]),
        )

    @classmethod
    def joined(cls, several: Sequence[Boxes]) -> Boxes:
        """All boxes of several objects; at least one object."""
        return cls(
            start=np.concatenate([each.start for each in several]),
            stop=np.concatenate([each.stop for each in several]),
        )

    def __len__(self) -> int:
        return len(self.start)

    def enclosing(self) -> Box:
        """The smallest box around all of them; there must be one."""
        return Box(start=_three(self.start.min(axis=0)), stop=_three(self.stop.max(axis=0)))

    def select(self, kept: NDArray[np.bool_]) -> Boxes:
        """Some of them.

        Parameters
        ----------
        kept : (N,) bool
        """
        return Boxes(start=self.start[kept], stop=self.stop[kept])

    def in_part(self, part: Box) -> Boxes:
        """What of them lies in a part of the grid, in voxels of that part; without those outside."""
        first, last = (np.array(end, dtype=self.start.dtype) for end in (part.start, part.stop))
        clipped = Boxes(
            start=np.maximum(self.start, first) - first,
            stop=np.minimum(np.maximum(self.stop, first), last) - first,
        )
        return clipped.select(np.all(clipped.start < clipped.stop, axis=1))

    def out_of_part(self, part: Box) -> Boxes:
        """Boxes in voxels of a part of the grid, in voxels of the grid; see `box_out_of_part`."""
        first = np.array(part.start, dtype=self.start.dtype)
        return Boxes(start=self.start + first, stop=self.stop + first)

    def middle(self) -> Boxes:
        """The middle half of each along each axis, rounded to whole voxels; the middle one of three."""
        quarter = (self.stop - self.start + 1) // 4
        return Boxes(start=self.start + quarter, stop=self.stop - quarter)

    def share(self, holds: Callable[[Numbers, Numbers, Numbers], NDArray[np.bool_]]) -> FloatArray:
        """The share of the voxels of each for which something is true.

        Parameters
        ----------
        holds : gets voxels, (M,) k, j and i, and returns (M,) bool

        Returns
        -------
        (N,) float64
        """
        sizes = self.stop - self.start
        found = np.zeros(len(self))
        for offset in np.ndindex(*sizes.max(axis=0, initial=0)):
            inside = np.flatnonzero((sizes > offset).all(axis=1))
            at = self.start[inside] + np.array(offset, self.start.dtype)
            found[inside] += holds(at[:, 0], at[:, 1], at[:, 2])
        shares: FloatArray = found / sizes.prod(axis=1)
        return shares


def _three(values: Numbers) -> Shape:
    a, b, c = (int(n) for n in values)
    return a, b, c
