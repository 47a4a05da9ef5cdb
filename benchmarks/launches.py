"""How many operations a GPU is given for each plane that is averaged over the folds, compared and labelled.

On a GPU each of them is the launch of a kernel, which takes longer than to compute it on one plane. PyTorch
calls the same operations on a CPU, so they are counted without a GPU.

    python -m benchmarks.launches                           # 20 classes, 5 folds; 1 plane at once, and 8
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from orgseg_node.inference.engine.run import LabellingTask, run_network
from orgseg_node.inference.engine.slab import AccumulatorStorage
from orgseg_node.inference.engine.tiles import Tiling
from orgseg_node.inference.engine.working import HuNormalisation, Regrid, working_volume

_PLANES, _SIZE, _CT_SIZE = 32, 48, 60  # few voxels, so that a CPU computes them in one piece as a GPU does


class OperationCounter(TorchDispatchMode):
    """Counts what PyTorch computes while it is active; views, which compute nothing, are not counted."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        results = func._schema.returns  # noqa: SLF001  # PyTorch names no other way
        if not any(r.alias_info is not None and not r.alias_info.is_write for r in results):
            self.operations += 1
        return func(*args, **(kwargs or {}))


@dataclass(slots=True, eq=False)
class _Blobs:
    """Logits that are smooth, as those of a network are, and differ a little from fold to fold."""

    folds: int
    heads: int
    device: torch.device = torch.device("cpu")  # noqa: RUF009  # it never changes

    def __call__(self, tile: torch.Tensor, fold: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        coarse = torch.randn((1, self.heads, 4, 4, 4), generator=generator)
        coarse += 0.1 * torch.randn(coarse.shape, generator=generator.manual_seed(fold))
        size = list(tile.shape[2:])
        return torch.nn.functional.interpolate(coarse, size, mode="trilinear")[0] * 5


def count_operations(heads: int, folds: int, planes: int) -> float:
    """Operations for each working plane, from the sums of logits to labels.

    Parameters
    ----------
    heads, folds : number of output channels and of networks
    planes : number of planes that are labelled at once
    """
    shape = (_PLANES, _SIZE, _SIZE)
    hu = np.zeros((_PLANES, _CT_SIZE, _CT_SIZE), dtype=np.int16)
    normalisation = HuNormalisation(low=-1.0, high=1.0, mean=0.0, std=1.0)
    task = LabellingTask(
        working=working_volume(hu, normalisation, Regrid(source=hu.shape, target=shape, thick_axis=None)),
        to_ct=Regrid(source=shape, target=hu.shape, thick_axis=None),
        tiling=Tiling.covering(shape, shape, 1.0),
        regions=None,
        region=None,
        accumulators=AccumulatorStorage.HOST,
        overlap=False,
        block=planes,
    )
    counter = OperationCounter()
    with ExitStack() as counting:

        def on_tile(done: int, total: int, _: float) -> None:
            if done == total:  # the only slab is complete; what follows is counted
                counting.enter_context(counter)

        run_network(task, _Blobs(folds=folds, heads=heads), heads, on_tile, lambda *_: None)
    return counter.operations / _PLANES


def main() -> None:
    """Print the counts for one plane at once and for several."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--planes", type=int, nargs="+", default=[1, 8])
    options = parser.parse_args()
    for planes in options.planes:
        operations = count_operations(options.classes, options.folds, planes)
        print(f"{planes:3d} at once: {operations:6.1f} operations for each plane")


if __name__ == "__main__":
    main()
