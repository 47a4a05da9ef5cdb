"""What runs a network: one protocol for every way of doing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from orgseg_node.core.body import Body
from orgseg_node.core.checks import Finding
from orgseg_node.core.volume import LabelMap, Volume

Progress = Callable[[float, str], None]
"""Called with the part done (0 to 1) and what is being done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """Which model made a result: goes into every object and report."""

    name: str
    version: str
    sha256: str
    intended_use: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """What a predictor found, and how.

    Attributes
    ----------
    label_map : on the grid of the volume that was given
    models : identity of every bundle that took part
    method : ``whole`` or ``chunked``, with its parameters
    device : ``cpu`` or ``cuda:0`` with its name
    timings_s : wall seconds of each step
    """

    label_map: LabelMap
    models: tuple[ModelIdentity, ...]
    method: str
    device: str
    timings_s: dict[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


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
