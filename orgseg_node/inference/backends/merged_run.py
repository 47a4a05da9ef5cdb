"""One network over the prepared CT, its labels merged with those of the other networks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.volume import Mask
from orgseg_node.inference.backends.box_search import PartSearch, Rising
from orgseg_node.inference.backends.guided import GuidePlaces, run_guided
from orgseg_node.inference.backends.network_run import LoadedNetwork, RunLimits, run_loaded
from orgseg_node.inference.backends.network_view import NetworkView
from orgseg_node.inference.engine.run import RunSummary
from orgseg_node.inference.merging import Merger
from orgseg_node.inference.predictor import GuidedNetwork, ProgressCallback


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
    """

    network: LoadedNetwork
    view: NetworkView
    limits: RunLimits
    merger: Merger
    place: Mask | None

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
        ranks, merged = self._ranks, self.view.of(self.merger.rank_map)
        return run_loaded(
            self.network,
            self.view,
            self.limits,
            on_progress,
            lambda k, labels: self.merger.merge(labels, ranks, merged[k]),
            region=None if self.place is None else self.view.of(self.place),
        )

    @property
    def _ranks(self) -> NDArray[np.uint8]:
        return self.merger.rank_table(self.network.part.labels)
