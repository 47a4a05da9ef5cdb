"""The forward pass of a network by PyTorch, which is the reference, and its average over mirrored tiles."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping, Sequence

import torch

from orgseg_node.inference.engine.forward import Forward


class EagerForward:
    """The network as nnU-Net's own predictor runs it: PyTorch, one tile at a time, autocast on a GPU.

    Parameters
    ----------
    network : in evaluation mode
    states : the weights of each fold
    device : the device to run on
    """

    def __init__(
        self,
        network: torch.nn.Module,
        states: Sequence[Mapping[str, torch.Tensor]],
        device: torch.device,
    ) -> None:
        self._network = network.to(device).eval()
        self._states = [{name: t.to(device) for name, t in state.items()} for state in states]
        self._device = device
        self._loaded = -1

    @property
    def folds(self) -> int:
        """Number of networks in the ensemble."""
        return len(self._states)

    @property
    def device(self) -> torch.device:
        """The device of the tiles and of the logits."""
        return self._device

    @torch.inference_mode()
    def __call__(self, tile: torch.Tensor, fold: int) -> torch.Tensor:
        """Logits of a tile; see `Forward`."""
        if fold != self._loaded:
            self._network.load_state_dict(self._states[fold], assign=True)  # by reference, without a copy
            self._loaded = fold
        cuda = self._device.type == "cuda"
        with torch.autocast("cuda") if cuda else contextlib.nullcontext():
            logits: torch.Tensor = self._network(tile)[0]
        return logits


class MirroredForward:
    """A forward pass averaged over mirrored copies of the tile, in nnU-Net's order.

    Parameters
    ----------
    forward : the pass on one copy
    axes : axes of the tile (0 to 2) along which it is mirrored
    """

    def __init__(self, forward: Forward, axes: Sequence[int]) -> None:
        self._forward = forward
        self._flips = [c for n in range(len(axes)) for c in itertools.combinations(axes, n + 1)]

    @property
    def folds(self) -> int:
        """Number of networks in the ensemble."""
        return self._forward.folds

    @property
    def device(self) -> torch.device:
        """The device of the tiles and of the logits."""
        return self._forward.device

    @torch.inference_mode()
    def __call__(self, tile: torch.Tensor, fold: int) -> torch.Tensor:
        """Logits of a tile; see `Forward`."""
        logits = self._forward(tile, fold)
        for flip in self._flips:
            mirrored = torch.flip(tile, [axis + 2 for axis in flip])
            logits += torch.flip(self._forward(mirrored, fold), [axis + 1 for axis in flip])
        logits /= len(self._flips) + 1
        return logits
