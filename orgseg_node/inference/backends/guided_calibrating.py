"""Measuring how well guided runs of a bundle agree with unguided ones, on reference CTs."""

from __future__ import annotations

import datetime as dt
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from scipy import stats

from orgseg_node.core.anatomy.possible import is_crumb
from orgseg_node.core.body import find_body
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap, Mask, Volume
from orgseg_node.errors import GuideUnsuitable
from orgseg_node.inference.backends.calibrating import RunProgress, voxels_sha256
from orgseg_node.inference.backends.context import choose_device
from orgseg_node.inference.backends.guided.guide import GuidedRun
from orgseg_node.inference.backends.streaming import StreamingPredictor
from orgseg_node.inference.bundles.bundle import ModelBundle, verify_bundle
from orgseg_node.inference.bundles.calibration import ReferenceCt
from orgseg_node.inference.bundles.tables.guided_calibration import (
    AgainstContours,
    GuidedAgreement,
    GuidedCalibration,
)
from orgseg_node.inference.engine.layout import Layout
from orgseg_node.inference.predictor import (
    Device,
    GuidedOutcome,
    InferenceSettings,
    Prediction,
    Predictor,
    ProgressCallback,
)

_DIGITS: Final = 1e4  # a Dice is written with four digits, rounded down
_CONFIDENCE: Final = 0.95

