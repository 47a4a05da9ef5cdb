"""A network that is run only in a box of the CT, which grows as long as something reaches its border."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from orgseg_node.core.geometry import Box, Shape, Vector
from orgseg_node.core.volume import Mask
from orgseg_node.inference.backends.network_run import LoadedNetwork, RunLimits, run_loaded
from orgseg_node.inference.backends.network_view import NetworkView
from orgseg_node.inference.engine.label_planes import (
    Labels,
    PlaneCallback,
    axes_within,
    interpolation_axes,
)
from orgseg_node.inference.engine.layout import Layout, TileWindow, lay_tiles
from orgseg_node.inference.engine.run import RunSummary, number_of_tiles
from orgseg_node.inference.engine.tiles import Tiling, needed_tiles
from orgseg_node.inference.engine.working import Regrid
from orgseg_node.inference.predictor import ProgressCallback

Part = tuple[slice, slice, slice]
"""A part of the CT as a network sees it."""

Touched = tuple[tuple[bool, bool], tuple[bool, bool], tuple[bool, bool]]
"""For each axis, whether something reaches the first and the last plane."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchedPart:
    """What a network found in a part of the CT.

    Attributes
    ----------
    labels : (K, J, I) labels of the network in the part; None if they are no use, so that the network must be
        run on the whole CT
    part : that part, in voxels of the view
    widened : whether the box was searched again because something reached its border
    summary : of the run whose labels these are; None if there are no labels
    tiles : number of tiles of all runs
    network_s : seconds that the network computed in all runs
    """

    labels: Labels | None
    part: Part
    widened: bool
    summary: RunSummary | None
    tiles: int
    network_s: float


NOTHING_SEARCHED: Final = SearchedPart(
    labels=None, part=(slice(0), slice(0), slice(0)), widened=False, summary=None, tiles=0, network_s=0.0
)
"""No part, by no tile."""


def nothing_there() -> SearchedPart:
    """The result where no tile is needed to know that there is no organ."""
    summary = RunSummary(fold_agreement=None, tiles=0, skipped=0, interpolated=0, network_s=0.0)
    return replace(NOTHING_SEARCHED, labels=np.zeros((0, 0, 0), dtype=np.uint16), summary=summary)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PartSearch:
    """A network, and the CT that it searches in parts.

    Attributes
    ----------
    network : see `LoadedNetwork`
    view : the CT as it sees it
    limits : tiles and memory
    layout : how tiles are laid over a box
    margin_mm : margin around a box
    region : (K, J, I) bool on the grid of the view; see `LabellingTask`
    on_progress : called after each tile; may raise to stop
    """

    network: LoadedNetwork
    view: NetworkView
    limits: RunLimits
    layout: Layout
    margin_mm: float
    region: Mask | None
    on_progress: ProgressCallback

    @property
    def organs(self) -> dict[int, str]:
        """Organ key of each label number of the network."""
        return dict(self.network.part.labels)

    @property
    def to_ct(self) -> Regrid:
        """Resampling from the working grid to the view."""
        return self.network.plan.regrid(self.view.working.shape, self.view.box.shape, self.view.spacing_mm)

    @property
    def whole_tiles(self) -> int:
        """Number of tiles of a run on the whole CT."""
        return self.needed_tiles(self.limits.tiling(self.network, self.view))

    def needed_tiles(self, tiling: Tiling) -> int:
        """Number of tiles over the whole CT that the region needs."""
        if self.region is None:
            return number_of_tiles(tiling)
        return int(needed_tiles(tiling, self.region, interpolation_axes(self.to_ct)).sum())

    def run(self, window: TileWindow) -> tuple[SearchedPart, Mask]:
        """Run the network on the tiles of a window.

        Returns
        -------
        what it found, and where an organ is, (K, J, I) bool in the part that was searched
        """
        part, _ = axes_within(self.to_ct, window.inner)
        labels = np.zeros([s.stop - s.start for s in part], dtype=np.uint16)
        summary = run_loaded(
            self.network,
            self.view,
            self.limits,
            self.on_progress,
            _store_in(labels),
            region=self.region,
            window=window,
        )
        found = SearchedPart(
            labels=labels,
            part=part,
            widened=False,
            summary=summary,
            tiles=summary.tiles,
            network_s=summary.network_s,
        )
        return found, np.isin(labels, list(self.organs))

    def search_box(self, box: Box, budget: int) -> SearchedPart:
        """Search a box, and more as long as an organ reaches the border of what was labelled.

        Parameters
        ----------
        box : in voxels of the view
        budget : number of tiles; a search that needs as many is given up, and one of a widened box at half as
            many, since a box that was wrong may be wrong again
        """
        shape, patch = self.view.working.shape, self.network.plan.patch
        tiling = self.limits.tiling(self.network, self.view)
        wanted = working_box(box, self.to_ct, self.view.spacing_mm, self.margin_mm)
        tiles, network_s, widened = 0, 0.0, False
        while True:
            window = lay_tiles(shape, patch, wanted, self.layout, tiling)
            if tiles + window.tiles >= (budget / 2 if widened else budget):
                return replace(NOTHING_SEARCHED, tiles=tiles, network_s=network_s)
            found, organs = self.run(window)
            tiles += found.tiles
            network_s += found.network_s
            touched = touched_borders(organs, found.part, self.view.box.shape)
            if not any(first or last for first, last in touched):
                return replace(found, widened=widened, tiles=tiles, network_s=network_s)
            wanted, widened = widen(window, touched, patch, shape), True


