"""Measuring how well the fast mode of a bundle agrees with its exact mode, on reference CTs."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.body import Body, find_body
from orgseg_node.core.geometry import Grid
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap, Volume
from orgseg_node.inference.backends import compiled, openvino
from orgseg_node.inference.backends.context import calibrated_software, choose_device
from orgseg_node.inference.backends.openvino import require_precision
from orgseg_node.inference.backends.streaming import StreamingPredictor
from orgseg_node.inference.bundles.bundle import ModelBundle, verify_bundle
from orgseg_node.inference.bundles.calibration import Calibration, OrganAgreement, Precision, ReferenceCt
from orgseg_node.inference.predictor import (
    Backend,
    Device,
    InferenceSettings,
    Prediction,
    Predictor,
    ProgressCallback,
)
from orgseg_node.inference.preparing import SEARCH_MARGIN_MM, dilate_mm

_LABELS: Final = 256  # label maps are uint8
_DIGITS: Final = 1e6  # a Dice is written with six digits, rounded down


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The fast mode in one precision, measured.

    Attributes
    ----------
    calibration : the table for the manifest
    differing : number of voxels that only one of the two modes labelled as the organ, by organ key, over all
        CTs
    network_s : seconds that the networks computed, over all CTs
    """

    calibration: Calibration
    differing: Mapping[str, int]
    network_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationResult:
    """The result of a calibration.

    Attributes
    ----------
    candidates : the fast mode in each precision that was measured, the fastest first
    network_s : seconds that the networks computed in exact mode, over all CTs
    """

    candidates: tuple[Candidate, ...]
    network_s: float

    @property
    def accepted(self) -> Candidate | None:
        """The fastest candidate that agrees well enough; None if there is none."""
        good = (each for each in self.candidates if not each.calibration.shortcomings)
        return next(good, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModePredictors:
    """The predictors of both modes of a bundle; neither skips the region outside the patient.

    Attributes
    ----------
    software, version : that compute the fast mode, see `Calibration`
    exact : the exact mode on the same device, the reference
    fast : the fast mode in each precision to measure, the fastest first
    """

    software: str
    version: str
    exact: Predictor
    fast: Mapping[Precision, Predictor]


def open_mode_predictors(
    bundle: ModelBundle,
    organs: OrganTable,
    wanted: Precision | None,
    backend: str = Backend.FAST,
    device: str = Device.AUTO,
) -> ModePredictors:
    """Open a bundle in both modes.

    Parameters
    ----------
    bundle : an opened bundle, with or without a calibration
    organs : the organ table
    wanted : the only precision to measure; None for all that the device supports
    backend : ``fast`` or ``compiled``
    device : ``auto``, ``cpu`` or ``cuda``, for ``compiled``; the other one runs on the CPU

    Raises
    ------
    BundleHashMismatch
        If a file of the bundle is not the one that was imported.
    NotStreamable
        If the streaming engine cannot run the bundle.
    FastModeMissing, CompilerMissing
        If OpenVINO or a compiler is not installed.
    EnvironmentFault
        If the device does not support the precision, or there is no GPU.
    """
    verify_bundle(bundle)
    compiling = backend == Backend.COMPILED
    place = choose_device(device if compiling else Device.CPU)
    software, version = calibrated_software(backend, place)
    supported = compiled.supported_precisions(place) if compiling else openvino.supported_precisions()
    if wanted is not None:
        require_precision(wanted, supported)
    chosen = supported if wanted is None else (wanted,)
    settings = InferenceSettings(
        backend=backend,
        device=Device.CUDA if place.type == "cuda" else Device.CPU,
        skip_outside_body=False,
        guided=False,
    )
    eager = replace(settings, backend=Backend.EXACT)
    return ModePredictors(
        software=software,
        version=version,
        exact=StreamingPredictor(bundle, organs, eager, place),
        fast={
            precision: StreamingPredictor(bundle, organs, settings, place, precision=precision)
            for precision in chosen
        },
    )


def measure_agreement(
    modes: ModePredictors, cts: Iterable[Volume], today: dt.date, on_progress: ProgressCallback
) -> CalibrationResult:
    """Run both modes of a bundle on each reference CT and compare them, organ by organ.

    Parameters
    ----------
    modes : see `open_mode_predictors`
    cts : read one after the other; a CT that is repeated is measured once
    today : date of the calibration
    on_progress : called with the progress on each CT, from 0 to 1

    Raises
    ------
    InferenceFailed, OutOfMemory
        If a mode does not finish.
    BodyNotFound
        If a CT shows no patient.
    """
    totals = _Totals(counts={precision: _PrecisionTotals() for precision in modes.fast})
    for ct in cts:
        reference = ReferenceCt(sha256=voxels_sha256(ct), voxels=ct.hu.size)
        if reference in totals.references:
            continue
        body = find_body(ct)
        progress = RunProgress(on_progress, 1 + len(modes.fast))
        found = modes.exact.predict(ct, body, progress.next("exact"))
        totals.add(reference, found, body)
        for precision, fast in modes.fast.items():
            totals.compare(precision, found, fast.predict(ct, body, progress.next(precision)))
    return CalibrationResult(
        candidates=tuple(totals.candidate(modes, precision, today) for precision in modes.fast),
        network_s=totals.network_s,
    )


def voxels_sha256(ct: Volume) -> str:
    """SHA-256 of the grid and the Hounsfield units of a CT, without names of patient and files."""
    grid = ct.grid
    digest = hashlib.sha256(
        repr((grid.shape, grid.spacing_mm, grid.origin_mm, grid.axes, ct.hu.dtype.str)).encode()
    )
    for plane in ct.hu:
        digest.update(plane.tobytes())
    return digest.hexdigest()


class RunProgress:
    """Splits the progress on one CT into equal parts, one for each run."""

    def __init__(self, on_progress: ProgressCallback, runs: int) -> None:
        self._on_progress, self._runs, self._started = on_progress, runs, 0

    def next(self, mode: str) -> ProgressCallback:
        """The progress callback of the next run."""
        before, self._started = self._started, self._started + 1
        return lambda part, text: self._on_progress((before + part) / self._runs, f"{mode}: {text}")


@dataclass(slots=True, kw_only=True)
class _PrecisionTotals:
    """The comparison of one precision with the exact mode, by label number, over the CTs so far."""

    dice: NDArray[np.float64] = field(default_factory=lambda: np.ones(_LABELS))
    differing: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_LABELS, dtype=np.int64))
    network_s: float = 0.0