_PART_OF_CT: Final = frozenset(
    {
        GuidedOutcome.BOX,
        GuidedOutcome.WIDENED,
        GuidedOutcome.SUSPECTED,
        GuidedOutcome.REFUTED,
        GuidedOutcome.EXPLAINED,
        GuidedOutcome.ABSENT,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReferenceCase:
    """A CT of the measurement.

    Attributes
    ----------
    ct : in HU
    contours : (K, J, I) bool by organ key, clinical contours of organs on the grid of the CT; may be empty
    """

    ct: Volume
    contours: Mapping[str, Mask] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidedCandidate:
    """Guided runs with one layout of tiles, measured.

    Attributes
    ----------
    calibration : the table for the manifest
    differing : number of voxels of which the label differs from that of the unguided run, over all CTs
    tiles : share of the tiles of unguided runs that the networks computed, without those of the guide
    predict_s : seconds of guided runs, the guide included, over all CTs
    """

    calibration: GuidedCalibration
    differing: int
    tiles: float
    predict_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidedResult:
    """The result of a calibration.

    Attributes
    ----------
    candidates : guided runs with each layout that was measured, the cheapest first
    predict_s : seconds of unguided runs, over all CTs
    """

    candidates: tuple[GuidedCandidate, ...]
    predict_s: float

    @property
    def missed(self) -> bool:
        """Whether an organ was missed by all candidates."""
        return all(
            any(organ.missed_on for organ in each.calibration.organs.values()) for each in self.candidates
        )

    @property
    def accepted(self) -> GuidedCandidate | None:
        """The cheapest candidate that agrees well enough; None if there is none."""
        good = (each for each in self.candidates if not each.calibration.shortcomings)
        return next(good, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidedPredictors:
    """The predictors of a bundle with and without its guide; none skips the region outside the patient.

    Attributes
    ----------
    backend : ``exact`` or ``fast``
    margin_mm : margin of the boxes
    sparse, suspicion : see `GuidedRun`; what another organ explains is always left out
    unguided : the reference
    guided : with each layout of tiles, the cheapest first
    """

    backend: str
    margin_mm: float
    sparse: bool
    suspicion: float | None
    unguided: Predictor
    guided: Mapping[Layout, Predictor]


def open_guided_predictors(  # noqa: PLR0913  # all of them are one measurement
    bundle: ModelBundle,
    organs: OrganTable,
    backend: str,
    margin_mm: float,
    layouts: Sequence[Layout],
    *,
    sparse: bool,
    suspicion: float | None,
) -> GuidedPredictors:
    """Open a bundle with and without its guide.

    Parameters
    ----------
    bundle : an opened bundle with a guide, calibrated or not
    organs : the organ table
    backend : ``exact`` or ``fast``; the latter must be calibrated
    margin_mm : margin of the boxes around the organs of the guide
    layouts : to measure, the cheapest first
    sparse, suspicion : see `GuidedRun`

    Raises
    ------
    GuideUnsuitable
        If the bundle has no guide, or its guide finds no organ of the bundle.
    BundleHashMismatch
        If a file of the bundle is not the one that was imported.
    NotStreamable
        If the streaming engine cannot run the bundle.
    NotCalibrated, FastModeMissing
        If the backend is ``fast`` and not calibrated or not installed.
    """
    guide = bundle.manifest.guide
    if guide is None:
        raise GuideUnsuitable(f"'{bundle.manifest.name}' has no guide.")
    if not set(bundle.manifest.organs).intersection(guide.organs):
        raise GuideUnsuitable(f"The guide of '{bundle.manifest.name}' finds no organ of it.")
    verify_bundle(bundle)
    settings = InferenceSettings(backend=backend, device=Device.CPU, skip_outside_body=False, guided=False)
    device = choose_device(Device.CPU)

    def predictor(run: GuidedRun | None) -> StreamingPredictor:
        applied = replace(settings, guided=run is not None)
        return StreamingPredictor(bundle, organs, applied, device, guided=run)

    return GuidedPredictors(
        backend=backend,
        margin_mm=margin_mm,
        sparse=sparse,
        suspicion=suspicion,
        unguided=predictor(None),
        guided={
            layout: predictor(
                GuidedRun(
                    layout=layout, margin_mm=margin_mm, sparse=sparse, suspicion=suspicion, explained=True
                )
            )
            for layout in layouts
        },
    )


def measure_guided(
    runs: GuidedPredictors, cases: Iterable[ReferenceCase], today: dt.date, on_progress: ProgressCallback
) -> GuidedResult:
    """Run a bundle with and without its guide on each reference CT and compare, organ by organ.

    Parameters
    ----------
    runs : see `open_guided_predictors`
    cases : read one after the other; a CT that is repeated is measured once
    today : date of the calibration
    on_progress : called with the progress on each CT, from 0 to 1

    Raises
    ------
    InferenceFailed, OutOfMemory
        If a run does not finish.
    BodyNotFound
        If a CT shows no patient.
    """
    totals = {layout: _LayoutTotals() for layout in runs.guided}
    references: list[ReferenceCt] = []
    unguided_s = 0.0
    for case in cases:
        reference = ReferenceCt(sha256=voxels_sha256(case.ct), voxels=case.ct.hu.size)
        if reference in references:
            continue
        references.append(reference)
        body = find_body(case.ct)
        progress = RunProgress(on_progress, 1 + len(runs.guided))
        whole = runs.unguided.predict(case.ct, body, progress.next("unguided"))
        unguided_s += _seconds(whole)
        for layout, predictor in runs.guided.items():
            found = predictor.predict(case.ct, body, progress.next(f"guided, {layout}"))
            totals[layout].add(case, whole, found)
    return GuidedResult(
        candidates=tuple(
            GuidedCandidate(
                calibration=GuidedCalibration(
                    backend=runs.backend,
                    layout=str(layout),
                    margin_mm=runs.margin_mm,
                    sparse=runs.sparse,
                    suspicion=runs.suspicion,
                    explained=runs.suspicion is not None,
                    date=today,
                    references=tuple(references),
                    organs={key: organ.agreement() for key, organ in each.organs.items()},
                ),
                differing=each.differing,
                tiles=each.tiles / max(each.whole_tiles, 1),
                predict_s=each.predict_s,
            )
            for layout, each in totals.items()
        ),
        predict_s=unguided_s,
    )


@dataclass(slots=True, kw_only=True)
class _OrganTotals:
    """The comparison of one organ over the CTs so far."""

    dice: float = 1.0
    found_on: int = 0
    missed_on: int = 0
    whole_on: int = 0
    unguided: list[float] = field(default_factory=list)
    guided: list[float] = field(default_factory=list)

    def agreement(self) -> GuidedAgreement:
        """The row of the calibration."""
        return GuidedAgreement(
            dice=math.floor(self.dice * _DIGITS) / _DIGITS,
            found_on=self.found_on,
            missed_on=self.missed_on,
            whole_on=self.whole_on,
            contours=against_contours(self.unguided, self.guided),
        )


@dataclass(slots=True, kw_only=True)
class _LayoutTotals:
    """The comparison of one layout with the unguided run over the CTs so far."""

    organs: dict[str, _OrganTotals] = field(default_factory=dict)
    differing: int = 0
    tiles: int = 0
    whole_tiles: int = 0
    predict_s: float = 0.0

    def add(self, case: ReferenceCase, whole: Prediction, found: Prediction) -> None:
        """Compare both runs on the next CT."""
        one, other = whole.label_map, found.label_map
        outcomes = {key: row.outcome for row in found.guided for key in row.organs}
        volumes_ml = [_volumes_ml(label_map) for label_map in (one, other)]
        for number, organ in one.organs.items():
            key = organ.key
            total = self.organs.setdefault(key, _OrganTotals())
            a, b = one.labels == number, _mask(other, key)
            crumbs = [is_crumb(ml[key], organ.volume_ml) for ml in volumes_ml]
            if not all(crumbs):  # where neither run found what can be the organ, it is not in the CT
                total.dice = min(total.dice, _dice(a, b))
            if not crumbs[0]:  # an organ that the guide does not know is always searched everywhere: no miss
                total.found_on += 1
                total.missed_on += outcomes.get(key) == GuidedOutcome.MISSED or crumbs[1]
            total.whole_on += outcomes.get(key) not in _PART_OF_CT
            if key in case.contours:
                total.unguided.append(_dice(a, case.contours[key]))
                total.guided.append(_dice(b, case.contours[key]))
        self.differing += int(np.count_nonzero(one.labels != other.labels))
        self.tiles += sum(row.tiles for row in found.guided)
        self.whole_tiles += sum(row.whole_tiles for row in found.guided)
        self.predict_s += _seconds(found)


def against_contours(unguided: Sequence[float], guided: Sequence[float]) -> AgainstContours | None:
    """Both runs against clinical contours, with a bound for their difference.

    Parameters
    ----------
    unguided, guided : Dice of each CT that has contours of the organ, in the same order

    Returns
    -------
    None for fewer than two CTs, where no interval is defined
    """
    if len(guided) < 2:
        return None
    differences = [b - a for a, b in zip(unguided, guided, strict=True)]
    mean = statistics.fmean(differences)
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    lower = mean - float(stats.t.ppf(_CONFIDENCE, len(differences) - 1)) * error
    return AgainstContours(
        cts=len(guided),
        unguided=round(statistics.fmean(unguided), 4),
        guided=round(statistics.fmean(guided), 4),
        lower=math.floor(lower * _DIGITS) / _DIGITS,
    )


def _mask(label_map: LabelMap, key: str) -> Mask:
    number = next(number for number, organ in label_map.organs.items() if organ.key == key)
    mask: Mask = label_map.labels == number
    return mask


def _volumes_ml(label_map: LabelMap) -> dict[str, float]:
    """The volume of each organ by its key."""
    return {label_map.organs[number].key: ml for number, ml in label_map.volumes_ml().items()}


def _dice(a: Mask, b: Mask) -> float:
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2 * int(np.count_nonzero(a & b)) / total if total else 1.0


def _seconds(prediction: Prediction) -> float:
    """Seconds of a run without loading the weights, which is done once."""
    return sum(s for step, s in prediction.timings_s.items() if step not in {"load", "network"})
