"""One network over the prepared CT, its labels merged with those of the other networks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.boxes import Boxes
from orgseg_node.core.geometry import Shape
from orgseg_node.core.volume import Mask
from orgseg_node.inference.backends.guided.box_search import PartSearch, Rising
from orgseg_node.inference.backends.guided.run import GuidePlaces, run_guided
from orgseg_node.inference.backends.network_run import LoadedNetwork, RunLimits, run_loaded
from orgseg_node.inference.backends.network_view import NetworkView
from orgseg_node.inference.engine.label_planes import Labels
from orgseg_node.inference.engine.run import RunSummary
from orgseg_node.inference.merging import Merger
from orgseg_node.inference.predictor import GuidedNetwork, ProgressCallback
from orgseg_node.inference.preparing import PreparedCt
from orgseg_node.inference.suspected import Suspected


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
    suspicion : see `LabellingTask`; counts for a run without a guide
    """

    network: LoadedNetwork
    view: NetworkView
    limits: RunLimits
    merger: Merger
    place: Mask | None
    suspicion: float | None = None

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
            return self._run_whole(on_progress, suspicion=self.suspicion), []
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
        result = run_guided(search, places, self.merger)
        found = result.found
        voxels: Counter[str] = Counter()
        if found.labels is not None and found.summary is not None:
            self._count(found.labels, voxels)
            if self.place is not None:
                found.labels[~view.of(self.place)[found.part]] = 0
            ranks, merged = self._ranks, view.of(self.merger.rank_map)[found.part]
            for labels, plane in zip(found.labels, merged, strict=True):
                self.merger.merge(labels, ranks, plane)
            summary, network_s = found.summary, found.network_s
        else:
            summary = self._run_whole(progress, voxels)
            network_s = summary.network_s + found.network_s
        places.add_found(voxels)
        return replace(summary, network_s=network_s, tiles=result.report.tiles), [result.report]

    def suspected_in(self, summary: RunSummary, prepared: PreparedCt, shape: Shape) -> dict[str, Suspected]:
        """Where in the original CT an organ is suspected, by organ key.

        Parameters
        ----------
        summary : of the run
        prepared : the CT as it was prepared for the network
        shape : of the original CT
        """
        organs, crop = self.network.part.labels, prepared.volume.grid.shape

        def restore(boxes: Boxes) -> Boxes:
            return prepared.restore_boxes(self.view.restore_boxes(boxes, crop), shape)

        return {
            organs[label]: Suspected(
                box=restore(Boxes.of([found.box])).enclosing(),
                voxels=None if found.voxels is None else restore(found.voxels),
            )
            for label, found in summary.suspected.items()
            if label in organs
        }

    def _run_whole(
        self,
        on_progress: ProgressCallback,
        voxels: Counter[str] | None = None,
        suspicion: float | None = None,
    ) -> RunSummary:
        ranks, merged = self._ranks, self.view.of(self.merger.rank_map)

        def on_plane(k: int, labels: Labels) -> None:
            self.merger.merge(labels, ranks, merged[k])
            if voxels is not None:
                self._count(labels, voxels)

        return run_loaded(
            self.network,
            self.view,
            self.limits,
            on_progress,
            on_plane,
            region=None if self.place is None else self.view.of(self.place),
            suspicion=suspicion,
        )

    def _count(self, labels: Labels, voxels: Counter[str]) -> None:
        """Add the voxels of each organ."""
        numbers = np.bincount(labels.ravel(), minlength=max(self.network.part.labels, default=0) + 1)
        for label, key in self.network.part.labels.items():
            voxels[key] += int(numbers[label])

    @property
    def _ranks(self) -> NDArray[np.uint8]:
        return self.merger.rank_table(self.network.part.labels)
