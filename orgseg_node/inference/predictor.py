"""The protocol of a predictor, its settings and its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from orgseg_node.core.body import Body
from orgseg_node.core.checks import Finding
from orgseg_node.core.volume import LabelMap, Volume
from orgseg_node.errors import SettingsInvalid
from orgseg_node.inference.suspected import Suspected

ProgressCallback = Callable[[float, str], None]
"""Called with the fraction done (0 to 1) and a text about the current step."""


class Method(StrEnum):
    """How the network is run over a CT.

    ``streaming`` computes the labels of ``whole`` to the voxel in bounded memory; ``whole`` is nnU-Net's own
    predictor; ``chunked`` is the study's method to bound memory, kept to reproduce the study.
    """

    STREAMING = "streaming"
    WHOLE = "whole"
    CHUNKED = "chunked"


class Backend(StrEnum):
    """What runs the network: ``exact`` is PyTorch.

    For calibrated bundles ``fast`` is OpenVINO on the CPU, and ``compiled`` PyTorch's compiler, for GPUs.
    """

    EXACT = "exact"
    FAST = "fast"
    COMPILED = "compiled"


class Device(StrEnum):
    """The device that the network runs on; ``auto`` is the GPU if there is one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceSettings:
    """How a network is run on this machine.

    Attributes
    ----------
    method : ``streaming``, slab by slab; ``whole``, nnU-Net's own predictor on the body at once; or
        ``chunked``, in chunks along the body axis
    chunk_mm : length of a chunk in mm, overlap included
    overlap_mm : overlap of neighbouring chunks in mm; 50 as in the study
    device : ``auto``, ``cpu`` or ``cuda``
    threads : CPU threads; None for as many as there are cores
    backend : ``exact``, ``fast`` or ``compiled``; the last two need ``streaming``, and the fast one runs on
        the CPU, also if ``device`` is ``auto`` and there is a GPU
    memory_budget_mb : limit of the main memory of the process for ``streaming``; None for nearly all free
        memory
    guided : let the guide of a bundle find the organs first, where its calibration allows it
    skip_outside_body : skip tiles that do not touch the patient, and organs outside the patient; None to do
        so for bundles whose calibration found no organ there

    Raises
    ------
    SettingsInvalid
        With all settings that are not valid.
    """

    method: str = Method.STREAMING
    chunk_mm: float = 300.0
    overlap_mm: float = 50.0
    device: str = Device.AUTO
    threads: int | None = None
    backend: str = Backend.EXACT
    memory_budget_mb: int | None = None
    skip_outside_body: bool | None = None
    guided: bool = True

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
            problems.append(f"backend {self.backend!r} must be {', '.join(Backend)}")
        elif self.backend != Backend.EXACT and self.method != Method.STREAMING:
            problems.append(f"backend {self.backend} needs method streaming, not {self.method}")
        if self.backend == Backend.FAST and self.device == Device.CUDA:
            problems.append(
                "backend fast runs on the CPU; device must be cpu or auto, not cuda; compiled is for GPUs"
            )
        if self.memory_budget_mb is not None and self.memory_budget_mb < 1:
            problems.append(f"memory_budget_mb {self.memory_budget_mb} must be at least 1")
        if problems:
            raise SettingsInvalid("Inference: " + "; ".join(problems) + ".")

    @property
    def method_description(self) -> str:
        """The method with its parameters, for reports."""
        if self.method == Method.WHOLE:
            return str(Method.WHOLE)
        if self.method == Method.STREAMING:
            skipping = {True: ", outside of the body skipped", False: ", nothing skipped", None: ""}
            unguided = "" if self.guided else ", guides not used"
            return f"streaming, {self.backend}{skipping[self.skip_outside_body]}{unguided}"
        return f"chunked {self.chunk_mm:g} mm, overlap {self.overlap_mm:g} mm"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """The model that made a result; written into every object and report."""

    name: str
    version: str
    sha256: str
    intended_use: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """How far the folds of an ensemble differ on one organ: a measure of the uncertainty of the model.

    Attributes
    ----------
    organ : key of the organ
    folds : number of folds
    mean_dice : mean Dice over all pairs of folds; 1 if all folds found the same, also if none found the organ
    volume_min_ml, volume_max_ml : smallest and largest volume of the organ over the folds
    """

    organ: str
    folds: int
    mean_dice: float
    volume_min_ml: float
    volume_max_ml: float


class GuidedOutcome(StrEnum):
    """Where the network of an organ was run, and why not only in the box where the guide found it."""

    BOX = "in its box"
    WIDENED = "in its box, which was widened"
    UNKNOWN = "on the whole CT: the guide does not know it"
    MISSED = "on the whole CT: the guide did not find it"
    GUIDE_DOUBTFUL = "on the whole CT: it cannot be what or where the guide found"
    EMPTY = "on the whole CT: the network found nothing in its box"
    DIFFERENT = "on the whole CT: network and guide found it in different places"
    DOUBTFUL = "on the whole CT: it cannot be what the network found in its box"
    NO_SAVING = "on the whole CT: its box, or the wider one that it needs, would save too few tiles"
    SUSPECTED = "only around what the guide suspects, which did not find it but led to other organs"
    REFUTED = "not in the CT: its network found at most a crumb, left out, around what the guide suspects"
    EXPLAINED = "not in the CT: all that the guide suspects is other organs, as their networks found"
    ABSENT = "not in the CT: the guide, which led to other organs, suspects it nowhere"