@dataclass(slots=True, kw_only=True)
class _Totals:
    """The comparison of all precisions with the exact mode, over the CTs so far."""

    counts: dict[Precision, _PrecisionTotals]
    labels: dict[int, str] = field(default_factory=dict)
    references: list[ReferenceCt] = field(default_factory=list)
    found_on: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_LABELS, dtype=np.int64))
    outside_ml: NDArray[np.float64] = field(default_factory=lambda: np.zeros(_LABELS))
    network_s: float = 0.0

    def add(self, reference: ReferenceCt, exact: Prediction, body: Body) -> None:
        """Count the voxels of each organ in the exact mode on the next CT, also far outside the patient."""
        found, grid = exact.label_map, exact.label_map.grid
        if not isinstance(grid, Grid):
            raise TypeError("Networks label regular grids.")
        self.labels = {number: organ.key for number, organ in found.organs.items()}
        self.references.append(reference)
        self.found_on += _histogram(found.labels) > 0
        outside = found.labels[~dilate_mm(body.mask, grid, SEARCH_MARGIN_MM)]
        self.outside_ml += _histogram(outside[None]) * grid.voxel_ml
        self.network_s += exact.timings_s["network"]

    def compare(self, precision: Precision, exact: Prediction, fast: Prediction) -> None:
        """Compare the fast mode with the exact mode on the same CT."""
        counts = self.counts[precision]
        one, other, both = _overlap(exact.label_map, fast.label_map)
        total = one + other
        dice = np.divide(2 * both, total, out=np.ones(_LABELS), where=total > 0)
        counts.dice = np.minimum(counts.dice, dice)
        counts.differing += total - 2 * both
        counts.network_s += fast.timings_s["network"]

    def candidate(self, modes: ModePredictors, precision: Precision, today: dt.date) -> Candidate:
        """The result for one precision."""
        counts = self.counts[precision]
        organs = {
            key: OrganAgreement(
                dice=math.floor(counts.dice[number] * _DIGITS) / _DIGITS,
                found_on=int(self.found_on[number]),
                outside_ml=round(float(self.outside_ml[number]), 6),
            )
            for number, key in self.labels.items()
        }
        calibration = Calibration(
            software=modes.software,
            version=modes.version,
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
