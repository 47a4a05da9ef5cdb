"""Networks run only where the guide found their organs, without losing what lies beyond.

The box of an organ is widened and searched again as long as the organ reaches the border of what was
labelled. A network is run on the whole CT after all if the guide does not know or did not find its organ, if
what the guide found cannot be the organ (its volume, its place among the other organs), if the network finds
nothing in the box, or something that cannot be the organ, or if it finds the organ elsewhere than the guide:
then one of them is wrong, and the box proves nothing. How the whole CT is searched then, see `sparse_search`.

Where a guide that has proved itself on the CT (see `proof`) did not find an organ, the network searches
only around all voxels in which the guide suspects it, but for those that another organ explains (see
`explained`). If there are none, or if the network finds no more than a crumb around all of them, the organ is
not in the CT; a crumb at the end of the CT may be the tip of an organ and is kept. If it finds what cannot be
the organ, it searches the whole CT.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.core.anatomy.possible import is_crumb, is_possible_volume
from orgseg_node.core.boxes import Boxes
from orgseg_node.core.geometry import Box, Shape, box_out_of_part, enclosing_box
from orgseg_node.core.volume import LabelMap, Mask
from orgseg_node.inference.backends.guided.box_search import (
    NOTHING_SEARCHED,
    PartSearch,
    SearchedPart,
    nothing_there,
)
from orgseg_node.inference.backends.guided.explained import explaining_ranks, unexplained
from orgseg_node.inference.backends.guided.proof import GuideProof
from orgseg_node.inference.backends.guided.sparse_search import search_sparsely
from orgseg_node.inference.backends.network_view import NetworkView
from orgseg_node.inference.engine.layout import Layout
from orgseg_node.inference.merging import Merger
from orgseg_node.inference.predictor import GuidedNetwork, GuidedOutcome, SparseOutcome
from orgseg_node.inference.preparing import PreparedCt
from orgseg_node.inference.suspected import Suspected

MIN_AGREEMENT: Final = 0.25
"""Dice of the organ with that of the guide below which one of them is taken to be wrong.

Correct ones differ by the coarser grid of the guide, by far less: thin organs have a Dice of 0.5 and more."""

CRUMB: Final = 0.02
"""Pieces below this share of the largest piece that the guide found do not enlarge the box of an organ.

