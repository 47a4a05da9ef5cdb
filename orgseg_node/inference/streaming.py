"""A bundle run by the streaming engine: nnU-Net's labels in the memory of a slab. The node's usual way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.core.body import Body
from orgseg_node.core.geometry import Box, Shape, Vector
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap, Mask, Volume
from orgseg_node.inference.bundle import ModelBundle, Part
from orgseg_node.inference.context import Told, device_said, failures_said, portion, quiet, threads, timed
from orgseg_node.inference.engine.allocator import kept_memory
from orgseg_node.inference.engine.budget import activations_of, need_of, plan
from orgseg_node.inference.engine.forward import EagerForward, Forward, Mirrored
from orgseg_node.inference.engine.plans import Rules, Sight, read_rules
from orgseg_node.inference.engine.run import Labelled, Task, run
from orgseg_node.inference.engine.slab import Place
from orgseg_node.inference.engine.tiles import Tiling
from orgseg_node.inference.engine.working import WorkingVolume, nonzero_box
from orgseg_node.inference.network import open_network, open_plans
from orgseg_node.inference.orientation import Turn, turn_to
from orgseg_node.inference.predictor import (
    Disagreement,
    InferenceSettings,
    Merger,
    ModelIdentity,
    Prediction,
    Progress,
    overlap_finding,
)
from orgseg_node.inference.preparing import Prepared, prepare

_KEEP_BYTES = 2 * 1024**3  # networks of bundles up to this size stay in memory between jobs
_SKIN_MM = 10.0  # organs are looked for so far outside of the body mask when what lies outside is skipped

_EVERYWHERE = (slice(None), slice(None), slice(None))

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Model:
    """A network that is ready to run."""

    part: Part
    rules: Rules
    forward: Forward
    activations: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Seen:
    """The CT as the networks of one preprocessing see it, and the way back to the prepared CT."""

    working: WorkingVolume
    box: Box
    shape: Shape
    spacing_mm: Vector
    transpose: Shape
    turn: Turn

    def back(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Labels on the grid of the prepared CT; 0 where it was 0."""
        whole = np.zeros(self.shape, dtype=labels.dtype)
        whole[self.box.slices] = labels
        return self.turn.back(whole.transpose(np.argsort(self.transpose)))

    def mask(self, mask: Mask) -> Mask:
        """A mask of the prepared CT, cut and turned as the CT was."""
        return self.turn.array(mask).transpose(self.transpose)[self.box.slices]


class StreamingPredictor:
    """Runs the networks of one bundle slab by slab.

    Parameters
    ----------
    bundle : an opened and verified bundle
    organs : the organ table
    settings : memory, backend, threads
    device : where to run

    Raises
    ------
    NotStreamable
        If a network of the bundle is of a kind that the engine does not know.
    """

    def __init__(
        self, bundle: ModelBundle, organs: OrganTable, settings: InferenceSettings, device: torch.device
    ) -> None:
        self._bundle = bundle
        self._organs = organs
        self._settings = settings
        self._device = device
        self._keep = bundle.size_bytes <= _KEEP_BYTES
        self._loaded: dict[str, _Model] = {}
        self._rules = {part.folder: read_rules(*open_plans(bundle, part)) for part in bundle.manifest.parts}

    @property
    def models(self) -> tuple[ModelIdentity, ...]:
        """The bundle it runs."""
        return (self._bundle.identity,)

    @property
    def device(self) -> str:
        """What it runs on, in words."""
        return device_said(self._device, self._settings.threads)

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
        timings = {"prepare": 0.0, "load": 0.0, "predict": 0.0, "merge": 0.0, "network": 0.0}
        with failures_said(), threads(settings.threads), quiet(progress) as said, kept_memory():
            _log.info(
                "segmenting",
                device=self.device,
                method=settings.method_said,
                model=manifest.name,
                version=manifest.version,
            )
            with timed(timings, "prepare"):
                prepared = prepare(volume, body, manifest.preprocessing)
                inside = _around(prepared) if self._skips else None
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
                    found = None if view is None else self._run(model, view, inside, told)
                if view is None or found is None:
                    continue
                timings["network"] += found.network_s
                with timed(timings, "merge"):
                    merger.add(view.back(found.labels), part.labels, _EVERYWHERE)
                    disagreement += _disagreement(found, model)
            labels_found = prepared.restore(merger.labels())
        said(1.0, manifest.name)
        return Prediction(
            label_map=LabelMap(grid=volume.grid, labels=labels_found, organs=merger.organs(self._organs)),
            models=self.models,
            method=settings.method_said,
            device=self.device,
            timings_s=timings,
            findings=overlap_finding(merger.contested, volume.grid.voxel_ml),
            disagreement=tuple(disagreement),
        )

    @property
    def _skips(self) -> bool:
        return bool(self._settings.skip_outside_body)

    def _model(self, part: Part) -> _Model:
        if part.folder in self._loaded:
            return self._loaded[part.folder]
        if not self._keep:
            self._loaded.clear()
        found, rules = open_network(self._bundle, part), self._rules[part.folder]
        activations = activations_of(found.network, rules.patch)
        forward: Forward = EagerForward(found.network, found.states, self._device)
        if self._bundle.manifest.mirroring and part.mirror_axes:
            forward = Mirrored(forward, part.mirror_axes)
        self._loaded[part.folder] = _Model(part=part, rules=rules, forward=forward, activations=activations)
        return self._loaded[part.folder]

    def _run(self, model: _Model, view: _Seen, inside: Mask | None, told: Told) -> Labelled:
        """One network over the CT, in the memory that the plan allows."""
        rules = model.rules
        tiling = Tiling.over(view.working.shape, rules.patch, self._bundle.manifest.tile_step_size)
        need = need_of(tiling, rules.heads, model.forward.folds, model.activations, view.shape)
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
            inside=None if inside is None else view.mask(inside),
            place=chosen.place,
        )

        def tell(done: int, of: int, left_s: float) -> None:
            told(done / of, f", about {left_s:.0f} s left")

        try:
            return run(task, model.forward, rules.heads, tell)
        except torch.OutOfMemoryError:
            if task.place != Place.DEVICE or self._device.type != "cuda":
                raise
        _log.warning("the GPU is out of memory; its sums go to main memory", part=model.part.folder)
        torch.cuda.empty_cache()
        return run(replace(task, place=Place.HOST), model.forward, rules.heads, tell)


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
    return _Seen(
        working=working, box=box, shape=hu.shape, spacing_mm=spacing, transpose=sight.transpose, turn=turn
    )


def _around(prepared: Prepared) -> Mask:
    """The patient and a little around."""
    near = prepared.mask.view(np.uint8)
    for axis, spacing in enumerate(prepared.volume.grid.spacing_mm):
        reach = round(_SKIN_MM / spacing)
        if reach:
            near = ndimage.maximum_filter1d(near, 2 * reach + 1, axis=axis, mode="constant")
    around: Mask = near.view(np.bool_)
    return around


def _disagreement(found: Labelled, model: _Model) -> list[Disagreement]:
    if found.tally is None:
        return []
    voxel_ml = float(np.prod(model.rules.sight.spacing_mm)) / 1000.0
    return [found.tally.of(label, key, voxel_ml) for label, key in model.part.labels.items()]
