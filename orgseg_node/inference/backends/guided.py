"""Networks run only where the guide found their organs, without losing what lies beyond.

The box of an organ is widened and searched again as long as the organ reaches the border of what was
labelled. A network is run on the whole CT after all if the guide does not know or did not find its organ, if
what the guide found cannot be the organ (its volume, its place among the other organs), if the network finds
nothing in the box, or something that cannot be the organ, or if it finds the organ elsewhere than the guide:
then one of them is wrong, and the box proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.core.anatomy.possible import is_possible_volume
from orgseg_node.core.geometry import Box, Shape, Vector
from orgseg_node.core.volume import LabelMap, Mask
from orgseg_node.inference.backends.network_run import LoadedNetwork, RunLimits, run_loaded
from orgseg_node.inference.backends.network_view import NetworkView
from orgseg_node.inference.engine.label_planes import Labels, axes_within, interpolation_axes
from orgseg_node.inference.engine.layout import Layout, TileWindow, lay_tiles
from orgseg_node.inference.engine.run import PlaneCallback, RunSummary, number_of_tiles
from orgseg_node.inference.engine.tiles import Tiling, needed_tiles
from orgseg_node.inference.engine.working import Regrid
from orgseg_node.inference.predictor import GuidedNetwork, GuidedOutcome, ProgressCallback
from orgseg_node.inference.preparing import PreparedCt

MIN_AGREEMENT: Final = 0.25
"""Dice of the organ with that of the guide below which one of them is taken to be wrong.

Correct ones differ by the coarser grid of the guide, by far less: thin organs have a Dice of 0.5 and more."""

CRUMB: Final = 0.02
"""Pieces below this share of the largest piece that the guide found do not enlarge the box of an organ.

