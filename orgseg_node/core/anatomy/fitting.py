"""Making a reference from the contours of patients.

What is typical of a score comes from a cross-validation: each patient is scored by a reference made without
the patient. In units of its own spread a score has the same tail for all organs, so the tails of all organs
are taken together, and `_FLAGGED` of the training contours lie beyond the limit. Training patients often have
all organs, other patients have not: so every organ is also scored beside some of its neighbours only
(`neighbourhoods`), and limits hold for both.
"""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from orgseg_node.core.anatomy.changes import changed
from orgseg_node.core.anatomy.cohort import ADULT, CHILD, TrainingPatients, cohort_of
from orgseg_node.core.anatomy.discriminant import Discriminant
from orgseg_node.core.anatomy.gaussian import Gaussian
from orgseg_node.core.anatomy.measures import OrganMeasures, measure_main_part
from orgseg_node.core.anatomy.placement import Placement
from orgseg_node.core.anatomy.reference import (
    ALL,
    AnatomyReference,
    OrganReference,
    Population,
    Tail,
)
from orgseg_node.core.anatomy.scores import FAULT, Signatures, score_organ, standardise
from orgseg_node.core.anatomy.values import smallest_scale
from orgseg_node.core.anatomy.working_grid import WorkingGrid
from orgseg_node.core.volume import Mask

FEWEST: Final = 15
"""Patients with an organ that a reference of it needs."""
_FEWEST_OF_AGE: Final = 30  # patients of an age group of its own
_FOLDS: Final = 6
_SHARES: Final = (0.5, 0.25)  # of the neighbours of an organ that are kept; see `neighbourhoods`
_FLAGGED: Final = (
    0.02  # fraction of the training contours beyond the limit of unusual; implausible is a multiple
)
_RARELY: Final = 0.005  # fraction beyond the limit of unusual where a discriminant has a limit too
_FAULTY: Final = 0.02  # fraction beyond the limit of the discriminant
_FACTOR: Final = (3.0, 12.0)  # smallest and largest limit in spreads
_FAULTY_FACTOR: Final = (1.5, 12.0)  # the same of the discriminant
_GROSS: Final = 1.8  # factor between the limits of unusual and implausible
_LEAST_SPREAD: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeasuredPatient:
    """A patient with contours.

    Attributes
    ----------
    organs : measures by key, of the organs that were drawn and are in the scan
    faulty : measures of each organ with the faults of `changed`, by key and name of the fault
    scan_mm : length of the scan along the patient
    age_years : None if not known
    diameter_mm : effective diameter at the level scanned; None if it was not measured
    """

    organs: Mapping[str, OrganMeasures]
    faulty: Mapping[str, Mapping[str, OrganMeasures]] = field(default_factory=dict)
    scan_mm: float
    age_years: float | None = None
    diameter_mm: float | None = None


def measure_patient(
    scan: WorkingGrid,
    masks: Mapping[str, Mask],
    age_years: float | None = None,
    diameter_mm: float | None = None,
) -> MeasuredPatient:
    """Measure the organs of a patient, as they are and with faults.

    Parameters
    ----------
    scan : the CT and its body
    masks : (K, J, I) bool by key of the organ; empty ones are left out
    age_years : None if not known
    diameter_mm : effective diameter at the level scanned; None if it was not measured
    """
    organs, faulty = {}, {}
    for key, mask in masks.items():
        organ = measure_main_part(scan, mask, key)
        if organ is not None:
            organs[key] = organ
            wrong = ((name, measure_main_part(scan, each, key)) for name, each in changed(scan, mask))
            faulty[key] = {name: measures for name, measures in wrong if measures is not None}
    along = scan.order[0]
    return MeasuredPatient(
        organs=organs,
        faulty=faulty,
        scan_mm=scan.grid.shape[along] * scan.grid.spacing_mm[along],
        age_years=age_years,
        diameter_mm=diameter_mm,
    )


def fit_reference(
    patients: Sequence[MeasuredPatient], source: str, scan: Mapping[str, Any] | None = None
) -> AnatomyReference:
    """The reference of contours.

    Parameters
    ----------
    patients : with clinical contours
    source : where they come from and under which licence, in one sentence
    scan : the reference of the judgement of the scan

    Raises
    ------
    ValueError
        If no organ was drawn in enough patients.
    """
    groups = {
        group: [patient for patient in patients if cohort_of(patient.age_years) == group]
        for group in (ADULT, CHILD)
    }
    populations = {ALL: _population(patients)}
    if not populations[ALL].organs:
        raise ValueError(f"no organ was drawn in {FEWEST} patients")
    populations |= {
        name: _population(group)
        for name, group in groups.items()
        if _FEWEST_OF_AGE <= len(group) < len(patients)
    }
    sizes = [(patient.age_years, patient.diameter_mm) for patient in patients]
    trained = TrainingPatients.of([(age, size) for age, size in sizes if size is not None])
    return AnatomyReference(source=source, populations=populations, scan=scan, trained=trained)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Model:
    """What the scores of a group of patients are computed from."""

    measures: Mapping[str, Gaussian]
    signatures: Mapping[str, Signatures]
    discriminants: Mapping[str, Discriminant]
    placement: Placement

    def scores(self, number: int, patient: MeasuredPatient) -> Iterator[tuple[str, Mapping[str, float]]]:
        """The scores of each organ of a patient, beside each of its `neighbourhoods`."""
        for key, organ in patient.organs.items():
            if key in self.measures:
                for beside in neighbourhoods(number, key, patient):
                    yield (
                        key,
                        score_organ(
                            organ,
                            self.placement.deviation(key, beside | {key: organ.anchors_mm}),
                            self.measures[key],
                            self.signatures[key],
                            self.discriminants.get(key),
                        ).values,
                    )


