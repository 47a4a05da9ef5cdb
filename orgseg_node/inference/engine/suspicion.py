"""Where an organ is only suspected: voxels in which it is less likely than background, but not by far."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch

from orgseg_node.inference.engine.label_planes import PlaneCallback

SUSPICION: Final = 0.05
"""Probability of an organ, against background, from which on a voxel is suspected if nothing else is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """Labels of the same run with which an organ wins where it is only suspected.

    Attributes
    ----------
    probability : of an organ, against background, from which on a voxel is suspected
    on_plane : see `PlaneCallback`
    """

    probability: float
    on_plane: PlaneCallback


def raise_organs(logits: torch.Tensor, probability: float, *, regions: bool) -> torch.Tensor:
    """Logits with which an organ wins where it is only suspected.

    Parameters
    ----------
    logits : heads along the first axis; changed
    probability : of an organ, against background, from which on a voxel is suspected
    regions : whether the heads are regions, each of which stands for itself, so that there is no background

    Returns
    -------
    the same tensor
    """
    bonus = math.log((1 - probability) / probability)
    if regions:
        logits += bonus
    else:
        logits[0] -= bonus
    return logits
