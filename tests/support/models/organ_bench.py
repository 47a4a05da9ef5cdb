"""A CT with several organs, a network for each, and a guide that may call them by other names.

Each organ has HU of its own, by which the networks know it. The guide suspects each organ inside all others,
where it is sure that there is no background.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from orgseg_node.core.body import Body
from orgseg_node.core.geometry import Box
from orgseg_node.core.volume import LabelMap, Mask, Volume
from orgseg_node.inference.backends.guided.guide import GuidedRun, OpenGuide
from orgseg_node.inference.backends.merged_run import NetworkInCt
from orgseg_node.inference.backends.network_run import LoadedNetwork
from orgseg_node.inference.backends.network_view import view_for_network
from orgseg_node.inference.bundles.tables.guide import Guide, Preprocessing
from orgseg_node.inference.engine.layout import Layout
from orgseg_node.inference.merging import Merger
from orgseg_node.inference.predictor import GuidedNetwork, ModelIdentity, Prediction, ProgressCallback
from orgseg_node.inference.preparing import PreparedCt
from orgseg_node.inference.suspected import Suspected
from orgseg_node.organ_table import organ_table
from tests.support.models.guided_bench import LIMITS, SHAPE, SPACING_MM, block, network_of, prepared_of

PLACES: Mapping[str, Mask] = {
    "parotid_right": block((10, 14, 2), (18, 24, 12)),
    "parotid_left": block((10, 14, 36), (18, 24, 46)),
    "mandible": block((10, 2, 18), (20, 12, 30)),
    "spinal_cord": block((4, 34, 20), (20, 44, 30)),
    "brainstem": block((28, 28, 18), (38, 38, 30)),
    "esophagus": block((26, 4, 6), (36, 14, 18)),
}
"""Where the organs lie, as in a body."""

_LEVELS = {key: 0.1 + 0.1 * number for number, key in enumerate(PLACES, start=1)}


@dataclass(kw_only=True)
class _Seen:
    """A forward pass that finds organs by their HU."""

    names: Mapping[str, int]
    heads: int
    tiles: int = 0
    folds = 1
    device = torch.device("cpu")

    def __call__(self, tile: torch.Tensor, fold: int) -> torch.Tensor:
        """Background below any suspicion inside of organs, where other organs are a little less unlikely."""
        self.tiles += 1
        found = torch.zeros(tile.shape[1:], dtype=torch.long)
        for key, head in self.names.items():
            found[(tile[0] - _LEVELS[key]).abs() < 0.02] = head
        logits = torch.full((self.heads, *tile.shape[2:]), -9.0)
        logits[:, found[0] == 0] = -20.0
        logits.scatter_(0, found, 10.0)
        logits[0, found[0] > 0] = -10.0
        return logits


@dataclass(kw_only=True)
class OrgansInCt:
    """A CT that shows some organs, and their networks.

    Attributes
    ----------
    shown : keys of the organs in the CT
    mistakes : by organ key, other organs that its network takes for it as well
    ranks : keys by priority, the lowest first
    """

    shown: Sequence[str] = tuple(PLACES)
    mistakes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ranks: Sequence[str] = tuple(PLACES)

    def prepared(self) -> PreparedCt:
        """The CT."""
        hu = np.ones(SHAPE, dtype=np.int16)
        for key in self.shown:
            hu[PLACES[key]] = round(1000 * _LEVELS[key])
        return prepared_of(hu)

    def unguided(self) -> NDArray[np.uint8]:
        """The label map of all networks on the whole CT."""
        prepared, merger = self.prepared(), self._merger()
        for key in PLACES:
            self._in_ct(prepared, merger, self._network(key)).run(lambda *_: None, None, None)
        return merger.labels()

    def guided(
        self, names: Mapping[str, str], *, unknown: str = "", explained: bool = True
    ) -> tuple[NDArray[np.uint8], dict[str, GuidedNetwork]]:
        """The label map of a guided run, and how each network was run.

        Parameters
        ----------
        names : what the guide calls each organ that it sees
        unknown : key of an organ that it does not know
        explained : see `GuidedRun`
        """
        prepared, merger = self.prepared(), self._merger()
        run = GuidedRun(layout=Layout.ONCE, margin_mm=2.0, sparse=True, suspicion=0.05, explained=explained)
        guide = Guide(
            name="guide",
            version="1",
            sha256="a" * 64,
            preprocessing=Preprocessing(),
            mirroring=False,
            tile_step_size=1.0,
            parts=(),
        )
        mask = np.ones(SHAPE, dtype=bool)
        body = Body(mask=mask, box=Box.around(mask), effective_diameter_mm=100.0, findings=())
        opened = OpenGuide(_GuideOf(organs=self, names=names, unknown=unknown), guide, run)
        places, _ = opened.places(prepared.volume, body, prepared, lambda *_: None)
        rows = {}
        silent = [key for key in PLACES if key in places.proof.silent]
        for key in [*(key for key in PLACES if key not in silent), *silent]:
            _, found = self._in_ct(prepared, merger, self._network(key)).run(lambda *_: None, places, None)
            rows[key] = found[0]
        return merger.labels(), rows

    def _network(self, key: str) -> LoadedNetwork:
        seen = _Seen(names=dict.fromkeys([key, *self.mistakes.get(key, ())], 1), heads=2)
        return network_of(seen, {1: key}, SPACING_MM)

    def _merger(self) -> Merger:
        return Merger(SHAPE, {key: float(self.ranks.index(key)) for key in PLACES})

    def _in_ct(
        self, prepared: PreparedCt, merger: Merger, network: LoadedNetwork, suspicion: float | None = None
    ) -> NetworkInCt:
        view = view_for_network(prepared, network.plan.preprocessing, "LPS")
        assert view is not None
        return NetworkInCt(
            network=network, view=view, limits=LIMITS, merger=merger, place=None, suspicion=suspicion
        )

    def see(
        self, prepared: PreparedCt, names: Mapping[str, str], unknown: str
    ) -> tuple[LabelMap, dict[str, Suspected]]:
        """What the guide finds and suspects."""
        labels = dict(enumerate((key for key in PLACES if key != unknown), start=1))
        heads = {key: head for head, key in labels.items()}
        seen = _Seen(names={key: heads[name] for key, name in names.items()}, heads=1 + len(labels))
        merger = Merger(SHAPE, dict.fromkeys(labels.values(), 1.0))
        network = network_of(seen, labels, SPACING_MM)
        one = self._in_ct(prepared, merger, network, suspicion=0.05)
        summary, _ = one.run(lambda *_: None, None, None)
        suspected = one.suspected_in(summary, prepared, SHAPE)
        organs = merger.organs(organ_table())
        return LabelMap(grid=prepared.volume.grid, labels=merger.labels(), organs=organs), suspected


@dataclass(kw_only=True)
class _GuideOf:
    """The predictor of a guide."""

    organs: OrgansInCt
    names: Mapping[str, str]
    unknown: str
    models: tuple[ModelIdentity, ...] = ()

    def load_networks(self) -> None:
        """There are none to load."""

    def predict(self, volume: Volume, body: Body, on_progress: ProgressCallback) -> Prediction:
        found, suspected = self.organs.see(self.organs.prepared(), self.names, self.unknown)
        return Prediction(
            label_map=found,
            models=(),
            method="streaming",
            device="cpu",
            timings_s={"network": 0.0},
            tiles=1,
            suspected=suspected,
        )
