"""What runs a network: one protocol for every way of doing it, and the merging of what several found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.body import Body
from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.geometry import Shape
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap, Volume
from orgseg_node.errors import BundleInvalid, ConfigError

MAX_ORGANS = 255
"""Label maps are uint8, and 0 is no organ."""

_MAX_LABELS = 65_536  # networks may number their labels in 16 bits

Progress = Callable[[float, str], None]
"""Called with the part done (0 to 1) and what is being done."""


class Method(StrEnum):
    """How a CT is given to the network.

    ``streaming`` gives the labels of ``whole`` to the voxel in bounded memory; ``whole`` is nnU-Net's own
    predictor; ``chunked`` is the study's way of bounding memory, kept to reproduce it.
    """

    STREAMING = "streaming"
    WHOLE = "whole"
    CHUNKED = "chunked"


class Backend(StrEnum):
    """What computes the network: ``exact`` is PyTorch, ``fast`` OpenVINO for calibrated bundles."""

    EXACT = "exact"
    FAST = "fast"


class Device(StrEnum):
    """What the network runs on; ``auto`` takes the GPU where there is one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceSettings:
    """How a network is run on this machine.

    Attributes
    ----------
    method : ``streaming``, slab by slab, ``whole``, nnU-Net's own predictor on the body at once, or
        ``chunked``, in pieces along the body axis
    chunk_mm : length of a chunk in mm, overlap included
    overlap_mm : overlap of neighbouring chunks in mm; 50 as in the study
    device : ``auto``, ``cpu`` or ``cuda``
    threads : CPU threads; None for as many as there are cores
    backend : ``exact`` or ``fast``; only streaming knows the fast one, which runs on the CPU, also where
        ``device`` is ``auto`` and there is a GPU
    memory_budget_mb : most main memory the streaming engine may use; None to choose by what is free
    skip_outside_body : leave out tiles that do not touch the patient, and organs outside of it; None to do so
        for bundles whose calibration found no organ there

    Raises
    ------
    ConfigError
        With every setting that cannot be.
    """

    method: str = Method.STREAMING
    chunk_mm: float = 300.0
    overlap_mm: float = 50.0
    device: str = Device.AUTO
    threads: int | None = None
    backend: str = Backend.EXACT
    memory_budget_mb: int | None = None
    skip_outside_body: bool | None = None

    def __post_init__(self) -> None:
        problems = []
        if self.method not in set(Method):
            problems.append(f"method {self.method!r} must be {', '.join(Method)}")
        if self.device not in set(Device):
            problems.append(f"device {self.device!r} must be {', '.join(Device)}")
        if not 0 <= self.overlap_mm < self.chunk_mm < float("inf"):
            problems.append(
                f"overlap_mm {self.overlap_mm:g} must be 0 or more, and below chunk_mm {self.chunk_mm:g}"
            )
        if self.threads is not None and self.threads < 1:
            problems.append(f"threads {self.threads} must be at least 1")
        if self.backend not in set(Backend):
            problems.append(f"backend {self.backend!r} must be {' or '.join(Backend)}")
        elif self.backend == Backend.FAST and self.method != Method.STREAMING:
            problems.append(f"backend fast needs method streaming, not {self.method}")
        if self.backend == Backend.FAST and self.device == Device.CUDA:
            problems.append("backend fast runs on the CPU; device must be cpu or auto, not cuda")
        if self.memory_budget_mb is not None and self.memory_budget_mb < 1:
            problems.append(f"memory_budget_mb {self.memory_budget_mb} must be at least 1")
        if problems:
            raise ConfigError("Inference: " + "; ".join(problems) + ".")

    @property
    def method_said(self) -> str:
        """The method with its parameters, as it goes into reports."""
        if self.method == Method.WHOLE:
            return str(Method.WHOLE)
        if self.method == Method.STREAMING:
            skipping = {True: ", outside of the body skipped", False: ", nothing skipped", None: ""}
            return f"streaming, {self.backend}{skipping[self.skip_outside_body]}"
        return f"chunked {self.chunk_mm:g} mm, overlap {self.overlap_mm:g} mm"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """Which model made a result: goes into every object and report."""

    name: str
    version: str
    sha256: str
    intended_use: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """How far the folds of an ensemble differ on one organ: a measure of how sure the model is.

    Attributes
    ----------
    organ : key of the organ
    folds : number of folds
    mean_dice : mean Dice over all pairs of folds; 1 if all folds found the same, also if none found it
    volume_min_ml, volume_max_ml : smallest and largest volume that a fold gave the organ
    """

    organ: str
    folds: int
    mean_dice: float
    volume_min_ml: float
    volume_max_ml: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """What a predictor found, and how.

    Attributes
    ----------
    label_map : on the grid of the volume that was given
    models : identity of every bundle that took part
    method : ``streaming``, ``whole`` or ``chunked``, with its parameters
    device : ``cpu`` or ``cuda:0`` with its name
    timings_s : wall seconds of each step
    disagreement : how far the folds of an ensemble differ, one row for each organ; empty for a single network
    """

    label_map: LabelMap
    models: tuple[ModelIdentity, ...]
    method: str
    device: str
    timings_s: dict[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    disagreement: tuple[Disagreement, ...] = ()


class Predictor(Protocol):
    """Finds organs in a CT."""

    @property
    def models(self) -> tuple[ModelIdentity, ...]:
        """The bundles it runs."""
        ...

    def predict(self, volume: Volume, body: Body, progress: Progress) -> Prediction:
        """Label every voxel of a volume.

        Parameters
        ----------
        volume : CT in HU
        body : the patient in it
        progress : told how far the work is
        """
        ...


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
