"""The forward pass of a network on one tile, as the engine calls it."""

from __future__ import annotations

from typing import Protocol

import torch


class Forward(Protocol):
    """Computes the logits of one tile with one of the networks of an ensemble."""

    @property
    def folds(self) -> int:
        """Number of networks in the ensemble."""
        ...

    @property
    def device(self) -> torch.device:
        """The device of the tiles and of the logits."""
        ...

    def __call__(self, tile: torch.Tensor, fold: int) -> torch.Tensor:
        """Logits of a tile.

        Parameters
        ----------
        tile : (1, 1, Z, Y, X) float32 on the device, contiguous, normalised
        fold : number of the network, from 0

        Returns
        -------
        (heads, Z, Y, X) float, logits; the caller may overwrite them
        """
        ...