Two crumbs of 0.01 ml doubled the box of a mandible of 46 ml, and took four tiles instead of one."""

Touched = tuple[tuple[bool, bool], tuple[bool, bool], tuple[bool, bool]]
"""For each axis, whether something reaches the first and the last plane."""


@dataclass(slots=True, kw_only=True, eq=False)
class GuidePlaces:
    """Where the guide found the organs, and how their networks are run there.

    Attributes
    ----------
    guide : its name and version
    found : labels of the guide on the grid of the original CT
    trusted : keys of the organs that can be what the guide found, see `trusted_organs`
    tiles : number of tiles that the guide computed
    prepared : the CT as it is prepared for the networks
    layout, margin_mm : how tiles are laid over the box of an organ, and its margin
    kept : the boxes of the organs in the view that was asked for last
    """

    guide: str
    found: LabelMap
    trusted: frozenset[str]
    tiles: int
    prepared: PreparedCt
    layout: Layout
    margin_mm: float
    kept: tuple[NetworkView, dict[int, Box]] | None = None

    def organs_in(
        self, view: NetworkView, organs: Mapping[int, str]
    ) -> dict[int, GuidedOrgan] | GuidedOutcome:
        """The organs of a network as the guide found them.

        Parameters
        ----------
        view : the CT as the network sees it
        organs : organ key of each label number of the network

        Returns
        -------
        for each label number of the network; or why one of the organs has no box
        """
        numbers = {organ.key: number for number, organ in self.found.organs.items()}
        if not numbers.keys() >= set(organs.values()):
            return GuidedOutcome.UNKNOWN
        labels = view.of(self.prepared.reorientation.apply(self.found.labels)[self.prepared.box.slices])
        boxes = self._boxes(view, labels)
        if any(numbers[key] not in boxes for key in organs.values()):
            return GuidedOutcome.MISSED
        if not self.trusted.issuperset(organs.values()):
            return GuidedOutcome.GUIDE_DOUBTFUL
        return {
            label: GuidedOrgan(labels=labels, number=numbers[key], box=boxes[numbers[key]])
            for label, key in organs.items()
        }

    def can_be(self, key: str, voxels: int) -> bool:
        """Whether an organ can have a number of voxels of the CT.

        Parameters
        ----------
        key : of an organ that the guide knows
        voxels : of the prepared CT
        """
        volume_ml = next(organ.volume_ml for organ in self.found.organs.values() if organ.key == key)
        return is_possible_volume(voxels * self.prepared.volume.grid.voxel_ml, volume_ml)

    def _boxes(self, view: NetworkView, labels: NDArray[np.uint8]) -> dict[int, Box]:
        """The box of each label number of the guide in a view; those of the last view are kept."""
        if self.kept is None or self.kept[0] is not view:
            objects = enumerate(ndimage.find_objects(labels), start=1)
            boxes = {number: _without_crumbs(labels, number, w) for number, w in objects if w is not None}
            self.kept = (view, boxes)
        return self.kept[1]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GuidedOrgan:
    """An organ as the guide found it.

    Attributes
    ----------
    labels : (K, J, I) labels of the guide as a network sees them
    number : of the organ in them
    box : its bounding box
    """

    labels: NDArray[np.uint8]
    number: int
    box: Box

    def dice(self, found: Mask, part: tuple[slice, slice, slice]) -> float:
        """Dice with the organ of a network.

        Parameters
        ----------
        found : (K, J, I) bool, in a part
        part : of ``labels``
        """
        own = int(np.count_nonzero(self.labels[self.box.slices] == self.number))
        both = int(np.count_nonzero(found & (self.labels[part] == self.number)))
        return 2 * both / (own + int(np.count_nonzero(found)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoxResult:
    """The result of a network that was run in the box of its organs.

    Attributes
    ----------
    report : how it was run
    labels : (K, J, I) labels of the network in a part of the view; None if the box is no use, so that the
        network must be run on the whole CT
    part : that part
    summary : of the run whose labels these are
    network_s : seconds that the network computed, also in vain
    """

    report: GuidedNetwork
    labels: Labels | None
    part: tuple[slice, slice, slice]
    summary: RunSummary | None
    network_s: float


def run_in_box(  # noqa: PLR0913  # all of them are one run
    network: LoadedNetwork,
    view: NetworkView,
    limits: RunLimits,
    places: GuidePlaces,
    on_progress: ProgressCallback,
    *,
    region: Mask | None,
) -> BoxResult:
    """Run a network only around the place where the guide found its organs.

    Parameters
    ----------
    network : see `LoadedNetwork`
    view : the CT as it sees it
    limits : tiles and memory
    places : where the guide found the organs
    on_progress : called after each tile; may raise to stop
    region : (K, J, I) bool on the grid of the view; see `LabellingTask`
    """
    plan, organs = network.plan, network.part.labels
    to_ct = plan.regrid(view.working.shape, view.box.shape, view.spacing_mm)
    whole = limits.tiling(network, view)
    whole_tiles = _whole_tiles(whole, to_ct, region)
    spent, network_s, widened = 0, 0.0, False

    def result(
        outcome: GuidedOutcome,
        labels: Labels | None = None,
        part: tuple[slice, slice, slice] = (slice(0), slice(0), slice(0)),
        summary: RunSummary | None = None,
    ) -> BoxResult:
        tiles = spent if labels is not None else spent + whole_tiles
        row = GuidedNetwork(
            guide=places.guide,
            organs=tuple(organs.values()),
            outcome=outcome,
            tiles=tiles,
            whole_tiles=whole_tiles,
        )
        return BoxResult(report=row, labels=labels, part=part, summary=summary, network_s=network_s)

    guided = places.organs_in(view, organs)
    if isinstance(guided, GuidedOutcome):
        return result(guided)
    box = working_box(
        _union([organ.box for organ in guided.values()]), to_ct, view.spacing_mm, places.margin_mm
    )
    progress = _Rising(on_progress)
    while True:
        window = lay_tiles(view.working.shape, plan.patch, box, places.layout, whole)
        if spent + window.tiles >= whole_tiles:
            return result(GuidedOutcome.NO_SAVING)
        part, _ = axes_within(to_ct, window.inner)
        labels = np.zeros([s.stop - s.start for s in part], dtype=np.uint16)
        summary = run_loaded(network, view, limits, progress, _store_in(labels), region=region, window=window)
        spent += summary.tiles
        network_s += summary.network_s
        found = np.isin(labels, list(organs))
        touched = touched_borders(found, part, view.box.shape)
        if not any(first or last for first, last in touched):
            break
        box, widened = widen(window, touched, plan.patch, view.working.shape), True
    for label, organ in guided.items():
        own = labels == label
        voxels = int(np.count_nonzero(own))
        if not voxels:
            return result(GuidedOutcome.EMPTY)
        if organ.dice(own, part) < MIN_AGREEMENT:
            return result(GuidedOutcome.DIFFERENT)
        if not places.can_be(organs[label], voxels):
            return result(GuidedOutcome.DOUBTFUL)
    outcome = GuidedOutcome.WIDENED if widened else GuidedOutcome.BOX
    return result(outcome, labels, part, summary)


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


def touched_borders(found: Mask, part: tuple[slice, slice, slice], shape: Shape) -> Touched:
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


class _Rising:
    """Progress that does not fall when a box is searched again."""

    def __init__(self, on_progress: ProgressCallback) -> None:
        self._on_progress, self._highest = on_progress, 0.0

    def __call__(self, part: float, text: str) -> None:
        self._highest = max(self._highest, part)
        self._on_progress(self._highest, text)


def _store_in(labels: Labels) -> PlaneCallback:
    def store(k: int, plane: Labels) -> None:
        labels[k] = plane

    return store


def _whole_tiles(tiling: Tiling, to_ct: Regrid, region: Mask | None) -> int:
    """Number of tiles of a run on the whole CT."""
    if region is None:
        return number_of_tiles(tiling)
    return int(needed_tiles(tiling, region, interpolation_axes(to_ct)).sum())


def _without_crumbs(labels: NDArray[np.uint8], number: int, where: tuple[slice, ...]) -> Box:
    """The bounding box of the pieces of an organ that are no crumbs.

    Parameters
    ----------
    labels : (K, J, I) of the guide
    number : of the organ
    where : the bounding box of all its pieces
    """
    pieces, _ = ndimage.label(labels[where] == number)
    sizes = np.bincount(pieces.ravel())[1:]
    kept = [
        place
        for place, size in zip(ndimage.find_objects(pieces), sizes, strict=True)
        if size >= CRUMB * sizes.max()
    ]
    union = _union([_box(place) for place in kept])
    first = [part.start for part in where]
    return Box(
        start=_three([a + b for a, b in zip(first, union.start, strict=True)]),
        stop=_three([a + b for a, b in zip(first, union.stop, strict=True)]),
    )


def _box(where: tuple[slice, ...]) -> Box:
    return Box(start=_three([part.start for part in where]), stop=_three([part.stop for part in where]))


def _union(boxes: Sequence[Box]) -> Box:
    """The smallest box around several boxes."""
    return Box(
        start=_three([min(starts) for starts in zip(*(box.start for box in boxes), strict=True)]),
        stop=_three([max(stops) for stops in zip(*(box.stop for box in boxes), strict=True)]),
    )


def _three(values: list[int]) -> Shape:
    a, b, c = values
    return a, b, c
