"""How much memory a run needs, and where its accumulators can lie; decided before it starts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import psutil
import torch

from orgseg_node.core.geometry import Shape
from orgseg_node.errors import BudgetTooSmall, OutOfMemory
from orgseg_node.inference.engine.available import free_memory
from orgseg_node.inference.engine.slab import Place
from orgseg_node.inference.engine.tiles import Tiling

_MB: Final = 1 << 20
_SHARE: Final = 0.9  # of what is free; the rest is for the other steps and for the system
_CHANNELS: Final = 16  # oneDNN rounds channels up to this
_FRAGMENTS: Final = 1.3  # blocks that are kept for the next tile do not fit into each other perfectly
_SLICES: Final = 128  # slices of the CT in double precision while working planes are made


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a run needs beside what the process already holds, in bytes.

    Attributes
    ----------
    slab : accumulators of one fold
    folds : number of folds
    tile : of the network while it computes a tile, and of its result
    image : of the working planes that are open
    working : of the whole working volume, if it is held for other networks
    output : of the labels
    """

    slab: int
    folds: int
    tile: int
    image: int
    working: int
    output: int

    def host(self, place: Place, *, cuda: bool, hold: bool) -> int:
        """Bytes of main memory. Of accumulators in a file one fold's lie in main memory at a time."""
        slabs = {Place.DEVICE: 0 if cuda else self.folds, Place.HOST: self.folds, Place.FILE: 1}[place]
        return (
            slabs * self.slab
            + (0 if cuda else self.tile)
            + self.image
            + (self.working if hold else 0)
            + self.output
        )

    @property
    def on_device(self) -> int:
        """Bytes of GPU memory when the accumulators lie there too."""
        return self.folds * self.slab + self.tile + self.image


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Where things lie.

    Attributes
    ----------
    place : of the accumulators
    hold : whether the working volume is kept for networks that see the same one
    need_mb : of main memory, beside what the process holds already
    budget_mb : what it may use of main memory
    """

    place: Place
    hold: bool
    need_mb: int
    budget_mb: int


def need_of(tiling: Tiling, heads: int, folds: int, activations: int, ct: Shape) -> Need:
    """What a run needs.

    Parameters
    ----------
    tiling : the tiles
    heads : number of output channels
    folds : number of folds
    activations : see `activations_of`
    ct : shape of the CT
    """
    _, rows, columns = tiling.padded
    planes = tiling.patch[0] * rows * columns
    return Need(
        slab=2 * heads * planes + 2 * planes,
        folds=folds,
        tile=activations,
        image=2 * 4 * planes + 8 * _SLICES * max(rows * columns, ct[1] * columns),
        working=4 * math.prod(tiling.shape),
        output=3 * math.prod(ct),
    )


def plan(need: Need, budget_mb: int | None, device: torch.device, *, shared: bool) -> MemoryPlan:
    """The fastest way that stays within the budget.

    Parameters
    ----------
    need : what a run needs
    budget_mb : most main memory the process may use in all; None for nearly all that is free
    device : of the network
    shared : whether other networks see the same working volume

    Raises
    ------
    BudgetTooSmall
        If no way stays within the budget that was given.
    OutOfMemory
        If none was given, and less than that is free.
    """
    held_mb = psutil.Process().memory_info().rss // _MB
    allowed_mb = (budget_mb or held_mb + int(_SHARE * free_memory() / _MB)) - held_mb
    cuda = device.type == "cuda"
    ways = [
        (place, hold) for place in _places(need, device) for hold in ([True, False] if shared else [False])
    ]
    for place, hold in ways:
        needed_mb = -(-need.host(place, cuda=cuda, hold=hold) // _MB)
        if needed_mb <= allowed_mb:
            return MemoryPlan(place=place, hold=hold, need_mb=needed_mb, budget_mb=allowed_mb)
    refusal = OutOfMemory if budget_mb is None else BudgetTooSmall
    raise refusal(
        f"It needs about {held_mb + needed_mb} MB of main memory; {held_mb + allowed_mb} MB are allowed."
    )


def _places(need: Need, device: torch.device) -> tuple[Place, ...]:
    if device.type != "cuda":
        return (Place.HOST, Place.FILE)
    free, _ = torch.cuda.mem_get_info(device)
    return (Place.DEVICE, Place.HOST) if need.on_device <= _SHARE * free else (Place.HOST,)


def activations_of(network: torch.nn.Module, tile: Shape, patch: Shape) -> int:
    """Bytes a network needs at the most while it computes a tile, its logits included.

    It is rehearsed with a small tile. The largest layer counts with its input and output, each twice since
    oneDNN reorders them (layers of one voxel need their input twice and their output once), and two more of
    the largest outputs for what waits to be concatenated.

    Parameters
    ----------
    network : in evaluation mode, on the CPU
    tile : the small one, see `Rules.smallest_tile`
    patch : the one that is asked about
    """
    layers, outputs = [0], [0]

    def look(layer: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if math.prod(layer.kernel_size) == 1:
            layers.append(4 * (2 * inputs[0].numel() + output.numel()))
            return
        before, after = (4 * _rounded(t.shape) for t in (inputs[0], output))
        layers.append(2 * (before + after))
        outputs.append(after)

    convolutions = (torch.nn.Conv3d, torch.nn.ConvTranspose3d)
    hooks = [m.register_forward_hook(look) for m in network.modules() if isinstance(m, convolutions)]
    try:
        with torch.inference_mode():
            network(torch.zeros((1, 1, *tile)))
    finally:
        for hook in hooks:
            hook.remove()
    larger = math.prod(patch) / math.prod(tile)
    return math.ceil(_FRAGMENTS * larger * (max(layers) + 2 * max(outputs)))


def _rounded(shape: torch.Size) -> int:
    _, channels, *rest = shape
    return -(-channels // _CHANNELS) * _CHANNELS * math.prod(rest)
