"""A CT with one bright organ, a network that finds it by its brightness, and a guide that points to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from orgseg_node.core.anatomy.possible import trusted_organs
from orgseg_node.core.body import Body
from orgseg_node.core.geometry import Box, Grid, Shape
from orgseg_node.core.volume import LabelMap, Mask, Volume
from orgseg_node.inference.backends.guided.box_search import PartSearch, Rising
from orgseg_node.inference.backends.guided.proof import GuideProof
from orgseg_node.inference.backends.guided.run import GuidedResult, GuidePlaces, run_guided
from orgseg_node.inference.backends.network_run import LoadedNetwork, RunLimits, run_loaded
from orgseg_node.inference.backends.network_view import NetworkView, view_for_network
from orgseg_node.inference.bundles.bundle import Part
from orgseg_node.inference.bundles.manifest import Preprocessing
from orgseg_node.inference.engine.forward import Forward
from orgseg_node.inference.engine.layout import Layout
from orgseg_node.inference.engine.plans import NetworkPlan, PreprocessingPlan
from orgseg_node.inference.engine.working import HuNormalisation
from orgseg_node.inference.merging import Merger
from orgseg_node.inference.preparing import PreparedCt, prepare_ct
from orgseg_node.inference.suspected import Suspected
from orgseg_node.organ_table import organ_table

SHAPE: Shape = (40, 44, 48)
SPACING_MM = (2.0, 1.0, 1.5)
PATCH: Shape = (8, 12, 12)
KEY = "esophagus"  # 0.5 to 250 ml
LIMITS = RunLimits(step=0.5, memory_budget_mb=None, device=torch.device("cpu"), shared=False)


class AboveThreshold:
    """A network whose organ is all that is brighter than 500 HU.

    Parameters
    ----------
    blind : number of voxels at the border of a tile in which it only suspects the organ
    """

    folds = 1
    device = torch.device("cpu")

    def __init__(self, blind: int = 0) -> None:
        self.tiles = 0
        self._blind = blind

    def __call__(self, tile: torch.Tensor, fold: int) -> torch.Tensor:
        self.tiles += 1
        organ = 10 * (tile[0] - 0.5)
        if self._blind:
            sure = torch.zeros_like(organ, dtype=torch.bool)
            inside = slice(self._blind, -self._blind)
            sure[:, inside, inside, inside] = True
            organ -= 6.0 * ~sure
        return torch.cat([torch.zeros_like(tile[0]), organ])


@dataclass(frozen=True, kw_only=True)
class GuidedBench:
    """A CT with one bright organ and a network that finds it."""

    organ: Mask
    prepared: PreparedCt
    view: NetworkView
    network: LoadedNetwork
    limits: RunLimits

    def guided(  # each test changes another one
        self,
        guide: Mask,
        layout: Layout = Layout.ONCE,
        margin_mm: float = 2.0,
        key: str = KEY,
        *,
        sparse: bool = False,
        suspected: Mask | None = None,
        proof: GuideProof | None = None,
        on_progress: Callable[[float, str], None] = lambda *_: None,
    ) -> GuidedResult:
        """Run the network led by a guide that found its organ in a mask, and suspects it in another one."""
        places = self.places(guide, layout, margin_mm, key, sparse=sparse, suspected=suspected, proof=proof)
        merger = Merger(self.prepared.volume.grid.shape, {KEY: 1.0, key: 1.0})
        return run_guided(self.search(layout, margin_mm, on_progress), places, merger)

    def places(
        self,
        guide: Mask,
        layout: Layout = Layout.ONCE,
        margin_mm: float = 2.0,
        key: str = KEY,
        *,
        sparse: bool = False,
        suspected: Mask | None = None,
        proof: GuideProof | None = None,
    ) -> GuidePlaces:
        """What the guide found."""
        grid = Grid(shape=SHAPE, spacing_mm=SPACING_MM, origin_mm=(0.0, 0.0, 0.0))
        organs = {3: organ_table()[key]}
        found = LabelMap(grid=grid, labels=(guide * 3).astype(np.uint8), organs=organs)
        return GuidePlaces(
            guide="guide 1",
            found=found,
            suspected=None
            if suspected is None
            else ({key: Suspected(box=Box.around(suspected), voxels=None)} if suspected.any() else {}),
            trusted=trusted_organs(found),
            proof=proof or GuideProof(known=frozenset({key}), silent=frozenset()),
            tiles=1,
            prepared=self.prepared,
            layout=layout,
            margin_mm=margin_mm,
            sparse=sparse,
            explained=True,
        )

    def search(
        self,
        layout: Layout = Layout.ONCE,
        margin_mm: float = 2.0,
        on_progress: Callable[[float, str], None] = lambda *_: None,
    ) -> PartSearch:
        """The network and the CT, to search parts of it."""
        return PartSearch(
            network=self.network,
            view=self.view,
            limits=self.limits,
            layout=layout,
            margin_mm=margin_mm,
            region=None,
            on_progress=Rising(on_progress),
        )

    def whole(self) -> NDArray[np.uint16]:
        """The labels of a run on the whole CT."""
        labels = np.zeros(self.view.box.shape, dtype=np.uint16)

        def on_plane(k: int, plane: NDArray[np.uint16]) -> None:
            labels[k] = plane

        run_loaded(self.network, self.view, self.limits, lambda *_: None, on_plane, region=None)
        return labels

    def all_of(self, result: GuidedResult) -> NDArray[np.uint16]:
        """The labels of a guided run on the grid of the whole CT."""
        labels = np.zeros(self.view.box.shape, dtype=np.uint16)
        assert result.found.labels is not None
        labels[result.found.part] = result.found.labels
        return labels


def make_bench(
    organ: Mask,
    spacing: Sequence[float] = (2.0, 1.5, 1.5),
    forward: AboveThreshold | None = None,
    hu: int = 1000,
    more: tuple[Mask, int] | None = None,
    key: str = KEY,
) -> GuidedBench:
    """A CT whose organ has a number of HU, and maybe another piece with another one, and the network."""
    hu_array = np.where(organ, hu, 1).astype(np.int16)  # never 0, to which nnU-Net would crop
    if more is not None:
        hu_array[more[0]] = more[1]
    prepared = prepared_of(hu_array)
    network = network_of(forward or AboveThreshold(), {1: key}, spacing)
    view = view_for_network(prepared, network.plan.preprocessing, "LPS")
    assert view is not None
    return GuidedBench(organ=organ, prepared=prepared, view=view, network=network, limits=LIMITS)


def prepared_of(hu: NDArray[np.int16]) -> PreparedCt:
    """A CT of SHAPE and SPACING_MM, all of which is the patient."""
    grid = Grid(shape=SHAPE, spacing_mm=SPACING_MM, origin_mm=(0.0, 0.0, 0.0))
    mask = np.ones(SHAPE, dtype=bool)
    body = Body(mask=mask, box=Box.around(mask), effective_diameter_mm=100.0, findings=())
    return prepare_ct(Volume(grid=grid, hu=hu), body, Preprocessing())


def network_of(forward: Forward, labels: dict[int, str], spacing: Sequence[float]) -> LoadedNetwork:
    """A network of tiles of PATCH that gets HU divided by 1000."""
    a, b, c = spacing
    preprocessing = PreprocessingPlan(
        transpose=(0, 1, 2),
        spacing_mm=(a, b, c),
        normalisation=HuNormalisation(low=0.0, high=1000.0, mean=0.0, std=1000.0),
        force_separate_z=None,
    )
    plan = NetworkPlan(
        preprocessing=preprocessing,
        patch=PATCH,
        force_separate_z=None,
        heads=1 + len(labels),
        regions=None,
        downsampling=(2, 2, 2),
    )
    return LoadedNetwork(
        part=Part(folder="parts/organ", configuration="3d_fullres", folds=("0",), labels=labels),
        plan=plan,
        forward=forward,
        activation_bytes=1,
        release_memory=lambda: None,
    )


def block(start: Shape, stop: Shape) -> Mask:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[Box(start=start, stop=stop).slices] = True
    return mask
