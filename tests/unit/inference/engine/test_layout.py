"""Every voxel of a box is seen with full context, wherever the box lies, however large it is."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orgseg_node.core.geometry import Box, Shape
from orgseg_node.inference.engine.layout import Layout, TileWindow, lay_tiles
from orgseg_node.inference.engine.tiles import Tiling


@dataclass(frozen=True, kw_only=True)
class _Case:
    shape: Shape
    patch: Shape
    box: Box
    step: float

    @property
    def whole(self) -> Tiling:
        return Tiling.covering(self.shape, self.patch, self.step)

    def laid(self, layout: Layout) -> TileWindow:
        return lay_tiles(self.shape, self.patch, self.box, layout, self.whole)


@st.composite
def cases(draw: st.DrawFn) -> _Case:
    shape, patch, start, stop = [], [], [], []
    for _ in range(3):
        size = draw(st.integers(1, 90))
        first = draw(st.integers(0, size - 1))
        shape.append(size)
        patch.append(draw(st.integers(1, 32)))
        start.append(first)
        stop.append(draw(st.integers(first + 1, size)))
    a, b, c = shape
    p, q, r = patch
    return _Case(
        shape=(a, b, c),
        patch=(p, q, r),
        box=Box(start=(start[0], start[1], start[2]), stop=(stop[0], stop[1], stop[2])),
        step=draw(st.sampled_from([0.3, 0.5, 1.0])),
    )


def _absolute(window: TileWindow, axis: int) -> list[int]:
    return [window.covered.start[axis] + start for start in window.tiling.starts[axis]]


def _context(voxel: int, start: int, size: int, tile: int) -> int:
    """Voxels between a voxel and the nearer border of a tile; a border of the image is none."""
    far = size + tile
    before = far if start == 0 else voxel - start
    behind = far if start + tile >= size else start + tile - 1 - voxel
    return min(before, behind)


@settings(deadline=None)
@given(cases(), st.sampled_from([Layout.FEW, Layout.ONCE]))
def test_each_voxel_of_the_box_is_seen_with_a_quarter_or_eighth_of_a_tile_around_it(
    case: _Case, layout: Layout
) -> None:
    window, part = case.laid(layout), 8 if layout is Layout.FEW else 4
    for axis, (size, tile) in enumerate(zip(case.shape, case.patch, strict=True)):
        starts = _absolute(window, axis)
        first, stop = window.inner.start[axis], window.inner.stop[axis]
        assert first <= case.box.start[axis]
        assert case.box.stop[axis] <= stop
        for voxel in range(first, stop):
            seen = [start for start in starts if _context(voxel, start, size, tile) >= tile // part]
            assert [start for start in seen if start <= voxel < start + tile], (axis, voxel, starts)


@settings(deadline=None)
@given(cases(), st.sampled_from(list(Layout)))
def test_tiles_lie_in_the_image_and_cover_what_is_labelled(case: _Case, layout: Layout) -> None:
    window = case.laid(layout)
    assert window.tiling.shape == window.covered.shape
    assert window.tiles == np.prod([len(starts) for starts in window.tiling.starts])
    for axis, (size, tile) in enumerate(zip(case.shape, case.patch, strict=True)):
        starts = _absolute(window, axis)
        assert starts == sorted(starts)
        assert layout is Layout.NNUNET or len(set(starts)) == len(starts)  # nnU-Net repeats thin tiles
        assert starts[0] == window.covered.start[axis]
        assert starts[0] >= 0
        assert starts[-1] + tile <= max(size, tile)
        assert window.covered.stop[axis] == min(starts[-1] + tile, size)
        assert all(b - a <= tile for a, b in itertools.pairwise(starts)), "no gap"
        assert window.covered.start[axis] <= window.inner.start[axis]
        assert window.inner.stop[axis] <= window.covered.stop[axis]
        assert window.taken.start[axis] == window.inner.start[axis] - window.covered.start[axis]


@settings(deadline=None)
@given(cases())
def test_nnunets_tiles_are_all_that_reach_what_is_labelled(case: _Case) -> None:
    window = case.laid(Layout.NNUNET)
    for axis, tile in enumerate(case.patch):
        starts = _absolute(window, axis)
        assert set(starts) <= set(case.whole.starts[axis])
        first, stop = window.inner.start[axis], window.inner.stop[axis]
        assert first <= case.box.start[axis]
        assert case.box.stop[axis] <= stop
        assert starts == [s for s in case.whole.starts[axis] if s < stop and s + tile > first]


@pytest.mark.parametrize(
    ("box", "layout", "tiles"),
    [
        ((40, 56), Layout.ONCE, 1),
        ((40, 57), Layout.ONCE, 2),
        ((40, 72), Layout.ONCE, 2),
        ((0, 24), Layout.ONCE, 1),
        ((0, 25), Layout.ONCE, 2),
        ((76, 100), Layout.ONCE, 1),
        ((40, 64), Layout.FEW, 1),
        ((40, 65), Layout.FEW, 2),
    ],
)
def test_a_box_takes_as_few_tiles_as_its_length_needs(
    box: tuple[int, int], layout: Layout, tiles: int
) -> None:
    shape, patch = (100, 8, 8), (32, 8, 8)
    place = Box(start=(box[0], 0, 0), stop=(box[1], 8, 8))
    window = lay_tiles(shape, patch, place, layout, Tiling.covering(shape, patch, 0.5))
    assert window.tiles == tiles
