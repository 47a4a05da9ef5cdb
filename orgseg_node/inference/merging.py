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
from orgseg_node.inference.predictor import ModelIdentity, Prediction, Predictor, Progress

MAX_ORGANS = 255
"""Label maps are uint8, and 0 is no organ."""

_MAX_LABELS = 65_536  # networks may number their labels in 16 bits


class Merger:
    """Puts the organs of several networks into one label map; the organ of higher priority wins a voxel.

    The study's rule: where organs overlap, the voxel goes to the organ whose own network was the better one
    in cross-validation. Among equals the organ named first wins.

    Parameters
    ----------
    shape : of the label map, ``(k, j, i)``
    priorities : priority of every organ key; the order gives the organs their numbers, from 1

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
        self._best = np.zeros(shape, dtype=np.uint8)
        self._contested = 0

    @property
    def contested(self) -> int:
        """Number of times a voxel was claimed by two organs."""
        return self._contested

    @property
    def claims(self) -> NDArray[np.uint8]:
        """(K, J, I) who holds each voxel so far; any part or view of it can be given to `claim`."""
        return self._best

    def ranks(self, organs: Mapping[int, str]) -> NDArray[np.uint8]:
        """What each label number of a network claims for; see `claim`.

        Parameters
        ----------
        organs : organ key of each label number; other numbers are left out
        """
        table = np.zeros(_MAX_LABELS, dtype=np.uint8)
        for label, key in organs.items():
            table[label] = self._ranks[key]
        return table

    def claim(self, labels: NDArray[Any], ranks: NDArray[np.uint8], held: NDArray[np.uint8]) -> None:
        """Add what one network found in a part of the picture.

        Parameters
        ----------
        labels : unsigned, label numbers of the network
        ranks : see `ranks`
        held : the same part of `claims`, which is changed
        """
        claimed = ranks[labels]
        self._contested += int(np.count_nonzero((claimed != held) & (claimed > 0) & (held > 0)))
        np.maximum(held, claimed, out=held)

    def add(self, labels: NDArray[Any], organs: Mapping[int, str], where: tuple[slice, slice, slice]) -> None:
        """Add what one network found; slice by slice, to need little memory.

        Parameters
        ----------
        labels, organs : see `claim` and `ranks`
        where : the part of the label map the labels are for
        """
        ranks = self.ranks(organs)
        for found, held in zip(labels, self._best[where], strict=True):
            self.claim(found, ranks, held)

    def labels(self) -> NDArray[np.uint8]:
        """The organ number of each voxel, 0 = no organ; ends the merging, as the claims become it."""
        table = np.zeros(MAX_ORGANS + 1, dtype=np.uint8)
        for key, rank in self._ranks.items():
            table[rank] = self._numbers[key]
        for plane in self._best:
            plane[...] = table[plane]
        return self._best

    def organs(self, table: OrganTable) -> dict[int, Any]:
        """The organ of each number.

        Raises
        ------
        OrganUnknown
            If an organ is not in the table.
        """
        return {number: table[key] for key, number in self._numbers.items()}


def overlap_finding(contested: int, voxel_ml: float) -> tuple[Finding, ...]:
    """What to say when organs of several networks overlapped, if they did."""
    if not contested:
        return ()
    ml = contested * voxel_ml
    message = f"Organs of different networks overlapped in {ml:.2f} ml; the organ of higher priority got it."
    return (Finding(level=Level.INFO, code="ORGANS_OVERLAPPED", message=message, value=ml),)


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedPredictor:
    """Several predictors as one: each runs on its own, and their organs are merged by priority.

    Attributes
    ----------
    predictors : in the order in which their organs are numbered
    organs : the organ table
    priorities : priority by organ key; 0 where none is given

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

    def predict(self, volume: Volume, body: Body, progress: Progress) -> Prediction:
        """Label every voxel with each predictor in turn, then merge."""
        found = [
            predictor.predict(volume, body, _share(progress, number, len(self.predictors)))
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
            + overlap_finding(merger.contested, volume.grid.voxel_ml),
        )


def _share(progress: Progress, number: int, count: int) -> Progress:
    return lambda part, what: progress((number + part) / count, what)