_SILENT = frozenset(
    {
        GuidedOutcome.UNKNOWN,
        GuidedOutcome.SUSPECTED,
        GuidedOutcome.REFUTED,
        GuidedOutcome.EXPLAINED,
        GuidedOutcome.ABSENT,
    }
)
"""Outcomes of organs that the guide did not claim to have found."""


class SparseOutcome(StrEnum):
    """What came of searching the whole CT with few tiles first, where the guide led to nothing."""

    ABSENT = "nothing suspected anywhere by a sparse first pass: not in the CT"
    AGAIN = "run again around all that a sparse first pass suspected"
    DECIDED = "run again with nnU-Net's tiles around what a sparse first pass and the next drew differently"
    DOUBTFUL = "run again on the whole CT, as a sparse first pass and the next drew it differently"
    EVERYWHERE = "run again on the whole CT, as a sparse first pass suspected it in too many places"
    NO_SAVING = "no sparse first pass: it needs as many tiles"


_SPARSE = frozenset({SparseOutcome.ABSENT, SparseOutcome.AGAIN, SparseOutcome.DECIDED})
"""Outcomes of networks that were not run on the whole CT with all tiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidedNetwork:
    """How a network of a guided bundle was run.

    Attributes
    ----------
    guide : name and version of the bundle that the guide was made of
    organs : keys of its organs
    outcome : where it was run
    sparse : how it was run on the whole CT; None if it was not, or with all tiles at once
    tiles : number of tiles that were computed, also in vain
    whole_tiles : number of tiles of a run on the whole CT
    """

    guide: str
    organs: tuple[str, ...]
    outcome: GuidedOutcome
    tiles: int
    whole_tiles: int
    sparse: SparseOutcome | None = None

    @property
    def followed(self) -> bool:
        """Whether it was run only around the place where the guide found its organs."""
        return self.outcome in {GuidedOutcome.BOX, GuidedOutcome.WIDENED}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """The result of a predictor.

    Attributes
    ----------
    label_map : on the grid of the input volume
    models : identity of every bundle that was run
    method : ``streaming``, ``whole`` or ``chunked``, with its parameters
    device : ``cpu`` or ``cuda:0``, with number of threads or name
    timings_s : seconds (wall clock) of each step
    findings : such as overlaps of organs
    disagreement : how far the folds of an ensemble differ, one row for each organ; empty for a single network
    not_searched : keys of organs of the bundles that were not requested, and that the result does not have
    guided : how each network was run that a guide led; empty if there was no guide
    tiles : number of tiles that the networks computed, those of a guide and those in vain included; 0 if they
        were not counted
    suspected : by organ key, where in the input volume the organ is suspected, see `StreamingPredictor`;
        without organs that are suspected nowhere. None if nobody asked for it
    """

    label_map: LabelMap
    models: tuple[ModelIdentity, ...]
    method: str
    device: str
    timings_s: dict[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    disagreement: tuple[Disagreement, ...] = ()
    not_searched: tuple[str, ...] = ()
    guided: tuple[GuidedNetwork, ...] = ()
    tiles: int = 0
    suspected: Mapping[str, Suspected] | None = None


def describe_guidance(networks: Sequence[GuidedNetwork]) -> str:
    """One sentence for the objects that are made of a guided run; empty if nothing was guided."""
    if not networks:
        return ""
    guides = ", ".join(dict.fromkeys(row.guide for row in networks))
    followed = sum(row.followed for row in networks)
    sentence = f"Guided by {guides}: {followed} of {len(networks)} networks searched only around its organs"
    sparse = [row for row in networks if row.sparse in _SPARSE]
    if sparse:
        sentence += f"; {len(sparse)} searched the whole CT by a sparse first pass"
        absent = [key for row in sparse if row.sparse == SparseOutcome.ABSENT for key in row.organs]
        sentence += f", which suspected nothing of {', '.join(absent)}" if absent else ""
    for guide in dict.fromkeys(row.guide for row in networks):
        sentence += _describe_silence([row for row in networks if row.guide == guide])
    return f"{sentence}."


def _describe_silence(networks: Sequence[GuidedNetwork]) -> str:
    """What was made of the silence of one guide, as the end of a sentence; its networks are given."""
    suspected, refuted, explained, absent = (
        ", ".join(key for row in networks if row.outcome == outcome for key in row.organs)
        for outcome in (
            GuidedOutcome.SUSPECTED,
            GuidedOutcome.REFUTED,
            GuidedOutcome.EXPLAINED,
            GuidedOutcome.ABSENT,
        )
    )
    sentence = f"; searched {suspected} only where the guide suspects it" if suspected else ""
    if refuted:
        sentence += f"; found at most a crumb, left out, of {refuted} around what the guide suspects"
    if explained:
        sentence += f"; did not search {explained}, as all that the guide suspects is other organs"
    if absent:
        others = [row for row in networks if row.outcome not in _SILENT]
        count = sum(len(row.organs) for row in others)
        led = sum(len(row.organs) for row in others if row.followed)
        sentence += f"; the guide, which led to {led} of {count} other organs, suspects {absent} nowhere"
    return sentence


class Predictor(Protocol):
    """Finds organs in a CT."""

    @property
    def models(self) -> tuple[ModelIdentity, ...]:
        """The bundles it runs."""
        ...

    def predict(self, volume: Volume, body: Body, on_progress: ProgressCallback) -> Prediction:
        """Label every voxel of a volume.

        Parameters
        ----------
        volume : CT in HU
        body : the patient in it
        on_progress : called during the work; may raise to stop
        """
        ...
