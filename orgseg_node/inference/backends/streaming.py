"""A bundle run by the streaming engine: nnU-Net's labels in the memory of a slab. The node's usual way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.core.body import Body
from orgseg_node.core.geometry import Box, Grid, Shape, Vector
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap, Mask, Volume
from orgseg_node.inference.backends.context import (
    Told,
    device_said,
    failures_said,
    left_said,
    portion,
    quiet,
    threads,
    timed,
)
from orgseg_node.inference.backends.forward import EagerForward, Mirrored
from orgseg_node.inference.backends.network import PartNetwork, open_network, open_plans
from orgseg_node.inference.backends.openvino import SOFTWARE, OpenVinoForward, installed_version
from orgseg_node.inference.bundles.bundle import ModelBundle, Part
from orgseg_node.inference.bundles.calibration import Precision, allowed
from orgseg_node.inference.engine.allocator import kept_memory
from orgseg_node.inference.engine.budget import activations_of, need_of, plan
from orgseg_node.inference.engine.forward import Forward
from orgseg_node.inference.engine.memory_fallback import run_where_it_fits
from orgseg_node.inference.engine.plans import Rules, Sight, read_rules
from orgseg_node.inference.engine.run import Emit, Summary, Task
from orgseg_node.inference.engine.slab import Place
from orgseg_node.inference.engine.tiles import Tiling
from orgseg_node.inference.engine.working import WorkingVolume, nonzero_box
from orgseg_node.inference.merging import Merger, overlap_finding
from orgseg_node.inference.orientation import Turn, turn_to
from orgseg_node.inference.predictor import (
    Backend,
    Disagreement,
    InferenceSettings,
    ModelIdentity,
    Prediction,
    Progress,
)
from orgseg_node.inference.preparing import Prepared, prepare

_KEEP_BYTES = 2 * 1024**3  # networks of bundles up to this size stay in memory between jobs
_SKIN_MM = 10.0  # organs are looked for so far outside of the body mask when what lies outside is skipped

_Number = TypeVar("_Number", bound=np.generic)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Model:
    """A network that is ready to run; ``rest`` gives back what it holds only while it runs."""

    part: Part
    rules: Rules
    forward: Forward
    activations: int
    rest: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Seen:
    """The CT as the networks of one preprocessing see it, and the way back to the prepared CT."""

    working: WorkingVolume
    box: Box
    spacing_mm: Vector
    transpose: Shape
    turn: Turn

    def of(self, array: NDArray[_Number]) -> NDArray[_Number]:
        """Any array on the grid of the prepared CT, turned and cut as the CT was; a view."""
        return self.turn.array(array).transpose(self.transpose)[self.box.slices]


class StreamingPredictor:
    """Runs the networks of one bundle slab by slab.

    Parameters
    ----------
    bundle : an opened and verified bundle
    organs : the organ table
    settings : memory, backend, threads
    device : where to run
    precision : of the fast mode; None for that of the bundle's calibration, without which it is refused

    Raises
    ------
    NotStreamable
        If a network of the bundle is of a kind that the engine does not know.
    FastModeMissing, NotCalibrated
        If the fast mode is asked for and OpenVINO is not installed, or if no precision is given and the
        bundle has no good calibration with this version of it.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        organs: OrganTable,
        settings: InferenceSettings,
        device: torch.device,
        *,
        precision: Precision | None = None,
    ) -> None:
        self._bundle = bundle
        self._organs = organs
        self._settings = settings
        self._device = device
        self._keep = bundle.size_bytes <= _KEEP_BYTES
        self._loaded: dict[str, _Model] = {}
        self._precision: Precision | None = None
        if settings.backend == Backend.FAST:
            self._precision = precision or _calibrated(bundle)
        self._rules = {part.folder: read_rules(*open_plans(bundle, part)) for part in bundle.manifest.parts}

    @property
    def models(self) -> tuple[ModelIdentity, ...]:
        """The bundle it runs."""
        return (self._bundle.identity,)

    @property
    def device(self) -> str:
        """What it runs on, in words."""
        said = device_said(self._device, self._settings.threads)
        if self._precision is not None:
            said += f", OpenVINO {installed_version()} {self._precision}"
        return said

    def predict(self, volume: Volume, body: Body, progress: Progress) -> Prediction:
        """Label every voxel of a CT with every network of the bundle.

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
        method = replace(settings, skip_outside_body=self._skips).method_said  # what is done, not asked for
        timings = {"prepare": 0.0, "load": 0.0, "predict": 0.0, "merge": 0.0, "network": 0.0}
        with failures_said(), threads(settings.threads), quiet(progress) as said, kept_memory():
            _log.info(
                "segmenting",
                device=self.device,
                method=method,
                model=manifest.name,
                version=manifest.version,
            )
            with timed(timings, "prepare"):
                prepared = prepare(volume, body, manifest.preprocessing)
                inside = around(prepared.mask, prepared.volume.grid) if self._skips else None
            merger = Merger(prepared.volume.grid.shape, manifest.priorities)
            disagreement: list[Disagreement] = []
            seen: dict[Sight, _Seen | None] = {}
            for number, part in enumerate(manifest.parts):
                told = portion(said, number, len(manifest.parts), f"{manifest.name} {Path(part.folder).name}")
                with timed(timings, "load"):
                    model = self._model(part)
                with timed(timings, "predict"):
                    sight = model.rules.sight
                    if sight not in seen:
                        seen = {sight: _see(prepared, sight, manifest.preprocessing.orientation)}
                    view = seen[sight]
                    if view is None:
                        continue
                    emit, here = _claims(merger, part, view), None if inside is None else view.of(inside)
                    try:
                        found = self._run(model, view, here, told, emit)
                    finally:
                        model.rest()
                timings["network"] += found.network_s
                disagreement += _disagreement(found, model)
            with timed(timings, "merge"):
                labels_found = prepared.restore(merger.labels())
        said(1.0, manifest.name)
        return Prediction(
            label_map=LabelMap(grid=volume.grid, labels=labels_found, organs=merger.organs(self._organs)),
            models=self.models,
            method=method,
            device=self.device,
            timings_s=timings,
            findings=overlap_finding(merger.contested, volume.grid.voxel_ml),
            disagreement=tuple(disagreement),
        )

    @property
    def _skips(self) -> bool:
        if self._settings.skip_outside_body is not None:
            return self._settings.skip_outside_body
        calibration = self._bundle.manifest.calibration
        return calibration is not None and calibration.nothing_outside

    def _model(self, part: Part) -> _Model:
        if part.folder in self._loaded:
            return self._loaded[part.folder]
        if not self._keep:
            self._loaded.clear()
        found, rules = open_network(self._bundle, part), self._rules[part.folder]
        activations = activations_of(found.network, rules.smallest_tile, rules.patch)
        forward, rest = self._forward(found, rules)
        if self._bundle.manifest.mirroring and part.mirror_axes:
            forward = Mirrored(forward, part.mirror_axes)
        self._loaded[part.folder] = _Model(
            part=part, rules=rules, forward=forward, activations=activations, rest=rest
        )
        return self._loaded[part.folder]

    def _forward(self, found: PartNetwork, rules: Rules) -> tuple[Forward, Callable[[], None]]:
        """What computes its tiles, and what gives back the memory it holds meanwhile."""
        if self._precision is None:
            return EagerForward(found.network, found.states, self._device), lambda: None
        threads = self._settings.threads or torch.get_num_threads()
        fast = OpenVinoForward(
            found.network,
            found.states,
            rules,
            precision=self._precision,
            threads=threads,
        )
        return fast, fast.rest

    def _run(self, model: _Model, view: _Seen, inside: Mask | None, told: Told, emit: Emit) -> Summary:
        """One network over the CT, in the memory that the plan allows."""
        rules = model.rules
        tiling = Tiling.over(view.working.shape, rules.patch, self._bundle.manifest.tile_step_size)
        need = need_of(tiling, rules.heads, model.forward.folds, model.activations, view.box.shape)
        shared = sum(other.sight == rules.sight for other in self._rules.values()) > 1
        chosen = plan(need, self._settings.memory_budget_mb, self._device, shared=shared)
        _log.info(
            "memory planned",
            part=model.part.folder,
            accumulators=chosen.place.value,
            hold_working_volume=chosen.hold,
            need_mb=chosen.need_mb,
            budget_mb=chosen.budget_mb,
        )
        if chosen.hold:
            view.working.hold()
        task = Task(
            working=view.working,
            back=rules.regrid(view.working.shape, view.box.shape, view.spacing_mm),
            tiling=tiling,
            regions=rules.regions,
            inside=inside,
            place=chosen.place,
            ahead=self._device.type == "cuda",
        )

        room = need.host(Place.HOST, cuda=True, hold=chosen.hold) <= chosen.budget_mb << 20
        spare = [replace(task, place=Place.HOST)] if chosen.place == Place.DEVICE and room else []

        def tell(done: int, of: int, left_s: float) -> None:
            told(done / of, left_said(left_s))

        return run_where_it_fits([task, *spare], model.forward, rules.heads, tell, emit)


def _calibrated(bundle: ModelBundle) -> Precision:
    """The precision in which the fast mode was measured on a bundle and found good enough."""
    manifest = bundle.manifest
    return allowed(manifest.name, manifest.calibration, SOFTWARE, installed_version()).precision


def _see(prepared: Prepared, sight: Sight, orientation: str) -> _Seen | None:
    """The prepared CT as networks of one sight see it; None where all of it is 0 and nnU-Net sees nothing."""
    turn = turn_to(prepared.volume.grid, orientation)
    hu = turn.array(prepared.volume.hu).transpose(sight.transpose)
    box = nonzero_box(hu)
    if box is None:
        return None
    turned = turn.grid(prepared.volume.grid).spacing_mm
    spacing = (turned[sight.transpose[0]], turned[sight.transpose[1]], turned[sight.transpose[2]])
    working = WorkingVolume(hu[box.slices], sight.intensities, sight.regrid(box.shape, spacing))
    return _Seen(working=working, box=box, spacing_mm=spacing, transpose=sight.transpose, turn=turn)


def _claims(merger: Merger, part: Part, view: _Seen) -> Emit:
    """Where the labels of a network go: plane by plane into the merged organs."""
    ranks, held = merger.ranks(part.labels), view.of(merger.claims)
    return lambda k, labels: merger.claim(labels, ranks, held[k])


def around(mask: Mask, grid: Grid) -> Mask:
    """The patient and 10 mm around, which is where organs are looked for when what lies outside is skipped.

    Parameters
    ----------
    mask : (K, J, I) bool, true inside the patient
    grid : of the mask

    Returns
    -------
    (K, J, I) bool
    """
    near = mask.view(np.uint8)
    for axis, spacing in enumerate(grid.spacing_mm):
        reach = round(_SKIN_MM / spacing)
        if reach:
            near = ndimage.maximum_filter1d(near, 2 * reach + 1, axis=axis, mode="constant")
    found: Mask = near.view(np.bool_)
    return found


def _disagreement(found: Summary, model: _Model) -> list[Disagreement]:
    if found.tally is None:
        return []
    voxel_ml = float(np.prod(model.rules.sight.spacing_mm)) / 1000.0
    return [found.tally.of(label, key, voxel_ml) for label, key in model.part.labels.items()]
