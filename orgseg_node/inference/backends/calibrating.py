"""Measuring the fast mode of a bundle against its exact one, on reference CTs."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.body import Body, find_body
from orgseg_node.core.geometry import Grid
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap, Volume
from orgseg_node.inference.backends.context import choose_device
from orgseg_node.inference.backends.openvino import SOFTWARE, installed_version, precisions, refuse_precision
from orgseg_node.inference.backends.streaming import StreamingPredictor, around
from orgseg_node.inference.bundles.bundle import ModelBundle, verify_bundle
from orgseg_node.inference.bundles.calibration import Agreement, Calibration, Precision, Reference
from orgseg_node.inference.predictor import (
    Backend,
    Device,
    InferenceSettings,
    Prediction,
    Predictor,
    Progress,
)

_LABELS: Final = 256  # label maps are uint8
_DIGITS: Final = 1e6  # a Dice is written with six digits, never rounded up


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The fast mode in one precision, measured.

    Attributes
    ----------
    calibration : what would be written into the manifest
    differing : number of voxels that only one of the two modes gave an organ, by organ key, over all CTs
    network_s : seconds that the networks computed, over all CTs
    """

    calibration: Calibration
    differing: Mapping[str, int]
    network_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came out.

    Attributes
    ----------
    candidates : the precisions that were measured, the fastest first
    network_s : seconds that the networks computed in exact mode, over all CTs
    """

    candidates: tuple[Candidate, ...]
    network_s: float

    @property
    def accepted(self) -> Candidate | None:
        """The fastest that is good enough; None where none is."""
        good = (each for each in self.candidates if not each.calibration.shortcomings)
        return next(good, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Modes:
    """The two ways to run a bundle, of which neither skips what lies outside of the patient.

    Attributes
    ----------
    exact : the yardstick
    fast : the fast mode in each precision that is to be measured, the fastest first
    """

    exact: Predictor
    fast: Mapping[Precision, Predictor]


def open_modes(bundle: ModelBundle, organs: OrganTable, wanted: Precision | None) -> Modes:
    """Make a bundle ready to be measured.

    Parameters
    ----------
    bundle : an opened bundle, with a calibration or without
    organs : the organ table
    wanted : the only precision to measure; None for all that this CPU computes in

    Raises
    ------
    BundleHashMismatch
        If a file of the bundle is not the one that was imported.
    NotStreamable
        If the streaming engine cannot run the bundle.
    FastModeMissing
        If OpenVINO is not installed.
    EnvironmentFault
        If the CPU does not compute in the precision that is wanted.
    """
    verify_bundle(bundle)
    able = precisions()
    if wanted is not None:
        refuse_precision(wanted, able)
    chosen = able if wanted is None else (wanted,)
    return Modes(
        exact=_predictor(bundle, organs, None),
        fast={precision: _predictor(bundle, organs, precision) for precision in chosen},
    )


def measure(modes: Modes, cts: Iterable[Volume], today: dt.date, progress: Progress) -> Measured:
    """Run a bundle exactly and fast on each reference CT and compare, organ by organ.

    Parameters
    ----------
    modes : see `open_modes`
    cts : read one after the other; one that comes twice is measured once
    today : date of the calibration
    progress : told how far the work on each CT is, 0 to 1 anew for each

    Raises
    ------
    InferenceFailed, OutOfMemory
        If a mode does not finish.
    BodyNotFound
        If a CT shows no patient.
    """
    sums = _Sums(counts={precision: _Counts() for precision in modes.fast})
    for ct in cts:
        reference = Reference(sha256=voxels_sha256(ct), voxels=ct.hu.size)
        if reference in sums.references:
            continue
        body = find_body(ct)
        tell = _Shares(progress, 1 + len(modes.fast))
        found = modes.exact.predict(ct, body, tell.next("exact"))
        sums.add(reference, found, body)
        for precision, fast in modes.fast.items():
            sums.compare(precision, found, fast.predict(ct, body, tell.next(precision)))
    return Measured(
        candidates=tuple(sums.candidate(precision, today) for precision in modes.fast),
        network_s=sums.network_s,
    )


def voxels_sha256(ct: Volume) -> str:
    """Hash of the grid and the Hounsfield units of a CT, whatever the patient and the files are called."""
    grid = ct.grid
    whole = hashlib.sha256(
        repr((grid.shape, grid.spacing_mm, grid.origin_mm, grid.axes, ct.hu.dtype.str)).encode()
    )
    for plane in ct.hu:
        whole.update(plane.tobytes())
    return whole.hexdigest()


def _predictor(bundle: ModelBundle, organs: OrganTable, precision: Precision | None) -> StreamingPredictor:
    settings = InferenceSettings(
        backend=Backend.EXACT if precision is None else Backend.FAST,
        device=Device.CPU,
        skip_outside_body=False,
    )
    return StreamingPredictor(bundle, organs, settings, choose_device(Device.CPU), precision=precision)


class _Shares:
    """The progress on one CT, an equal share for each run."""

    def __init__(self, progress: Progress, runs: int) -> None:
        self._progress, self._runs, self._begun = progress, runs, 0

    def next(self, what: str) -> Progress:
        """The progress of the next run."""
        before, self._begun = self._begun, self._begun + 1
        return lambda part, said: self._progress((before + part) / self._runs, f"{what}: {said}")


@dataclass(slots=True, kw_only=True)
class _Counts:
    """What was counted of one precision, by label number."""

    dice: NDArray[np.float64] = field(default_factory=lambda: np.ones(_LABELS))
    differing: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_LABELS, dtype=np.int64))
    network_s: float = 0.0


@dataclass(slots=True, kw_only=True)
class _Sums:
    """What was counted so far, over the CTs."""

    counts: dict[Precision, _Counts]
    labels: dict[int, str] = field(default_factory=dict)
    references: list[Reference] = field(default_factory=list)
    found_on: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_LABELS, dtype=np.int64))
    outside_ml: NDArray[np.float64] = field(default_factory=lambda: np.zeros(_LABELS))
    network_s: float = 0.0

    def add(self, reference: Reference, exact: Prediction, body: Body) -> None:
        """Count what the exact mode found on the next CT, in all and far outside of the patient."""
        found, grid = exact.label_map, exact.label_map.grid
        if not isinstance(grid, Grid):
            raise TypeError("Networks label regular grids.")
        self.labels = {number: organ.key for number, organ in found.organs.items()}
        self.references.append(reference)
        self.found_on += _histogram(found.labels) > 0
        outside = found.labels[~around(body.mask, grid)]
        self.outside_ml += _histogram(outside[None]) * grid.voxel_ml
        self.network_s += exact.timings_s["network"]

    def compare(self, precision: Precision, exact: Prediction, fast: Prediction) -> None:
        """Count where the fast mode found something else on the same CT."""
        counts = self.counts[precision]
        one, other, both = _overlap(exact.label_map, fast.label_map)
        total = one + other
        dice = np.divide(2 * both, total, out=np.ones(_LABELS), where=total > 0)
        counts.dice = np.minimum(counts.dice, dice)
        counts.differing += total - 2 * both
        counts.network_s += fast.timings_s["network"]

    def candidate(self, precision: Precision, today: dt.date) -> Candidate:
        """What was measured of a precision."""
        counts = self.counts[precision]
        organs = {
            key: Agreement(
                dice=math.floor(counts.dice[number] * _DIGITS) / _DIGITS,
                found_on=int(self.found_on[number]),
                outside_ml=round(float(self.outside_ml[number]), 6),
            )
            for number, key in self.labels.items()
        }
        calibration = Calibration(
            software=SOFTWARE,
            version=installed_version(),
            precision=precision,
            date=today,
            references=tuple(self.references),
            organs=organs,
        )
        differing = {key: int(counts.differing[number]) for number, key in self.labels.items()}
        return Candidate(calibration=calibration, differing=differing, network_s=counts.network_s)


def _histogram(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Number of voxels of each label number; plane by plane, since bincount makes 8-byte numbers of them."""
    counted = np.zeros(_LABELS, dtype=np.int64)
    for plane in labels:
        counted += np.bincount(plane.ravel(), minlength=_LABELS)
    return counted


def _overlap(
    exact: LabelMap, fast: LabelMap
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Number of voxels of each label number in one label map, in the other, and in both."""
    both = np.zeros(_LABELS, dtype=np.int64)
    for a, b in zip(exact.labels, fast.labels, strict=True):
        both += np.bincount(a[a == b], minlength=_LABELS)
    return _histogram(exact.labels), _histogram(fast.labels), both
