"""The weights of a network from those of another one with the same plans and other organs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch

from orgseg_training.errors import StartUnfit

_HEADS: Final = ".seg_layers."
_NEW_HEAD: Final = 0.1


def warm_weights(
    own: Mapping[str, torch.Tensor],
    pretrained: Mapping[str, torch.Tensor],
    pretrained_channels: Sequence[int | None],
) -> dict[str, torch.Tensor]:
    """The weights to start from: the pretrained ones, with a small new head for each organ they do not know.

    Parameters
    ----------
    own : the state of the network, as it was initialised
    pretrained : the state of the network to start from
    pretrained_channels : for each output channel of the network, background first, that of the pretrained
        one; None for a new organ

    Raises
    ------
    StartUnfit
        If the networks differ in more than their organs.
    """
    result = {}
    for name, tensor in own.items():
        if name not in pretrained:
            raise StartUnfit(f"It has no weights {name}.")
        given = pretrained[name].to(tensor.dtype)
        if _HEADS not in name:
            if given.shape != tensor.shape:
                raise StartUnfit(f"Its weights {name} are of another size.")
            result[name] = given
            continue
        if given.shape[1:] != tensor.shape[1:] or len(tensor) != len(pretrained_channels):
            raise StartUnfit(f"Its weights {name} are of another size.")
        head = tensor * _NEW_HEAD
        for channel, source in enumerate(pretrained_channels):
            if source is not None:
                head[channel] = given[source]
        result[name] = head
    return result
