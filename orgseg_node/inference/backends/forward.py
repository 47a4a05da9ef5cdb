"""The forward pass of a network by PyTorch, which is the reference, and its average over mirrored tiles."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence

import torch
from torch.nn.modules.conv import _ConvNd

from orgseg_node.inference.engine.forward import Forward


def autocast_weights(
    network: torch.nn.Module, state: Mapping[str, torch.Tensor], precision: torch.dtype
) -> dict[str, torch.Tensor]:
    """The weights as autocast uses them: those of convolutions in the lower precision.

    Autocast would round them again for every tile; the numbers are the same.

    Parameters
    ----------
    network : to which the weights belong
    state : its weights in float32, not changed
    precision : float16 or bfloat16
    """
    rounded = {
        f"{name}.{weight}"
        for name, module in network.named_modules(remove_duplicate=False)
        if isinstance(module, _ConvNd)
        for weight in ("weight", "bias")
    }
    return {name: t.to(precision) if name in rounded else t for name, t in state.items()}


class EagerForward:
    """The network as nnU-Net's own predictor runs it: PyTorch, one tile at a time, autocast on a GPU.

    On a GPU cuDNN chooses its algorithms by trying them, as in nnU-Net's predictor.

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
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True
            states = [autocast_weights(network, state, torch.half) for state in states]
        self._network = network.to(device).eval()
        self._compute: Callable[[torch.Tensor], torch.Tensor] = self._network
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
            return self._compute(tile)[0]


class WrappedForward:
    """The base of forward passes that are made of another one, with its networks and on its device.

    Parameters
    ----------
    forward : the other one
    """

    def __init__(self, forward: Forward) -> None:
        self._forward = forward

    @property
    def folds(self) -> int:
        """Number of networks in the ensemble."""
        return self._forward.folds

    @property
    def device(self) -> torch.device:
        """The device of the tiles and of the logits."""
        return self._forward.device


class MirroredForward(WrappedForward):
    """A forward pass averaged over mirrored copies of the tile, in nnU-Net's order.

    Parameters
    ----------
    forward : the pass on one copy
    axes : axes of the tile (0 to 2) along which it is mirrored
    """

    def __init__(self, forward: Forward, axes: Sequence[int]) -> None:
        super().__init__(forward)
        self._flips = [c for n in range(len(axes)) for c in itertools.combinations(axes, n + 1)]

    @torch.inference_mode()
    def __call__(self, tile: torch.Tensor, fold: int) -> torch.Tensor:
        """Logits of a tile; see `Forward`."""
        logits = self._forward(tile, fold)
        for flip in self._flips:
            mirrored = torch.flip(tile, [axis + 2 for axis in flip])
            logits += torch.flip(self._forward(mirrored, fold), [axis + 1 for axis in flip])
        logits /= len(self._flips) + 1
        return logits
