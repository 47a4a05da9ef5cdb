"""How much memory a run needs, and where its accumulators are stored; decided before it starts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import psutil
import torch

from orgseg_node.core.geometry import Shape
from orgseg_node.errors import BudgetTooSmall, OutOfMemory
from orgseg_node.inference.engine.available import free_memory
from orgseg_node.inference.engine.label_planes import INTERPOLATED_BYTES
from orgseg_node.inference.engine.slab import AccumulatorStorage, planes_at_once
from orgseg_node.inference.engine.tiles import Tiling

_MB: Final = 1 << 20
_SHARE: Final = 0.9  # of the free memory; the rest is for other steps and for the system
_CHANNELS: Final = 16  # oneDNN pads the number of channels to a multiple of this
_FRAGMENTATION: Final = 1.3  # memory that is kept for the next tile is reused with gaps
_SLICES: Final = 128  # slices of the CT in float64 while working planes are computed
_COMPARED: Final = 40  # bytes by voxel while the largest logits are found
_COUNTED: Final = 10  # bytes by voxel for each fold and pair of folds while their agreement is counted
_GPU: Final = torch.device("cuda")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed:
    """Memory that a run needs in addition to what the process already uses, in bytes.

    Attributes
    ----------
    slab : accumulators of one fold
    folds : number of folds
    tile : of the network while it computes a tile, its logits included
    image : of the working planes of the current slab
    plane : of one final plane while the folds are averaged, compared and labelled
    waiting : of the final planes that wait for their labels while a GPU computes the next tiles
    working : of the whole working volume, if it is kept for other networks
    output : of the labels
    """

    slab: int
    folds: int
    tile: int
    image: int
    plane: int
    waiting: int
    working: int
    output: int

    def host_bytes(self, accumulators: AccumulatorStorage, *, cuda: bool, keep_working_volume: bool) -> int:
        """Bytes of main memory.

        Parameters
        ----------
        accumulators : where they are stored; of those in a file, one fold is in main memory at a time
        cuda : whether the network runs on a GPU
        keep_working_volume : whether the whole working volume is kept for other networks
        """
        slabs = {
            AccumulatorStorage.DEVICE: 0 if cuda else self.folds,
            AccumulatorStorage.HOST: self.folds,
            AccumulatorStorage.FILE: 1,
        }[accumulators]
        return (
            slabs * self.slab
            + (0 if cuda else self.tile)
            + self.image
            + (0 if accumulators == AccumulatorStorage.DEVICE and cuda else self.plane)
            + (self.waiting if accumulators == AccumulatorStorage.HOST and cuda else 0)
            + (self.working if keep_working_volume else 0)
            + self.output
        )

    @property
    def device_bytes(self) -> int:
        """Bytes of GPU memory if the accumulators are stored there as well."""
        labelled = planes_at_once(_GPU) * self.plane + self.waiting + INTERPOLATED_BYTES
        return self.folds * self.slab + self.tile + self.image + labelled


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Where the data of a run is stored.

    Attributes
    ----------
    accumulators : where the accumulators are stored
    keep_working_volume : whether the working volume is kept for other networks with the same preprocessing
    need_mb : main memory that the run needs, in addition to what the process already uses
    budget_mb : main memory that the run may use
    """

    accumulators: AccumulatorStorage
    keep_working_volume: bool
    need_mb: int
    budget_mb: int


