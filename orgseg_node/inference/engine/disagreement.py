"""How far the folds of an ensemble differ, counted during the run, some planes at a time.

Where networks that were trained on different parts of the data disagree about an organ, the ensemble is less
sure of it. The counts are taken on the working grid, before the logits are averaged.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch

from orgseg_node.inference.engine.label_planes import argmax_labels
from orgseg_node.inference.predictor import Disagreement


class FoldAgreement:
    """Number of voxels that each fold assigns to each label, and on which each pair of folds agrees.

    Parameters
    ----------
    labels : number of label numbers, background included
    regions : see `NetworkPlan`
    folds : number of folds, at least 2
    """

    def __init__(self, labels: int, regions: tuple[int, ...] | None, folds: int) -> None:
        self._regions = regions
        self._pairs = list(combinations(range(folds), 2))
        self._found = np.zeros((folds, labels), dtype=np.int64)
        self._agreed = np.zeros((len(self._pairs), labels), dtype=np.int64)
        self._pending: list[torch.Tensor] = []

    def add(self, logits: torch.Tensor) -> None:
        """Count the same planes of the next fold; after the last fold the pairs are counted.

        Parameters
        ----------
        logits : (heads, planes, rows, columns) float16
        """
        self._pending.append(argmax_labels(logits, self._regions).flatten())
        folds, labels = self._found.shape
        if len(self._pending) < folds:
            return
        found = torch.stack(self._pending)
        self._pending.clear()
        found = found[:, found.any(dim=0)]  # where a fold finds anything: few voxels
        one, other = (found[list(side)] for side in zip(*self._pairs, strict=True))
        counted = torch.cat([found, torch.where(one == other, one, 0)]).int()  # background is not counted
        counted += torch.arange(0, len(counted) * labels, labels, device=counted.device).int()[:, None]
        counts = torch.bincount(counted.view(-1), minlength=len(counted) * labels).view(-1, labels)
        numbers = counts.cpu().numpy()
        self._found += numbers[:folds]
        self._agreed += numbers[folds:]

    def disagreement(self, label: int, organ: str, voxel_ml: float) -> Disagreement:
        """How far the folds differ on one label.

        Parameters
        ----------
        label : number of the label, not of the background
        organ : key of its organ
        voxel_ml : volume of a voxel of the working grid
        """
        volumes = self._found[:, label] * voxel_ml
        dice = [
            1.0 if not (both := self._found[a, label] + self._found[b, label]) else 2 * agreed / both
            for (a, b), agreed in zip(self._pairs, self._agreed[:, label], strict=True)
        ]
        return Disagreement(
            organ=organ,
            folds=len(self._found),
            mean_dice=float(np.mean(dice)),
            volume_min_ml=float(volumes.min()),
            volume_max_ml=float(volumes.max()),
        )
