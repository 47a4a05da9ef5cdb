"""How far the folds of an ensemble differ, counted while their planes pass by.

Where networks that were trained on different parts of the data disagree about an organ, the ensemble is less
sure of it. The counts are taken on the working grid, before the logits are averaged.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from orgseg_node.inference.engine.label_planes import leaders
from orgseg_node.inference.predictor import Disagreement


class FoldTally:
    """Voxels that each fold gives each label, and that each pair of folds agrees on.

    Parameters
    ----------
    labels : number of label numbers, background included
    regions : see `Rules`
    folds : number of folds, at least 2
    """

    def __init__(self, labels: int, regions: tuple[int, ...] | None, folds: int) -> None:
        self._regions = regions
        self._found = np.zeros((folds, labels), dtype=np.int64)
        self._pairs = list(combinations(range(folds), 2))
        self._shared = np.zeros((len(self._pairs), labels), dtype=np.int64)
        self._waiting: list[NDArray[np.int16]] = []

    def add(self, logits: torch.Tensor) -> None:
        """Count a plane of the next fold; after the last fold the pairs are counted.

        Parameters
        ----------
        logits : (heads, rows, columns)
        """
        self._waiting.append(leaders(logits, self._regions).cpu().numpy().ravel())
        if len(self._waiting) < len(self._found):
            return
        somewhere = np.flatnonzero(np.any(self._waiting, axis=0))
        planes = [plane[somewhere] for plane in self._waiting]
        labels = self._found.shape[1]
        for fold, plane in enumerate(planes):
            self._found[fold] += np.bincount(plane, minlength=labels)
        for pair, (a, b) in enumerate(self._pairs):
            self._shared[pair] += np.bincount(planes[a][planes[a] == planes[b]], minlength=labels)
        self._waiting.clear()

    def of(self, label: int, organ: str, voxel_ml: float) -> Disagreement:
        """What the folds found of one label.

        Parameters
        ----------
        label : number of the label, not background
        organ : key of its organ
        voxel_ml : volume of a voxel of the working grid
        """
        volumes = self._found[:, label] * voxel_ml
        dice = [
            1.0 if not (both := self._found[a, label] + self._found[b, label]) else 2 * shared / both
            for (a, b), shared in zip(self._pairs, self._shared[:, label], strict=True)
        ]
        return Disagreement(
            organ=organ,
            folds=len(self._found),
            mean_dice=float(np.mean(dice)),
            volume_min_ml=float(volumes.min()),
            volume_max_ml=float(volumes.max()),
        )
