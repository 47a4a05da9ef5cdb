"""A bundle run by the streaming engine, the default: nnU-Net's labels, in the memory of one slab."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import structlog
import torch

from orgseg_node.core.body import Body
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap, Mask, Volume
from orgseg_node.inference.backends.context import (
    coded_errors,
    describe_device,
    describe_time_left,
    network_progress,
    prints_to_stderr,
    timed,
    torch_threads,
)
from orgseg_node.inference.backends.forward import EagerForward, MirroredForward
from orgseg_node.inference.backends.network import PartNetwork, open_network, open_plans
from orgseg_node.inference.backends.network_view import NetworkView, view_for_network
from orgseg_node.inference.backends.openvino import SOFTWARE, OpenVinoForward, installed_version
from orgseg_node.inference.bundles.bundle import ModelBundle, Part
from orgseg_node.inference.bundles.calibration import Precision, require_calibration
from orgseg_node.inference.engine.allocator import keep_freed_memory
from orgseg_node.inference.engine.budget import (
    MemoryNeed,
    MemoryPlan,
    activation_bytes,
    estimate_memory,
    plan_memory,
)
from orgseg_node.inference.engine.forward import Forward
from orgseg_node.inference.engine.memory_fallback import run_with_fallback
from orgseg_node.inference.engine.plans import NetworkPlan, PreprocessingPlan, read_network_plan
from orgseg_node.inference.engine.run import LabellingTask, PlaneCallback, RunSummary
from orgseg_node.inference.engine.slab import AccumulatorStorage
from orgseg_node.inference.engine.tiles import Tiling
from orgseg_node.inference.merging import Merger, overlap_finding, rank_organs
from orgseg_node.inference.predictor import (
    Backend,
    Disagreement,
    InferenceSettings,
    ModelIdentity,
    Prediction,
    ProgressCallback,
)
from orgseg_node.inference.preparing import SEARCH_MARGIN_MM, dilate_mm, prepare_ct
from orgseg_node.inference.subset import select_networks

_KEEP_BYTES = 2 * 1024**3  # networks of bundles up to this size stay in memory between jobs

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _LoadedNetwork:
    """A network that is ready to run; ``release_memory`` returns memory that it needs only while it runs."""

    part: Part
    plan: NetworkPlan
    forward: Forward
    activation_bytes: int
    release_memory: Callable[[], None]


class StreamingPredictor:
    """Runs the networks of one bundle slab by slab.

    Parameters
    ----------
    bundle : an opened and verified bundle
    organs : the organ table
    settings : memory, backend, threads
    device : the device to run on
    precision : of the fast mode; None for the one of the bundle's calibration, which is then required
    requested : keys of the organs that the result must have; see `select_networks`. None for all

    Raises
    ------
    NotStreamable
        If the engine does not support a network of the bundle.
    FastModeMissing, NotCalibrated
        If the settings ask for the fast mode and OpenVINO is not installed, or if no precision is given and
        the bundle has no sufficient calibration with this version of OpenVINO.
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
    ) -> None:
        self._bundle = bundle
        self._organs = organs
        self._settings = settings
        self._device = device
        self._keep = bundle.size_bytes <= _KEEP_BYTES
        self._loaded: dict[str, _LoadedNetwork] = {}
        self._precision: Precision | None = None
        manifest = bundle.manifest
        self._selection = select_networks(manifest.parts, rank_organs(manifest.priorities), requested)
        if settings.backend == Backend.FAST:
            self._precision = precision or _calibrated_precision(bundle)
        self._plans = {
            part.folder: read_network_plan(*open_plans(bundle, part)) for part in self._selection.parts
        }

    @property
    def models(self) -> tuple[ModelIdentity, ...]:
        """The bundle it runs."""
        return (self._bundle.identity,)

    @property
    def device(self) -> str:
        """The device and, in the fast mode, the version and precision of OpenVINO, for reports."""
        device = describe_device(self._device, self._settings.threads)
        if self._precision is not None:
            device += f", OpenVINO {installed_version()} {self._precision}"
        return device

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
        applied = replace(settings, skip_outside_body=self._skips_outside_body)
        selection = self._selection
        method = applied.method_description + selection.describe(len(manifest.parts))
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
            disagreement: list[Disagreement] = []
            views: dict[PreprocessingPlan, NetworkView | None] = {}
            for number, part in enumerate(selection.parts):
                part_progress = network_progress(
                    report, number, len(selection.parts), f"{manifest.name} {Path(part.folder).name}"
                )
                place = region
                if part in selection.contesting:
                    place = merger.can_take(part.labels.values())
                    if not place.any():
                        continue
                with timed(timings, "load"):
                    network = self._network(part)
                with timed(timings, "predict"):
                    preprocessing = network.plan.preprocessing
                    if preprocessing not in views:  # only the last view is kept in memory
                        orientation = manifest.preprocessing.orientation
                        views = {preprocessing: view_for_network(prepared, preprocessing, orientation)}
                    view = views[preprocessing]
                    if view is None:
                        continue
                    part_region = None if place is None else view.of(place)
                    on_plane = _merge_into(merger, part, view)
                    try:
                        summary = self._run(network, view, part_region, part_progress, on_plane)
                    finally:
                        network.release_memory()
                timings["network"] += summary.network_s
                disagreement += _disagreement(summary, network, selection.requested)
            with timed(timings, "merge"):
                labels = prepared.restore(merger.labels())
        report(1.0, manifest.name)
        return Prediction(
            label_map=LabelMap(grid=volume.grid, labels=labels, organs=merger.organs(self._organs)),
            models=self.models,
            method=method,
            device=self.device,
            timings_s=timings,
            findings=overlap_finding(merger.overlaps, volume.grid.voxel_ml),
            disagreement=tuple(disagreement),
            not_searched=selection.not_searched,
        )

    @property
    def _skips_outside_body(self) -> bool:
        if self._settings.skip_outside_body is not None:
            return self._settings.skip_outside_body
        calibration = self._bundle.manifest.calibration
        return calibration is not None and calibration.nothing_outside

    def _network(self, part: Part) -> _LoadedNetwork:
        if part.folder in self._loaded:
            return self._loaded[part.folder]
        if not self._keep:
            self._loaded.clear()
        opened, plan = open_network(self._bundle, part), self._plans[part.folder]
        tile_bytes = activation_bytes(opened.network, plan.smallest_tile, plan.patch)
        forward, release_memory = self._forward(opened, plan)
        if self._bundle.manifest.mirroring and part.mirror_axes:
            forward = MirroredForward(forward, part.mirror_axes)
        self._loaded[part.folder] = _LoadedNetwork(
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
        threads = self._settings.threads or torch.get_num_threads()
        fast = OpenVinoForward(
            opened.network,
            opened.states,
            plan,
            precision=self._precision,
            threads=threads,
        )
        return fast, fast.release_memory

    def _run(
        self,
        network: _LoadedNetwork,
        view: NetworkView,
        region: Mask | None,
        on_progress: ProgressCallback,
        on_plane: PlaneCallback,
    ) -> RunSummary:
        """Run one network over the CT, within the memory budget."""
        plan = network.plan
        tiling = Tiling.covering(view.working.shape, plan.patch, self._bundle.manifest.tile_step_size)
        need = estimate_memory(
            tiling, plan.heads, network.forward.folds, network.activation_bytes, view.box.shape
        )
        shared = sum(other.preprocessing == plan.preprocessing for other in self._plans.values()) > 1
        memory = plan_memory(need, self._settings.memory_budget_mb, self._device, shared=shared)
        _log.info(
            "memory planned",
            part=network.part.folder,
            accumulators=memory.accumulators.value,
            keep_working_volume=memory.keep_working_volume,
            need_mb=memory.need_mb,
            budget_mb=memory.budget_mb,
        )
        if memory.keep_working_volume:
            view.working.precompute()
        task = LabellingTask(
            working=view.working,
            to_ct=plan.regrid(view.working.shape, view.box.shape, view.spacing_mm),
            tiling=tiling,
            regions=plan.regions,
            region=region,
            accumulators=memory.accumulators,
            prefetch=self._device.type == "cuda",
        )

        def on_tile(done: int, total: int, seconds_left: float) -> None:
            on_progress(done / total, describe_time_left(seconds_left))

        tasks = [task, *_fallback_tasks(task, need, memory)]
        return run_with_fallback(tasks, network.forward, plan.heads, on_tile, on_plane)


def _fallback_tasks(task: LabellingTask, need: MemoryNeed, memory: MemoryPlan) -> list[LabellingTask]:
    """The task with its accumulators in main memory, if they are planned on the GPU and would fit there."""
    if memory.accumulators != AccumulatorStorage.DEVICE:
        return []
    in_main_memory = need.host_bytes(
        AccumulatorStorage.HOST, cuda=True, keep_working_volume=memory.keep_working_volume
    )
    if in_main_memory > memory.budget_mb << 20:
        return []
    return [replace(task, accumulators=AccumulatorStorage.HOST)]


def _calibrated_precision(bundle: ModelBundle) -> Precision:
    """The precision of the fast mode that the calibration of a bundle allows."""
    manifest = bundle.manifest
    return require_calibration(manifest.name, manifest.calibration, SOFTWARE, installed_version()).precision


def _merge_into(merger: Merger, part: Part, view: NetworkView) -> PlaneCallback:
    """The callback that merges the labels of a network into the label map, plane by plane."""
    ranks, merged = merger.rank_table(part.labels), view.of(merger.rank_map)
    return lambda k, labels: merger.merge(labels, ranks, merged[k])


def _disagreement(
    summary: RunSummary, network: _LoadedNetwork, requested: Collection[str]
) -> list[Disagreement]:
    if summary.fold_agreement is None:
        return []
    voxel_ml = float(np.prod(network.plan.preprocessing.spacing_mm)) / 1000.0
    return [
        summary.fold_agreement.disagreement(label, key, voxel_ml)
        for label, key in network.part.labels.items()
        if key in requested
    ]
