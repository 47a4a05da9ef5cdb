"""One loaded network over the prepared CT, or over a window of it, within the memory budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog
import torch

from orgseg_node.core.volume import Mask
from orgseg_node.inference.backends.context import describe_time_left
from orgseg_node.inference.backends.network_view import NetworkView
from orgseg_node.inference.bundles.bundle import Part
from orgseg_node.inference.engine.budget import MemoryNeed, MemoryPlan, estimate_memory, plan_memory
from orgseg_node.inference.engine.forward import Forward
from orgseg_node.inference.engine.label_planes import PlaneCallback, axes_within
from orgseg_node.inference.engine.layout import TileWindow
from orgseg_node.inference.engine.memory_fallback import run_with_fallback
from orgseg_node.inference.engine.plans import NetworkPlan
from orgseg_node.inference.engine.run import LabellingTask, RunSummary
from orgseg_node.inference.engine.slab import AccumulatorStorage
from orgseg_node.inference.engine.tiles import Tiling
from orgseg_node.inference.engine.working import WorkingPart
from orgseg_node.inference.predictor import ProgressCallback

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadedNetwork:
    """A network that is ready to run.

    Attributes
    ----------
    part : as the manifest describes it
    plan : its input and output
    forward : its forward pass
    activation_bytes : see `engine.budget.activation_bytes`
    release_memory : returns memory that it needs only while it runs
    """

    part: Part
    plan: NetworkPlan
    forward: Forward
    activation_bytes: int
    release_memory: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimits:
    """How networks are run.

    Attributes
    ----------
    step : ``tile_step_size`` of the bundle
    memory_budget_mb : see `InferenceSettings`
    device : of the networks
    shared : whether several networks use the same working volume
    """

    step: float
    memory_budget_mb: int | None
    device: torch.device
    shared: bool

    def tiling(self, network: LoadedNetwork, view: NetworkView) -> Tiling:
        """The tiles of nnU-Net's sliding window over the whole CT."""
        return Tiling.covering(view.working.shape, network.plan.patch, self.step)


def run_loaded(  # noqa: PLR0913  # all of them are one run
    network: LoadedNetwork,
    view: NetworkView,
    limits: RunLimits,
    on_progress: ProgressCallback,
    on_plane: PlaneCallback,
    *,
    region: Mask | None,
    window: TileWindow | None = None,
    suspicion: float | None = None,
) -> RunSummary:
    """Run one network over the CT.

    Parameters
    ----------
    network : see `LoadedNetwork`
    view : the CT as it sees it
    limits : tiles and memory
    on_progress : called after each tile; may raise to stop
    on_plane : see `PlaneCallback`
    region : (K, J, I) bool on the grid of the view; see `LabellingTask`
    window : the part of the CT to label; None for all of it
    suspicion : see `LabellingTask`

    Raises
    ------
    BudgetTooSmall, OutOfMemory
        If there is too little memory.
    """
    plan = network.plan
    whole = limits.tiling(network, view)
    to_ct = plan.regrid(view.working.shape, view.box.shape, view.spacing_mm)

    def need_of(tiling: Tiling) -> MemoryNeed:
        return estimate_memory(
            tiling, plan.heads, network.forward.folds, network.activation_bytes, view.box.shape
        )

    need = need_of(whole)
    if window is not None:
        inside = need_of(window.tiling)
        need = replace(need, slab=inside.slab, plane=inside.plane, waiting=inside.waiting)
    memory = plan_memory(need, limits.memory_budget_mb, limits.device, shared=limits.shared)
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
    if window is not None and region is not None:
        region = region[axes_within(to_ct, window.inner)[0]]
    task = LabellingTask(
        working=view.working if window is None else WorkingPart(view.working, window.covered),
        to_ct=to_ct,
        tiling=whole if window is None else window.tiling,
        regions=plan.regions,
        region=region,
        accumulators=memory.accumulators,
        overlap=limits.device.type == "cuda",
        window=window,
        suspicion=suspicion,
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
