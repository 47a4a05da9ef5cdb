"""The organs of several networks in one label map; the organ of higher priority gets a voxel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.body import Body
from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.geometry import Shape
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap, Volume
from orgseg_node.errors import BundleInvalid
from orgseg_node.inference.predictor import ModelIdentity, Prediction, Predictor, ProgressCallback

MAX_ORGANS = 255
"""Label maps are uint8, and 0 is no organ."""

_MAX_LABELS = 65_536  # networks may number their labels in 16 bits


class Merger:
    """Merges the organs of several networks into one label map; the organ of higher priority gets a voxel.

    The study's rule: where organs overlap, the voxel goes to the organ whose network had the better result in
    cross-validation. Among equal priorities the organ named first gets it. During the merging, each voxel has
    the priority rank of its organ: 0 for no organ, 1 for the lowest priority.

    Parameters
    ----------
    shape : of the label map, ``(k, j, i)``
    priorities : priority of every organ key; their order numbers the organs, from 1

    Raises
    ------
    BundleInvalid
        If there are more organs than a label map can hold.
    """

    def __init__(self, shape: Shape, priorities: Mapping[str, float]) -> None:
        if len(priorities) > MAX_ORGANS:
            raise BundleInvalid(
                f"{len(priorities)} organs are more than the {MAX_ORGANS} a label map can hold."
            )
        self._numbers = {key: number for number, key in enumerate(priorities, start=1)}
        worst_first = sorted(priorities, key=lambda key: (priorities[key], -self._numbers[key]))
        self._ranks = {key: rank for rank, key in enumerate(worst_first, start=1)}
        self._rank_map = np.zeros(shape, dtype=np.uint8)
        self._overlaps = 0

    @property
    def overlaps(self) -> int:
        """Number of times that a voxel with an organ was labelled as another organ."""
        return self._overlaps

    @property
    def rank_map(self) -> NDArray[np.uint8]:
        """(K, J, I) uint8, rank of the organ of each voxel so far; `merge` takes parts or views of it."""
        return self._rank_map

    def rank_table(self, organs: Mapping[int, str]) -> NDArray[np.uint8]:
        """The rank of the organ of each label number of a network; see `merge`.

        Parameters
        ----------
        organs : organ key of each label number; other numbers are no organ
        """
        table = np.zeros(_MAX_LABELS, dtype=np.uint8)
        for label, key in organs.items():
            table[label] = self._ranks[key]
        return table

    def merge(self, labels: NDArray[Any], ranks: NDArray[np.uint8], merged: NDArray[np.uint8]) -> None:
        """Merge the labels of one network for a part of the image.

        Parameters
        ----------
        labels : unsigned integers, label numbers of the network
        ranks : (65536,) uint8, see `rank_table`
        merged : uint8, the same part of `rank_map`; it is changed
        """
        new = ranks[labels]
        self._overlaps += int(np.count_nonzero((new != merged) & (new > 0) & (merged > 0)))
        np.maximum(merged, new, out=merged)

    def add(self, labels: NDArray[Any], organs: Mapping[int, str], where: tuple[slice, slice, slice]) -> None:
        """Merge the labels of one network, slice by slice to save memory.

        Parameters
        ----------
        labels : (K, J, I) unsigned integers, label numbers of the network
        organs : organ key of each label number; other numbers are no organ
        where : the part of the label map that the labels belong to
        """
        ranks = self.rank_table(organs)
        for plane, merged in zip(labels, self._rank_map[where], strict=True):
            self.merge(plane, ranks, merged)

    def labels(self) -> NDArray[np.uint8]:
        """(K, J, I) uint8, organ number of each voxel, 0 for none; call it last, it overwrites the ranks."""
        table = np.zeros(MAX_ORGANS + 1, dtype=np.uint8)
        for key, rank in self._ranks.items():
            table[rank] = self._numbers[key]
        for plane in self._rank_map:
            plane[...] = table[plane]
        return self._rank_map

    def organs(self, table: OrganTable) -> dict[int, Any]:
        """The organ of each number.

        Raises
        ------
        OrganUnknown
            If an organ is not in the table.
        """
        return {number: table[key] for key, number in self._numbers.items()}


def overlap_finding(overlaps: int, voxel_ml: float) -> tuple[Finding, ...]:
    """The finding that organs of several networks overlapped; empty if they did not."""
    if not overlaps:
        return ()
    ml = overlaps * voxel_ml
    message = f"Organs of different networks overlapped in {ml:.2f} ml; the organ of higher priority got it."
    return (Finding(level=Level.INFO, code="ORGANS_OVERLAPPED", message=message, value=ml),)


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedPredictor:
    """Several predictors as one: each runs on its own, and their organs are merged by priority.

    Attributes
    ----------
    predictors : in the order in which their organs are numbered
    organs : the organ table
    priorities : priority by organ key; 0 for organs that are not named

    Raises
    ------
    BundleInvalid
        On prediction, if two predictors find the same organ.
    """

    predictors: Sequence[Predictor]
    organs: OrganTable
    priorities: Mapping[str, float] = field(default_factory=dict)

    @property
    def models(self) -> tuple[ModelIdentity, ...]:
        """The bundles it runs."""
        return tuple(model for predictor in self.predictors for model in predictor.models)

    def predict(self, volume: Volume, body: Body, on_progress: ProgressCallback) -> Prediction:
        """Label every voxel with each predictor, one after the other, then merge.

        Parameters
        ----------
        volume : CT in HU
        body : the patient in it
        on_progress : called during the work; may raise to stop
        """
        found = [
            predictor.predict(volume, body, _part_progress(on_progress, number, len(self.predictors)))
            for number, predictor in enumerate(self.predictors)
        ]
        keys = [organ.key for prediction in found for organ in prediction.label_map.organs.values()]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise BundleInvalid(f"Two models find the same organ: {', '.join(twice)}.")
        merger = Merger(volume.grid.shape, {key: self.priorities.get(key, 0.0) for key in keys})
        whole = (slice(None), slice(None), slice(None))
        for prediction in found:
            organs = {label: organ.key for label, organ in prediction.label_map.organs.items()}
            merger.add(prediction.label_map.labels, organs, whole)
        return Prediction(
            label_map=LabelMap(grid=volume.grid, labels=merger.labels(), organs=merger.organs(self.organs)),
            models=tuple(model for prediction in found for model in prediction.models),
            method="; ".join(dict.fromkeys(prediction.method for prediction in found)),
            device="; ".join(dict.fromkeys(prediction.device for prediction in found)),
            timings_s={
                f"{model.name}: {step}": seconds
                for prediction in found
                for model in prediction.models[:1]
                for step, seconds in prediction.timings_s.items()
            },
            disagreement=tuple(row for prediction in found for row in prediction.disagreement),
            findings=tuple(f for prediction in found for f in prediction.findings)
            + overlap_finding(merger.overlaps, volume.grid.voxel_ml),
        )


def _part_progress(on_progress: ProgressCallback, number: int, count: int) -> ProgressCallback:
    return lambda part, text: on_progress((number + part) / count, text)
