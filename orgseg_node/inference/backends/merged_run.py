"""One network over the prepared CT, its labels merged with those of the other networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.volume import Mask
from orgseg_node.inference.backends.box_search import PartSearch, Rising
from orgseg_node.inference.backends.guided import GuidePlaces, run_guided
from orgseg_node.inference.backends.network_run import LoadedNetwork, RunLimits, run_loaded
from orgseg_node.inference.backends.network_view import NetworkView
from orgseg_node.inference.engine.run import RunSummary
from orgseg_node.inference.engine.suspicion import Suspicion
from orgseg_node.inference.merging import Merger
from orgseg_node.inference.predictor import GuidedNetwork, ProgressCallback


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SuspectedOrgans:
    """What networks only suspect, merged in the same way as what they find.

    Attributes
    ----------
    probability : see `Suspicion`
    merger : gets the labels
    """

    probability: float
    merger: Merger

    def suspicion(self, view: NetworkView, organs: Mapping[int, str]) -> Suspicion:
        """What the engine needs to run a network.

        Parameters
        ----------
        view : the CT as the network sees it
        organs : organ key of each label number of the network
        """
        ranks, merged = self.merger.rank_table(organs), view.of(self.merger.rank_map)
        return Suspicion(
            probability=self.probability,
            on_plane=lambda k, labels: self.merger.merge(labels, ranks, merged[k]),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NetworkInCt:
    """A network, the CT as it sees it, and the label map that gets its labels.

    Attributes
    ----------
    network : ready to run
    view : the CT as it sees it
    limits : tiles and memory
    merger : gets its labels
    place : (K, J, I) bool on the grid of the prepared CT, which voxels may get labels; None for all
    suspected : gets what the network only suspects; None if nobody asked for that
    """

    network: LoadedNetwork
    view: NetworkView
    limits: RunLimits
    merger: Merger
    place: Mask | None
    suspected: SuspectedOrgans | None = None

    def run(
        self, on_progress: ProgressCallback, places: GuidePlaces | None, region: Mask | None
    ) -> tuple[RunSummary, list[GuidedNetwork]]:
        """Run the network where the guide found its organs, or else on the whole CT, and merge its labels.

        Parameters
        ----------
        on_progress : called after each tile; may raise to stop
        places : where the guide found the organs; None without a guide
        region : (K, J, I) bool on the grid of the prepared CT, where organs are searched at all
        """
        if places is None:
            return self._run_whole(on_progress), []
        view, progress = self.view, Rising(on_progress)
        search = PartSearch(
            network=self.network,
            view=view,
            limits=self.limits,
            layout=places.layout,
            margin_mm=places.margin_mm,
            region=None if region is None else view.of(region),
            on_progress=progress,
        )
        result = run_guided(search, places)
        found = result.found
        if found.labels is not None and found.summary is not None:
            if self.place is not None:
                found.labels[~view.of(self.place)[found.part]] = 0
            ranks, merged = self._ranks, view.of(self.merger.rank_map)[found.part]
            for labels, plane in zip(found.labels, merged, strict=True):
                self.merger.merge(labels, ranks, plane)
            summary, network_s = found.summary, found.network_s
        else:
            summary = self._run_whole(progress)
            network_s = summary.network_s + found.network_s
        return replace(summary, network_s=network_s, tiles=result.report.tiles), [result.report]

    def _run_whole(self, on_progress: ProgressCallback) -> RunSummary:
        suspected, organs = self.suspected, self.network.part.labels
        ranks, merged = self._ranks, self.view.of(self.merger.rank_map)
        return run_loaded(
            self.network,
            self.view,
            self.limits,
            on_progress,
            lambda k, labels: self.merger.merge(labels, ranks, merged[k]),
            region=None if self.place is None else self.view.of(self.place),
            suspicion=None if suspected is None else suspected.suspicion(self.view, organs),
        )

    @property
    def _ranks(self) -> NDArray[np.uint8]:
        return self.merger.rank_table(self.network.part.labels)