Two crumbs of 0.01 ml doubled the box of a mandible of 46 ml, and took four tiles instead of one."""


@dataclass(slots=True, kw_only=True, eq=False)
class GuidePlaces:
    """Where the guide found the organs, and how their networks are run there.

    Attributes
    ----------
    guide : its name and version
    found : labels of the guide on the grid of the original CT
    suspected : by organ key, where in the original CT the guide suspects an organ about which it is silent,
        without organs that it suspects nowhere. None if its silence never counts
    trusted : keys of the organs that can be what the guide found, see `trusted_organs`
    proof : whether its silence counts so far
    tiles : number of tiles that the guide computed
    prepared : the CT as it is prepared for the networks
    layout, margin_mm : how tiles are laid over the box of an organ, and its margin
    sparse : whether a network that must search the whole CT does so with few tiles first
    explained : whether what another organ explains is left out where an organ is only suspected
    kept : the boxes of the organs in the view that was asked for last
    """

    guide: str
    found: LabelMap
    suspected: Mapping[str, Suspected] | None
    trusted: frozenset[str]
    proof: GuideProof
    tiles: int
    prepared: PreparedCt
    layout: Layout
    margin_mm: float
    sparse: bool
    explained: bool
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
        labels = self._labels_in(view)
        boxes = self._boxes(view, labels)
        if any(numbers[key] not in boxes for key in organs.values()):
            return GuidedOutcome.MISSED
        if not self.trusted.issuperset(organs.values()):
            return GuidedOutcome.GUIDE_DOUBTFUL
        return {
            label: GuidedOrgan(labels=labels, number=numbers[key], box=boxes[numbers[key]])
            for label, key in organs.items()
        }

    def suspected_box(
        self, view: NetworkView, organs: Collection[str], merger: Merger | None = None
    ) -> Box | None:
        """The box around all voxels in which the guide suspects an organ; None if there are none.

        Parameters
        ----------
        view : the CT as a network sees it
        organs : keys
        merger : with the labels of the networks that were run, to leave out what other organs explain; None
            to leave out nothing
        """
        several = [
            self._left_of(key, suspected, view, merger)
            for key, suspected in (self.suspected or {}).items()
            if key in organs
        ]
        left = [boxes.enclosing() for boxes in several if len(boxes)]
        return enclosing_box(left) if left else None

    def at_end(self, view: NetworkView, box: Box) -> bool:
        """Whether a box reaches the border of the original CT, so that an organ in it may go on beyond.

        Parameters
        ----------
        view : the CT as a network sees it
        box : in voxels of the view
        """
        shape, crop = self.found.grid.shape, self.prepared.volume.grid.shape
        in_crop = view.restore_boxes(Boxes.of([box]), crop)
        whole = self.prepared.restore_boxes(in_crop, shape).enclosing()
        return 0 in whole.start or any(b == size for b, size in zip(whole.stop, shape, strict=True))

    def add_found(self, voxels: Mapping[str, int]) -> None:
        """Count what a network found in the end as proof for or against the silence of the guide.

        Parameters
        ----------
        voxels : of the prepared CT, by organ key
        """
        known = self.proof.known.intersection(voxels)
        self.proof.add_found(key for key in known if not self.is_crumb(key, voxels[key]))

    def is_crumb(self, key: str, voxels: int) -> bool:
        """Whether a number of voxels is too small for an organ; see `can_be`."""
        return is_crumb(voxels * self.prepared.volume.grid.voxel_ml, self._volume_ml(key))

    def can_be(self, key: str, voxels: int) -> bool:
        """Whether an organ can have a number of voxels of the CT.

        Parameters
        ----------
        key : of an organ that the guide knows
        voxels : of the prepared CT
        """
        return is_possible_volume(voxels * self.prepared.volume.grid.voxel_ml, self._volume_ml(key))

    def _volume_ml(self, key: str) -> tuple[float, float] | None:
        """The smallest and largest volume of an organ; None also if the guide does not know it."""
        return next((organ.volume_ml for organ in self.found.organs.values() if organ.key == key), None)

    def _left_of(self, key: str, suspected: Suspected, view: NetworkView, merger: Merger | None) -> Boxes:
        """What is suspected of an organ, in a view, without what other organs explain."""
        shape, crop = self.found.grid.shape, self.prepared.volume.grid.shape

        def in_view(boxes: Boxes) -> Boxes:
            return view.boxes_of(self.prepared.boxes_of(boxes, shape), crop)

        if merger is None or suspected.voxels is None:
            return in_view(Boxes.of([suspected.box]))
        ranks = explaining_ranks(key, self.found.organs, self.proof.confirmed, merger.ranks)
        labels, merged = self._labels_in(view), view.of(merger.rank_map)
        return unexplained(in_view(suspected.voxels), labels, merged, ranks)

    def _labels_in(self, view: NetworkView) -> NDArray[np.uint8]:
        """The labels of the guide in a view."""
        return view.of(self.prepared.reorientation.apply(self.found.labels)[self.prepared.box.slices])

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
class GuidedResult:
    """The result of a network that a guide led.

    Attributes
    ----------
    report : how it was run
    found : its labels; those are None if the network must still be run on the whole CT
    """

    report: GuidedNetwork
    found: SearchedPart


def run_guided(search: PartSearch, places: GuidePlaces, merger: Merger) -> GuidedResult:
    """Run a network only around the place where the guide found its organs.

    If the place is no use, the network searches the whole CT with few tiles first, where that is allowed.
    All that is searched before a run on the whole CT takes fewer tiles than that run.

    Parameters
    ----------
    search : the network and the CT
    places : where the guide found the organs
    merger : with the labels of the networks that were run
    """
    whole_tiles = search.whole_tiles
    organs = tuple(search.organs.values())
    if places.suspected is not None and places.proof.silence_counts(organs):
        outcome, found = _run_where_suspected(search, places, merger, whole_tiles)
    else:
        outcome, found = _run_in_box(search, places, whole_tiles)
        places.proof.add(organs, outcome)
    sparse: SparseOutcome | None = None
    if found.labels is None and places.sparse and outcome is not GuidedOutcome.NO_SAVING:
        sparse, again = search_sparsely(search, whole_tiles - found.tiles, places.is_crumb)
        found = replace(again, tiles=found.tiles + again.tiles, network_s=found.network_s + again.network_s)
    report = GuidedNetwork(
        guide=places.guide,
        organs=organs,
        outcome=outcome,
        sparse=sparse,
        tiles=found.tiles + (whole_tiles if found.labels is None else 0),
        whole_tiles=whole_tiles,
    )
    return GuidedResult(report=report, found=found)


def _run_in_box(
    search: PartSearch, places: GuidePlaces, whole_tiles: int
) -> tuple[GuidedOutcome, SearchedPart]:
    """Run a network in the box of its organs; without labels if the box is no use."""
    guided = places.organs_in(search.view, search.organs)
    if isinstance(guided, GuidedOutcome):
        return guided, NOTHING_SEARCHED
    found = search.search_box(enclosing_box(organ.box for organ in guided.values()), whole_tiles)
    if found.labels is None:
        return GuidedOutcome.NO_SAVING, found
    useless = replace(found, labels=None)
    for label, organ in guided.items():
        own = found.labels == label
        voxels = int(np.count_nonzero(own))
        if not voxels:
            return GuidedOutcome.EMPTY, useless
        if organ.dice(own, found.part) < MIN_AGREEMENT:
            return GuidedOutcome.DIFFERENT, useless
        if not places.can_be(search.organs[label], voxels):
            return GuidedOutcome.DOUBTFUL, useless
    return GuidedOutcome.WIDENED if found.widened else GuidedOutcome.BOX, found


def _run_where_suspected(
    search: PartSearch, places: GuidePlaces, merger: Merger, whole_tiles: int
) -> tuple[GuidedOutcome, SearchedPart]:
    """Run a network around all that the guide suspects of its organs and no other organ explains.

    Returns
    -------
    what came of it, and what was found, without crumbs; without labels if the box is too large, or if an
    organ cannot be what was found
    """
    box = places.suspected_box(search.view, search.organs.values())
    if box is None:
        return GuidedOutcome.ABSENT, nothing_there()
    if places.explained:
        box = places.suspected_box(search.view, search.organs.values(), merger)
    if box is None:
        return GuidedOutcome.EXPLAINED, nothing_there()
    found = search.search_box(box, whole_tiles)
    if found.labels is None:
        return GuidedOutcome.MISSED, found
    outcome = GuidedOutcome.REFUTED
    for label, key in search.organs.items():
        own = found.labels == label
        voxels = int(np.count_nonzero(own))
        crumb = places.is_crumb(key, voxels)
        if not voxels:
            continue
        where = box_out_of_part(Box.around(own), _box(found.part))
        if crumb and not places.at_end(search.view, where):
            found.labels[own] = 0
            continue
        if not crumb and not places.can_be(key, voxels):
            return GuidedOutcome.MISSED, replace(found, labels=None)
        outcome = GuidedOutcome.SUSPECTED
    return outcome, found


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
    return box_out_of_part(enclosing_box(_box(place) for place in kept), _box(where))


def _box(where: tuple[slice, ...]) -> Box:
    return Box(start=_three([part.start for part in where]), stop=_three([part.stop for part in where]))


def _three(values: list[int]) -> Shape:
    a, b, c = values
    return a, b, c