def working_box(box: Box, to_ct: Regrid, spacing_mm: Vector, margin_mm: float) -> Box:
    """The working voxels from which the voxels of a box of the CT are interpolated, with a margin.

    Parameters
    ----------
    box : in voxels of the cropped CT, axes of the network
    to_ct : resampling from the working grid to the cropped CT
    spacing_mm : of the CT
    margin_mm : rounded up to whole voxels of the CT
    """
    starts, stops = [], []
    for axis, first, stop, size, mm in zip(
        interpolation_axes(to_ct), box.start, box.stop, to_ct.target, spacing_mm, strict=True
    ):
        margin = int(np.ceil(margin_mm / mm))
        starts.append(int(axis.low[max(first - margin, 0)]))
        stops.append(int(axis.high[min(stop + margin, size) - 1]) + 1)
    return Box(start=_three(starts), stop=_three(stops))


def touched_borders(found: Mask, part: Part, shape: Shape) -> Touched:
    """On which sides something reaches the border of a part of the CT; borders of the CT itself do not count.

    Parameters
    ----------
    found : (K, J, I) bool, in the part
    part : of the CT
    shape : of the CT
    """
    sides = []
    for axis, (where, size) in enumerate(zip(part, shape, strict=True)):
        planes = np.moveaxis(found, axis, 0)
        sides.append(
            (where.start > 0 and bool(planes[0].any()), where.stop < size and bool(planes[-1].any()))
        )
    return sides[0], sides[1], sides[2]


def widen(window: TileWindow, touched: Touched, patch: Shape, shape: Shape) -> Box:
    """The box of the next search: half a tile more on each side that the organ reaches.

    Parameters
    ----------
    window : of this search
    touched : the sides that the organ reaches
    patch : of a tile
    shape : of the working volume
    """
    inner = window.inner
    starts = [
        max(first - max(tile // 2, 1), 0) if low else first
        for first, tile, (low, _) in zip(inner.start, patch, touched, strict=True)
    ]
    stops = [
        min(stop + max(tile // 2, 1), size) if high else stop
        for stop, tile, size, (_, high) in zip(inner.stop, patch, shape, touched, strict=True)
    ]
    return Box(start=_three(starts), stop=_three(stops))


class Rising:
    """Progress that does not fall when something is searched again.

    Parameters
    ----------
    on_progress : called with the highest progress so far
    """

    def __init__(self, on_progress: ProgressCallback) -> None:
        self._on_progress, self._highest = on_progress, 0.0

    def __call__(self, part: float, text: str) -> None:
        """Report progress; see `ProgressCallback`."""
        self._highest = max(self._highest, part)
        self._on_progress(self._highest, text)


def _store_in(labels: Labels) -> PlaneCallback:
    def store(k: int, plane: Labels) -> None:
        labels[k] = plane

    return store


def _three(values: Sequence[int]) -> Shape:
    a, b, c = values
    return a, b, c