def _population(patients: Sequence[MeasuredPatient]) -> Population:
    counts: defaultdict[str, int] = defaultdict(int)
    for patient in patients:
        for key in patient.organs:
            counts[key] += 1
    keys = sorted(key for key, count in counts.items() if count >= FEWEST)
    lengths = [patient.scan_mm for patient in patients] or [0.0]
    values = _values_left_out(patients, keys)
    model = _fit(patients, keys, values)
    tails, limits = _tails(patients, keys, values)
    return Population(
        patients=len(patients),
        organs={key: _organ(patients, key, model, tails[key]) for key in keys},
        placement=model.placement,
        together=_together(patients, keys),
        scan_mm=(min(lengths), float(np.median(lengths)), max(lengths)),
        unusual=limits.unusual,
        implausible=limits.implausible,
        faulty=limits.faulty,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Values:
    """The values of an organ beside each of its `neighbourhoods`, correct and with each fault."""

    correct: Sequence[Mapping[str, float]]
    faulty: Sequence[Mapping[str, float]]


def neighbourhoods(
    number: int, key: str, patient: MeasuredPatient
) -> list[dict[str, Mapping[str, tuple[float, float, float]]]]:
    """The points of the organs beside one: of all of them, of about half, and of about a quarter.

    Parameters
    ----------
    number : of the patient; the choice depends on it and on the key alone
    key : of the organ
    patient : with its organs
    """
    anchors = {other: organ.anchors_mm for other, organ in patient.organs.items() if other != key}
    rng = np.random.default_rng(zlib.crc32(f"{number} {key}".encode()))
    found = [anchors]
    for share in _SHARES:
        kept = [other for other in anchors if rng.random() < share]
        if anchors and not kept:
            kept = [str(rng.choice(list(anchors)))]
        found.append({other: anchors[other] for other in kept})
    return found


def _values_left_out(patients: Sequence[MeasuredPatient], keys: Sequence[str]) -> list[dict[str, _Values]]:
    """The values of each patient; how the organs lie relative to each other comes from other patients."""
    found: list[dict[str, _Values]] = [{} for _ in patients]
    for fold in range(_FOLDS):
        anchors = [
            {key: p.organs[key].anchors_mm for key in keys if key in p.organs}
            for n, p in enumerate(patients)
            if n % _FOLDS != fold
        ]
        if not anchors:
            continue
        placement = Placement.fit(keys, anchors)
        for number in range(fold, len(patients), _FOLDS):
            patient = patients[number]
            for key in patient.organs.keys() & set(keys):
                places = neighbourhoods(number, key, patient)
                wrong = patient.faulty.get(key, {}).values()
                found[number][key] = _Values(
                    correct=[_beside(patient.organs[key], key, place, placement) for place in places],
                    faulty=[_beside(organ, key, place, placement) for place in places for organ in wrong],
                )
    return found


def _beside(
    organ: OrganMeasures,
    key: str,
    others: Mapping[str, Mapping[str, tuple[float, float, float]]],
    placement: Placement,
) -> dict[str, float]:
    """The values of an organ beside others."""
    away = placement.deviation(key, {**others, key: organ.anchors_mm})
    return {**organ.values, **(away.in_sigma if away else {})}


def _fit(
    patients: Sequence[MeasuredPatient], keys: Sequence[str], values: Sequence[Mapping[str, _Values]]
) -> _Model:
    anchors = [{key: p.organs[key].anchors_mm for key in keys if key in p.organs} for p in patients]
    placement = Placement.fit(keys, anchors)
    measures, signatures, discriminants = {}, {}, {}
    for key in keys:
        drawn = [(p, own) for p, own in zip(patients, anchors, strict=True) if key in own]
        if drawn:
            away = [placement.deviation(key, own, trusted=True) for _, own in drawn]
            rows = [
                {**p.organs[key].values, **(d.in_sigma if d else {})}
                for (p, _), d in zip(drawn, away, strict=True)
            ]
            names = list(dict.fromkeys(name for row in rows for name in row))
            table = np.array([[row.get(name, np.nan) for name in names] for row in rows])
            floors = np.array([smallest_scale(name) for name in names])
            measures[key] = Gaussian.fit(names, table, floors)
            signatures[key] = _signatures(key, drawn, measures[key], placement)
            faulty = [each for own in values if key in own for each in own[key].faulty]
            if faulty:
                correct = [each for own in values if key in own for each in own[key].correct]
                discriminants[key] = Discriminant.fit(
                    *(
                        np.array([measures[key].standardised(row) for row in each])
                        for each in (correct, faulty)
                    )
                )
    return _Model(measures=measures, signatures=signatures, discriminants=discriminants, placement=placement)


def _signatures(
    key: str,
    drawn: Sequence[tuple[MeasuredPatient, Mapping[str, Mapping[str, tuple[float, float, float]]]]],
    reference: Gaussian,
    placement: Placement,
) -> Signatures:
    """The median change of the measures by each fault."""
    changes: defaultdict[str, list[Any]] = defaultdict(list)
    for patient, anchors in drawn:
        before = standardise(patient.organs[key], placement.deviation(key, anchors, trusted=True), reference)
        for name, organ in patient.faulty.get(key, {}).items():
            away = placement.deviation(key, {**anchors, key: organ.anchors_mm}, trusted=True)
            changes[name].append(standardise(organ, away, reference) - before)
    rows = [_median(np.array(each)) for each in changes.values()]
    return Signatures(names=tuple(changes), changes=np.array(rows).reshape(len(rows), len(reference.names)))


def _median(rows: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Any:
    """Median of each column; NaN for columns without a value."""
    some = np.isfinite(rows).any(axis=0)
    middle = np.full(rows.shape[1], np.nan)
    middle[some] = np.nanmedian(rows[:, some], axis=0)
    return middle


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limits:
    """Spreads from typical on from which an organ is so, see `Population`."""

    unusual: float
    implausible: float
    faulty: float


def _tails(
    patients: Sequence[MeasuredPatient], keys: Sequence[str], values: Sequence[Mapping[str, _Values]]
) -> tuple[dict[str, dict[str, Tail]], _Limits]:
    """The tail of every score of every organ, and the limits of all, from a cross-validation."""
    scored: list[tuple[str, Mapping[str, float]]] = []
    for fold in range(_FOLDS):
        kept = [n for n in range(len(patients)) if n % _FOLDS != fold]
        model = _fit([patients[n] for n in kept], keys, [values[n] for n in kept])
        scored += [row for n in range(fold, len(patients), _FOLDS) for row in model.scores(n, patients[n])]
    found: dict[str, defaultdict[str, list[float]]] = {key: defaultdict(list) for key in keys}
    for key, own in scored:
        for name, value in own.items():
            found[key][name].append(value)
    tails = {key: {name: _tail(each) for name, each in own.items()} for key, own in found.items()}
    rows = [{n: tails[k][n].spreads(v) for n, v in own.items()} for k, own in scored]
    worst = [max((v for n, v in row.items() if n != FAULT), default=0.0) for row in rows]
    faulty = [row[FAULT] for row in rows if FAULT in row]
    usual = _beyond(worst, _FLAGGED, _FACTOR)
    return tails, _Limits(
        unusual=_beyond(worst, _RARELY, _FACTOR) if faulty else usual,
        implausible=usual * _GROSS,
        faulty=_beyond(faulty, _FAULTY, _FAULTY_FACTOR) if faulty else math.inf,
    )


def _beyond(spreads: Sequence[float], share: float, between: tuple[float, float]) -> float:
    """The limit that a share of the contours exceed, between the smallest and the largest allowed."""
    return float(np.clip(np.quantile(spreads, 1 - share), *between)) if spreads else between[1]


def _tail(values: Sequence[float]) -> Tail:
    half, high = np.percentile(values, (50, 90))
    return Tail(typical=float(half), spread=max(float(high - half) / 1.2816, _LEAST_SPREAD))


def _organ(
    patients: Sequence[MeasuredPatient], key: str, model: _Model, tails: Mapping[str, Tail]
) -> OrganReference:
    drawn = [patient.organs[key] for patient in patients if key in patient.organs]
    whole = [organ.volume_ml for organ in drawn if not organ.cut]
    apart = [max((piece.distance_mm for piece in organ.pieces), default=0.0) for organ in drawn]
    rest = [sum(piece.ml for piece in organ.pieces[1:]) for organ in drawn]
    return OrganReference(
        patients=len(drawn),
        volume_ml=(min(whole), float(np.median(whole)), max(whole)) if len(whole) >= FEWEST else (),
        measures=model.measures[key],
        signatures=model.signatures[key],
        discriminant=model.discriminants.get(key),
        tails=tails,
        piece_mm=_most(apart),
        piece_ml=_most(rest),
        holes_ml=_most([organ.holes_ml for organ in drawn]),
        skipped_slices=round(_most([float(organ.skipped_slices) for organ in drawn])),
        cut={end: float(np.mean([end in organ.cut for organ in drawn])) for end in ("feet", "head")},
    )


def _most(values: Sequence[float]) -> float:
    """What 97 % of the patients do not exceed: a few clinical contours are wrong."""
    return float(np.quantile(values, 0.97))


def _together(patients: Sequence[MeasuredPatient], keys: Sequence[str]) -> dict[str, dict[str, float]]:
    table = {}
    for key in keys:
        own = [patient.organs for patient in patients if key in patient.organs]
        table[key] = {
            other: float(np.mean([other in organs for organs in own])) for other in keys if other != key
        }
    return table
