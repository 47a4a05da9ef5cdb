"""How far the folds of an ensemble differ, counted plane by plane during the run.

Where networks that were trained on different parts of the data disagree about an organ, the ensemble is less
sure of it. The counts are taken on the working grid, before the logits are averaged.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

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
        self._found = np.zeros((folds, labels), dtype=np.int64)
        self._pairs = list(combinations(range(folds), 2))
        self._agreed = np.zeros((len(self._pairs), labels), dtype=np.int64)
        self._pending: list[NDArray[np.int16]] = []

    def add(self, logits: torch.Tensor) -> None:
        """Count a plane of the next fold; after the last fold of the plane the pairs are counted.

        Parameters
        ----------
        logits : (heads, rows, columns) float16
        """
        self._pending.append(argmax_labels(logits, self._regions).cpu().numpy().ravel())
        if len(self._pending) < len(self._found):
            return
        foreground = np.flatnonzero(np.any(self._pending, axis=0))
        planes = [plane[foreground] for plane in self._pending]
        labels = self._found.shape[1]
        for fold, plane in enumerate(planes):
            self._found[fold] += np.bincount(plane, minlength=labels)
        for pair, (a, b) in enumerate(self._pairs):
            self._agreed[pair] += np.bincount(planes[a][planes[a] == planes[b]], minlength=labels)
        self._pending.clear()

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
