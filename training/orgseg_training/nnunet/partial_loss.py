"""Dice and cross-entropy for scans in which only some organs were drawn.

Above the numbers of the organs, a label number stands for a set of organs of which nothing is known at a
voxel: it is background or one of them. Such a voxel asks for the sum of these probabilities (marginal loss,
Shi et al., Med. Image Anal. 70, 2021), and does not count in the Dice of the organs of its set. So an organ
that was not drawn is never background.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

_SMOOTH: Final = 1e-5


def unknown_table(organs: int, unknown_sets: Sequence[Sequence[int]]) -> torch.Tensor:
    """(labels, organs + 1) bool: whether an organ is unknown at a voxel of a label.

    Parameters
    ----------
    organs : number of organs
    unknown_sets : the organ numbers of each label above those of the organs
    """
    table = torch.zeros(1 + organs + len(unknown_sets), organs + 1, dtype=torch.bool)
    for label, numbers in enumerate(unknown_sets, 1 + organs):
        table[label, list(numbers)] = True
    return table


class PartialDiceCrossEntropy(torch.nn.Module):
    """The loss of one output of a network.

    Parameters
    ----------
    organs : number of organs; the network has one channel more, the first for background
    unknown_sets : the organ numbers of each label above those of the organs
    batch_dice : whether the patches of a batch count as one image
    """

    unknown: torch.Tensor
    allowed: torch.Tensor

    def __init__(self, organs: int, unknown_sets: Sequence[Sequence[int]], *, batch_dice: bool) -> None:
        super().__init__()
        unknown = unknown_table(organs, unknown_sets)
        allowed = unknown.clone()
        for label in range(organs + 1):
            allowed[label, label] = True
        allowed[organs + 1 :, 0] = True
        self.register_buffer("unknown", unknown, persistent=False)
        self.register_buffer("allowed", allowed, persistent=False)
        self._batch_dice = batch_dice

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss.

        Parameters
        ----------
        logits : (B, organs + 1, Z, Y, X)
        target : (B, 1, Z, Y, X) label numbers
        """
        logits = logits.float().flatten(2)
        labels = target.long().flatten(2).squeeze(1)
        logarithms = torch.log_softmax(logits, 1)
        partial = bool((labels >= logits.shape[1]).any())
        if partial:
            forbidden = ~self.allowed[labels].movedim(-1, 1)
            cross_entropy = -torch.logsumexp(logarithms.masked_fill(forbidden, -torch.inf), 1).mean()
        else:
            cross_entropy = torch.nn.functional.nll_loss(logarithms, labels)
        known = ~self.unknown[labels].movedim(-1, 1)[:, 1:] if partial else None
        return cross_entropy - self._dice(logarithms.exp()[:, 1:], labels, known)

    def _dice(
        self, probabilities: torch.Tensor, labels: torch.Tensor, known: torch.Tensor | None
    ) -> torch.Tensor:
        numbers = torch.arange(1, probabilities.shape[1] + 1, device=labels.device)
        truth = labels[:, None] == numbers[None, :, None]
        both = (probabilities * truth).sum(-1)
        size = (probabilities if known is None else probabilities * known).sum(-1) + truth.sum(-1)
        if self._batch_dice:
            both, size = both.sum(0), size.sum(0)
        return ((2 * both + _SMOOTH) / (size + _SMOOTH)).mean()
