"""Where an organ is only suspected: voxels in which it is less likely than background, but not by far."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from orgseg_node.inference.engine.label_planes import Labels, PlaneCallback, argmax_labels
from orgseg_node.inference.engine.resampling import LinearInterpolation

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


class SuspectedPlanes:
    """Planes of what is only suspected, on the grid of the CT: each voxel as the nearest working voxel.

    Where organs lie is all that they are for, so that logits need not be interpolated as for labels.

    Parameters
    ----------
    axes : from the working grid to that of the CT along each axis, see `axes_within`
    probability : see `Suspicion`
    regions : see `NetworkPlan`
    """

    def __init__(
        self, axes: Sequence[LinearInterpolation], probability: float, regions: tuple[int, ...] | None
    ) -> None:
        self._planes, self._rows, self._columns = (
            axis.low if axis.single else np.where(axis.high_weight > axis.low_weight, axis.high, axis.low)
            for axis in axes
        )
        self._probability = probability
        self._regions = regions

    def push(self, number: int, logits: torch.Tensor) -> Iterator[tuple[int, Labels]]:
        """Take the next working plane; yield the planes of the CT that are nearest to it.

        Parameters
        ----------
        number : of the working plane, ascending by one
        logits : (heads, rows, columns) float16

        Yields
        ------
        number of a plane of the CT, and its labels (rows, columns) uint16
        """
        raised = raise_organs(logits.clone(), self._probability, regions=self._regions is not None)
        labels = argmax_labels(raised, self._regions).cpu().numpy().astype(np.uint16)
        for k in np.flatnonzero(self._planes == number):
            yield int(k), labels[self._rows][:, self._columns]
