"""A bundle run by the streaming engine, the default: nnU-Net's labels, in the memory of one slab."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import structlog
import torch

from orgseg_node.core.body import Body
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap, Mask, Volume
from orgseg_node.inference.backends.compiled import CompiledForward
from orgseg_node.inference.backends.context import (
    calibrated_software,
    coded_errors,
    describe_device,
    network_progress,
    prints_to_stderr,
    timed,
    torch_threads,
)
from orgseg_node.inference.backends.forward import EagerForward, MirroredForward
from orgseg_node.inference.backends.guided.guide import GuidedRun, OpenGuide, allowed_run, guide_finding
from orgseg_node.inference.backends.merged_run import NetworkInCt
from orgseg_node.inference.backends.network import PartNetwork, open_network, open_plans
from orgseg_node.inference.backends.network_run import LoadedNetwork, RunLimits
from orgseg_node.inference.backends.network_view import NetworkView, view_for_network
from orgseg_node.inference.backends.openvino import OpenVinoForward
from orgseg_node.inference.bundles.bundle import ModelBundle, Part
from orgseg_node.inference.bundles.calibration import Precision, require_calibration
from orgseg_node.inference.engine.allocator import keep_freed_memory
from orgseg_node.inference.engine.budget import activation_bytes
from orgseg_node.inference.engine.forward import Forward
from orgseg_node.inference.engine.plans import NetworkPlan, PreprocessingPlan, read_network_plan
from orgseg_node.inference.engine.run import RunSummary
from orgseg_node.inference.merging import Merger, overlap_finding, rank_organs
from orgseg_node.inference.predictor import (
    Backend,
    Disagreement,
    GuidedNetwork,
    InferenceSettings,
    ModelIdentity,
    Prediction,
    ProgressCallback,
)
from orgseg_node.inference.preparing import SEARCH_MARGIN_MM, PreparedCt, dilate_mm, prepare_ct
from orgseg_node.inference.subset import select_networks
from orgseg_node.inference.suspected import Suspected, join_suspected

_KEEP_BYTES = 2 * 1024**3  # networks of bundles up to this size stay in memory between jobs

_TITLES = {"openvino": "OpenVINO"}

_log = structlog.get_logger(__name__)


class StreamingPredictor:
    """Runs the networks of one bundle slab by slab.

    Parameters
    ----------
    bundle : an opened and verified bundle
    organs : the organ table
    settings : memory, backend, threads
    device : the device to run on
    precision : of the fast or compiled mode; None for the one of the bundle's calibration, which is then
        required
    requested : keys of the organs that the result must have; see `select_networks`. None for all
    guided : how networks are run where the guide found their organs; None for the way that the calibration of
        the guide allows, if it does
    suspicion : probability of an organ, against background, from which on voxels are suspected; the result
        says where they are as well. None for none

    Raises
    ------
    NotStreamable
        If the engine does not support a network of the bundle.
    FastModeMissing, CompilerMissing, NotCalibrated
        If the settings ask for the fast or compiled mode and OpenVINO or a compiler is not installed, or if
        no precision is given and the bundle has no sufficient calibration with the same software.
    """

    def __init__(  # noqa: PLR0913  # all of them are one request
        self,
        bundle: ModelBundle,
        organs: OrganTable,
        settings: InferenceSettings,
        device: torch.device,
        *,
        precision: Precision | None = None,
        requested: Collection[str] | None = None,
        guided: GuidedRun | None = None,
        suspicion: float | None = None,
    ) -> None:
        self._bundle = bundle
        self._organs = organs
        self._settings = settings
        self._device = device
        self._keep = bundle.size_bytes <= _KEEP_BYTES
        self._loaded: dict[str, LoadedNetwork] = {}
        self._precision: Precision | None = None
        self._suspicion = suspicion
        manifest = bundle.manifest
        self._selection = select_networks(manifest.parts, rank_organs(manifest.priorities), requested)
        if settings.backend != Backend.EXACT:
            software, version = calibrated_software(settings.backend, device)
            self._software = f", {_TITLES.get(software, software)} {version}"
            self._precision = (
                precision
                or require_calibration(manifest.name, manifest.calibration, software, version).precision
            )
        self._plans = {
            part.folder: read_network_plan(*open_plans(bundle, part)) for part in self._selection.parts
        }
        run = guided or allowed_run(manifest.guide, settings)
        self._guide = None if run is None else self._open_guide(run)

    @property
    def models(self) -> tuple[ModelIdentity, ...]:
        """The bundle it runs."""
        return (self._bundle.identity,)

    @property
    def device(self) -> str:
        """The device and, unless in exact mode, the software, its version and precision, for reports."""
        device = describe_device(self._device, self._settings.threads)
        return device if self._precision is None else f"{device}{self._software} {self._precision}"

    def load_networks(self) -> None:
        """Load the weights of all networks now, if they stay in memory between jobs."""
        if not self._keep:
            return
        if self._guide is not None:
            self._guide.load_networks()
        for part in self._selection.parts:
            self._network(part)

    def predict(self, volume: Volume, body: Body, on_progress: ProgressCallback) -> Prediction:
        """Label every voxel of a CT with every network of the bundle that the requested organs need.

        Parameters
        ----------
        volume : CT in HU, any orientation
        body : the patient in it
        on_progress : called after each tile; may raise to stop

        Raises
        ------
        BodyNotFound
            If the body is empty.
        OutOfMemory
            If the machine or the GPU has too little memory, or the budget is too small.
        InferenceFailed
            If a network fails in any other way.
        """
        manifest, settings = self._bundle.manifest, self._settings
        selection, method = self._selection, self._method
        timings = {"prepare": 0.0, "load": 0.0, "predict": 0.0, "merge": 0.0, "network": 0.0}
        with (
            coded_errors(),
            torch_threads(settings.threads),
            prints_to_stderr(on_progress) as report,
            keep_freed_memory(),
        ):
            _log.info(
                "segmenting",
                device=self.device,
                method=method,
                model=manifest.name,
                version=manifest.version,
            )
            with timed(timings, "prepare"):
                prepared = prepare_ct(volume, body, manifest.preprocessing)
                region: Mask | None = None
                if self._skips_outside_body:
                    region = dilate_mm(prepared.mask, prepared.volume.grid, SEARCH_MARGIN_MM)
            merger = Merger(prepared.volume.grid.shape, manifest.priorities, selection.requested)
            suspected: list[Mapping[str, Suspected]] = []
            disagreement: list[Disagreement] = []
            views: dict[PreprocessingPlan, NetworkView | None] = {}
            runs, places = len(selection.parts), None
            if self._guide is not None:
                runs, timings["guide"] = runs + 1, 0.0
                with timed(timings, "guide"):
                    places, network_s = self._guide.places(
                        volume, body, prepared, network_progress(report, 0, runs, "guide: ")
                    )
                timings["network"] += network_s
            parts = selection.parts if places is None else places.proof.in_order(selection)
            guided: list[GuidedNetwork] = []
            tiles = 0 if places is None else places.tiles
            for number, part in enumerate(parts, start=runs - len(parts)):
                part_progress = network_progress(
                    report, number, runs, f"{manifest.name} {Path(part.folder).name}"
                )
                place = region
                if part in selection.contesting:
                    place = merger.can_take(part.labels.values())
                    if not place.any():
                        continue
                with timed(timings, "load"):
                    network = self._network(part)
                with timed(timings, "predict"):
                    view = self._view(views, prepared, network.plan.preprocessing)
                    if view is None:
                        continue
                    one = NetworkInCt(
                        network=network,
                        view=view,
                        limits=self._limits(network),
                        merger=merger,
                        place=place,
                        suspicion=self._suspicion,
                    )
                    try:
                        summary, row = one.run(part_progress, places, region)
                    finally:
                        network.release_memory()
                timings["network"] += summary.network_s
                tiles += summary.tiles
                guided += row
                suspected.append(one.suspected_in(summary, prepared, volume.grid.shape))
                disagreement += _disagreement(summary, network, selection.requested)
            with timed(timings, "merge"):
                labels, found = prepared.restore(merger.labels()), merger.organs(self._organs)
        report(1.0, manifest.name)
        return Prediction(
            label_map=LabelMap(grid=volume.grid, labels=labels, organs=found),
            models=self.models,
            method=method,
            device=self.device,
            timings_s=timings,
            findings=overlap_finding(merger.overlaps, volume.grid.voxel_ml) + guide_finding(guided),
            disagreement=tuple(disagreement),
            not_searched=selection.not_searched,
            guided=tuple(guided),
            tiles=tiles,
            suspected=None if self._suspicion is None else join_suspected(suspected),
        )

    @property
    def _method(self) -> str:
        """The method with its parameters, for reports."""
        guided = self._settings.guided or self._guide is not None
        applied = replace(self._settings, skip_outside_body=self._skips_outside_body, guided=guided)
        method = applied.method_description + self._selection.describe(len(self._bundle.manifest.parts))
        return method if self._guide is None else method + self._guide.description

    def _view(
        self,
        views: dict[PreprocessingPlan, NetworkView | None],
        prepared: PreparedCt,
        preprocessing: PreprocessingPlan,
    ) -> NetworkView | None:
        """The CT as networks with this preprocessing see it; only the last view is kept in memory."""
        if preprocessing not in views:
            views.clear()
            orientation = self._bundle.manifest.preprocessing.orientation
            views[preprocessing] = view_for_network(prepared, preprocessing, orientation)
        return views[preprocessing]

    def _open_guide(self, run: GuidedRun) -> OpenGuide | None:
        """The guide, to find the organs of the networks that are run; None if it finds none of them."""
        guide = self._bundle.manifest.guide
        organs = {key for part in self._selection.parts for key in part.labels.values()}
        if guide is None or not organs.intersection(guide.organs):
            return None
        manifest = replace(
            self._bundle.manifest,
            parts=guide.parts,
            preprocessing=guide.preprocessing,
            mirroring=guide.mirroring,
            tile_step_size=guide.tile_step_size,
            calibration=None,
            guide=None,
        )
        predictor = StreamingPredictor(
            replace(self._bundle, manifest=manifest),
            self._organs,
            replace(self._settings, skip_outside_body=self._skips_outside_body),
            self._device,
            precision=self._precision,
            requested=organs,
            suspicion=run.suspicion,
        )
        return OpenGuide(predictor, guide, run)

    @property
    def _skips_outside_body(self) -> bool:
        if self._settings.skip_outside_body is not None:
            return self._settings.skip_outside_body
        calibration = self._bundle.manifest.calibration
        return calibration is not None and calibration.nothing_outside

    def _limits(self, network: LoadedNetwork) -> RunLimits:
        preprocessing = network.plan.preprocessing
        return RunLimits(
            step=self._bundle.manifest.tile_step_size,
            memory_budget_mb=self._settings.memory_budget_mb,
            device=self._device,
            shared=sum(other.preprocessing == preprocessing for other in self._plans.values()) > 1,
        )

    def _network(self, part: Part) -> LoadedNetwork:
        if part.folder in self._loaded:
            return self._loaded[part.folder]
        if not self._keep:
            self._loaded.clear()
        opened, plan = open_network(self._bundle, part), self._plans[part.folder]
        tile_bytes = activation_bytes(opened.network, plan.smallest_tile, plan.patch)
        forward, release_memory = self._forward(opened, plan)
        if self._bundle.manifest.mirroring and part.mirror_axes:
            forward = MirroredForward(forward, part.mirror_axes)
        self._loaded[part.folder] = LoadedNetwork(
            part=part,
            plan=plan,
            forward=forward,
            activation_bytes=tile_bytes,
            release_memory=release_memory,
        )
        return self._loaded[part.folder]

    def _forward(self, opened: PartNetwork, plan: NetworkPlan) -> tuple[Forward, Callable[[], None]]:
        """The forward pass, and the function that returns the memory it needs only while it runs."""
        if self._precision is None:
            return EagerForward(opened.network, opened.states, self._device), lambda: None
        if self._settings.backend == Backend.COMPILED:
            return CompiledForward(opened.network, opened.states, plan.patch, self._device), lambda: None
        threads = self._settings.threads or torch.get_num_threads()
        fast = OpenVinoForward(
            opened.network,
            opened.states,
            plan,
            precision=self._precision,
            threads=threads,
        )
        return fast, fast.release_memory


def _disagreement(
    summary: RunSummary, network: LoadedNetwork, requested: Collection[str]
) -> list[Disagreement]:
    if summary.fold_agreement is None:
        return []
    voxel_ml = float(np.prod(network.plan.preprocessing.spacing_mm)) / 1000.0
    return [
        summary.fold_agreement.disagreement(label, key, voxel_ml)
        for label, key in network.part.labels.items()
        if key in requested
    ]
