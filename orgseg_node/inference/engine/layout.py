"""Where the tiles lie that search one organ, and where they see it with full context.

The networks of nnU-Net see a voxel best near the middle of a tile. Its sliding window moves by half a tile,
so that each voxel is at least a quarter of a tile away from the border of some tile. The same is kept here:
the middle half of a tile is its core (with ``few`` the middle three quarters), the tiles are laid so that
their cores cover the box of the organ, and labels are taken only where cores are. At a border of the image,
where there is no more to see, a core ends with the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np

from orgseg_node.core.geometry import Box, Shape
from orgseg_node.inference.engine.tiles import Tiling

_Value = TypeVar("_Value")


class Layout(StrEnum):
    """How tiles are laid over the box of an organ, the cheapest first.

    ``few``: as ``once``, with cores of three quarters of a tile, so that most organs fit into one.
    ``once``: each voxel of the box is in at least one core along each axis, by as few tiles as possible.
    ``nnunet``: the tiles of nnU-Net's sliding window that reach into the box, so that the labels in it are
    those of a run over the whole image, to the voxel.
    """

    FEW = "few"
    ONCE = "once"
    NNUNET = "nnunet"


@dataclass(frozen=True, slots=True, kw_only=True)
class TileWindow:
    """The part of a working volume that some tiles cover, and the part of it in which labels are taken.

    Attributes
    ----------
    tiling : the tiles; its volume is the part of the working volume that they cover
    covered : that part, in voxels of the working volume
    inner : where labels are taken, in voxels of the working volume
    """

    tiling: Tiling
    covered: Box
    inner: Box

    @property
    def taken(self) -> Box:
        """Where labels are taken, in voxels of the covered part."""
        return Box(
            start=_three(a - b for a, b in zip(self.inner.start, self.covered.start, strict=True)),
            stop=_three(a - b for a, b in zip(self.inner.stop, self.covered.start, strict=True)),
        )

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return int(np.prod([len(starts) for starts in self.tiling.starts]))


def lay_tiles(shape: Shape, patch: Shape, box: Box, layout: Layout, whole: Tiling) -> TileWindow:
    """The tiles that see each voxel of a box with full context.

    Parameters
    ----------
    shape : of the working volume
    patch : of a tile
    box : in voxels of the working volume
    layout : see `Layout`
    whole : the tiles over the whole working volume, which ``nnunet`` takes a part of
    """
    rows = [
        _along(size, tile, (first, stop), layout, starts)
        for size, tile, first, stop, starts in zip(
            shape, patch, box.start, box.stop, whole.starts, strict=True
        )
    ]
    covered = Box(
        start=_three(row.starts[0] for row in rows),
        stop=_three(
            min(row.starts[-1] + tile, size) for row, tile, size in zip(rows, patch, shape, strict=True)
        ),
    )
    starts = _three(tuple(start - row.starts[0] for start in row.starts) for row in rows)
    return TileWindow(
        tiling=Tiling(shape=covered.shape, patch=patch, starts=starts),
        covered=covered,
        inner=Box(start=_three(row.first for row in rows), stop=_three(row.stop for row in rows)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """Tiles along one axis, and the voxels from ``first`` to ``stop`` in which labels are taken."""

    starts: tuple[int, ...]
    first: int
    stop: int


def _along(size: int, tile: int, box: tuple[int, int], layout: Layout, whole: Sequence[int]) -> _Row:
    if size <= tile:  # one tile, around which the image is padded
        return _Row(starts=(0,), first=0, stop=size)
    if layout == Layout.NNUNET:
        return _nnunet_row(size, tile, box, whole)
    context = tile // (8 if layout == Layout.FEW else 4)
    starts = _core_starts(size, tile, box, context)
    seen = np.zeros(size, dtype=bool)
    for start in starts:
        first, stop = _core(start, size, tile, context)
        seen[first:stop] = True
    unseen = np.flatnonzero(~seen)
    before, behind = unseen[unseen < box[0]], unseen[unseen >= box[1]]
    return _Row(
        starts=starts,
        first=int(before[-1]) + 1 if before.size else 0,
        stop=int(behind[0]) if behind.size else size,
    )


def _core(start: int, size: int, tile: int, context: int) -> tuple[int, int]:
    """The voxels that a tile sees with full context: its middle, and up to a border of the image."""
    return (0 if start == 0 else start + context, size if start + tile == size else start + tile - context)


def _core_starts(size: int, tile: int, box: tuple[int, int], context: int) -> tuple[int, ...]:
    core = tile - 2 * context
    last = size - tile
    low, high = (min(max(start, 0), last) for start in (box[0] - context, box[1] - tile + context))
    if high <= low:
        middle = (box[0] + box[1] - tile) // 2
        return (min(max(middle, 0), last),)
    steps = -(-(high - low) // max(core, 1))
    return tuple(int(n) for n in np.unique(np.round(np.linspace(low, high, steps + 1)).astype(int)))


def _nnunet_row(size: int, tile: int, box: tuple[int, int], whole: Sequence[int]) -> _Row:
    starts = tuple(start for start in whole if start < box[1] and start + tile > box[0])
    ends = [start + tile for start in whole if start + tile <= box[0]]
    begins = [start for start in whole if start >= box[1]]
    return _Row(starts=starts, first=max(ends, default=0), stop=min(begins, default=size))


def _three(values: Iterable[_Value]) -> tuple[_Value, _Value, _Value]:
    a, b, c = values
    return a, b, c