def estimate_memory(tiling: Tiling, heads: int, folds: int, activations: int, ct: Shape) -> MemoryNeed:
    """The memory that a run needs.

    Parameters
    ----------
    tiling : the tiles
    heads : number of output channels of the network
    folds : number of folds
    activations : bytes, see `activation_bytes`
    ct : shape of the cropped CT, axes of the network
    """
    _, rows, columns = tiling.padded_shape
    planes = tiling.patch[0] * rows * columns
    compared = _COMPARED + (_COUNTED * folds * (folds + 1) // 2 if folds > 1 else 0)
    return MemoryNeed(
        slab=2 * heads * planes + 2 * planes,
        folds=folds,
        tile=activations,
        image=2 * 4 * planes + 8 * _SLICES * max(rows * columns, ct[1] * columns),
        plane=(2 * heads * (folds + 1) + compared) * rows * columns,
        waiting=2 * heads * rows * columns * tiling.planes_of_a_step,
        working=4 * math.prod(tiling.shape),
        output=3 * math.prod(ct),
    )


def plan_memory(need: MemoryNeed, budget_mb: int | None, device: torch.device, *, shared: bool) -> MemoryPlan:
    """The fastest choice that stays within the budget.

    Parameters
    ----------
    need : memory that the run needs
    budget_mb : limit of the main memory of the whole process; None for nearly all free memory
    device : of the network
    shared : whether other networks use the same working volume

    Raises
    ------
    BudgetTooSmall
        If a budget is set and every choice needs more.
    OutOfMemory
        If no budget is set and every choice needs more than is free.
    """
    used_mb = psutil.Process().memory_info().rss // _MB
    allowed_mb = (budget_mb or used_mb + int(_SHARE * free_memory() / _MB)) - used_mb
    cuda = device.type == "cuda"
    choices = [
        (storage, keep)
        for storage in _storages(need, device)
        for keep in ([True, False] if shared else [False])
    ]
    for storage, keep in choices:
        needed_mb = -(-need.host_bytes(storage, cuda=cuda, keep_working_volume=keep) // _MB)
        if needed_mb <= allowed_mb:
            return MemoryPlan(
                accumulators=storage, keep_working_volume=keep, need_mb=needed_mb, budget_mb=allowed_mb
            )
    refusal = OutOfMemory if budget_mb is None else BudgetTooSmall
    raise refusal(
        f"It needs about {used_mb + needed_mb} MB of main memory; {used_mb + allowed_mb} MB are allowed."
    )


def _storages(need: MemoryNeed, device: torch.device) -> tuple[AccumulatorStorage, ...]:
    if device.type != "cuda":
        return (AccumulatorStorage.HOST, AccumulatorStorage.FILE)
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # kept, to be used again
    return (
        (AccumulatorStorage.DEVICE, AccumulatorStorage.HOST)
        if need.device_bytes <= _SHARE * free
        else (AccumulatorStorage.HOST,)
    )


def activation_bytes(network: torch.nn.Module, tile: Shape, patch: Shape) -> int:
    """Largest number of bytes that a network needs while it computes a tile, its logits included.

    The network is run once on a small tile and the result is scaled up. Counted are the input and output of
    the largest layer, each twice because oneDNN reorders them (1x1x1 layers need their input twice and their
    output once), and two more of the largest outputs for skip connections that are still to be concatenated.

    Parameters
    ----------
    network : in evaluation mode, on the CPU
    tile : shape of the small tile, see `NetworkPlan.smallest_tile`
    patch : shape of the tile to estimate for
    """
    layers, outputs = [0], [0]

    def record(layer: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if math.prod(layer.kernel_size) == 1:
            layers.append(4 * (2 * inputs[0].numel() + output.numel()))
            return
        before, after = (4 * _rounded(t.shape) for t in (inputs[0], output))
        layers.append(2 * (before + after))
        outputs.append(after)

    convolutions = (torch.nn.Conv3d, torch.nn.ConvTranspose3d)
    hooks = [m.register_forward_hook(record) for m in network.modules() if isinstance(m, convolutions)]
    try:
        with torch.inference_mode():
            network(torch.zeros((1, 1, *tile)))
    finally:
        for hook in hooks:
            hook.remove()
    larger = math.prod(patch) / math.prod(tile)
    return math.ceil(_FRAGMENTATION * larger * (max(layers) + 2 * max(outputs)))


def _rounded(shape: torch.Size) -> int:
    _, channels, *rest = shape
    return -(-channels // _CHANNELS) * _CHANNELS * math.prod(rest)
