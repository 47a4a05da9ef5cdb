"""The organs of several networks in one label map; the organ of higher priority gets a voxel."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.body import Body
from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.geometry import Shape
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap, Mask, Volume
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
    kept : keys of the organs that the result has; others only take voxels from them. None for all

    Raises
    ------
    BundleInvalid
        If there are more organs than a label map can hold.
    """

    def __init__(
        self, shape: Shape, priorities: Mapping[str, float], kept: Collection[str] | None = None
    ) -> None:
        if len(priorities) > MAX_ORGANS:
            raise BundleInvalid(
                f"{len(priorities)} organs are more than the {MAX_ORGANS} a label map can hold."
            )
        self._numbers = {key: number for number, key in enumerate(priorities, start=1)}
        self._ranks = rank_organs(priorities)
        self._kept = frozenset(self._numbers if kept is None else kept)
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

    @property
    def ranks(self) -> Mapping[str, int]:
        """Rank of every organ key; the higher one gets a voxel."""
        return self._ranks

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

    def can_take(self, organs: Iterable[str]) -> Mask:
        """Where one of these organs would take the voxel from an organ that the result has.

        Returns
        -------
        (K, J, I) bool
        """
        highest = max(self._ranks[key] for key in organs)
        table = np.zeros(MAX_ORGANS + 1, dtype=np.bool_)
        table[[rank for key, rank in self._ranks.items() if key in self._kept and rank < highest]] = True
        found: Mask = table[self._rank_map]
        return found

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
            table[rank] = self._numbers[key] if key in self._kept else 0
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
        return {number: table[key] for key, number in self._numbers.items() if key in self._kept}


def rank_organs(priorities: Mapping[str, float]) -> dict[str, int]:
    """The rank of every organ key: 1 for the lowest priority; among equal ones the first named is higher."""
    order = {key: number for number, key in enumerate(priorities)}
    worst_first = sorted(priorities, key=lambda key: (priorities[key], -order[key]))
    return {key: rank for rank, key in enumerate(worst_first, start=1)}


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
    requested : keys of the organs that the result has; None for all

    Raises
    ------
    BundleInvalid
        On prediction, if two predictors find the same organ.
    """

    predictors: Sequence[Predictor]
    organs: OrganTable
    priorities: Mapping[str, float] = field(default_factory=dict)
    requested: Collection[str] | None = None

    @property
    def models(self) -> tuple[ModelIdentity, ...]:
        """The bundles it runs."""
        return tuple(model for predictor in self.predictors for model in predictor.models)

    def _not_searched(self, found: Sequence[Prediction]) -> list[str]:
        """Organs of the bundles that the result does not have."""
        kept = {organ.key for prediction in found for organ in prediction.label_map.organs.values()}
        kept = kept if self.requested is None else kept.intersection(self.requested)
        known = [key for prediction in found for key in prediction.not_searched]
        known += [o.key for prediction in found for o in prediction.label_map.organs.values()]
        return [key for key in known if key not in kept]

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
        priorities = {key: self.priorities.get(key, 0.0) for key in keys}
        merger = Merger(volume.grid.shape, priorities, self.requested)
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
            disagreement=tuple(
                row
                for prediction in found
                for row in prediction.disagreement
                if self.requested is None or row.organ in self.requested
            ),
            not_searched=tuple(dict.fromkeys(self._not_searched(found))),
            guided=tuple(row for prediction in found for row in prediction.guided),
            tiles=sum(prediction.tiles for prediction in found),
            findings=tuple(f for prediction in found for f in prediction.findings)
            + overlap_finding(merger.overlaps, volume.grid.voxel_ml),
        )


def _part_progress(on_progress: ProgressCallback, number: int, count: int) -> ProgressCallback:
    return lambda part, text: on_progress((number + part) / count, text)
