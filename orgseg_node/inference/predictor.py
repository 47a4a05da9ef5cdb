"""What runs a network: one protocol for every way of doing it, and the merging of what several found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from orgseg_node.core.body import Body
from orgseg_node.core.checks import Finding
from orgseg_node.core.volume import LabelMap, Volume
from orgseg_node.errors import ConfigError

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
