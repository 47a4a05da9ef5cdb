"""Judges the organs of a result: whether they look like organs, and are where organs are.

With the reference anatomy of a bundle the judgement is statistical, and an organ far outside is implausible.
Without one only what holds for every patient is compared, and an organ is at most unusual.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from orgseg_node.core.anatomy.measures import OrganMeasures, centroid_mm, measure_main_part
from orgseg_node.core.anatomy.reference import OrganReference, Population
from orgseg_node.core.anatomy.relative_position import relative_position_findings
from orgseg_node.core.anatomy.rules import rule_findings
from orgseg_node.core.anatomy.scores import FAULT, OVERALL, PARTS, OrganScores, deviations, score_organ
from orgseg_node.core.anatomy.values import reference_range, shown, words
from orgseg_node.core.anatomy.working_grid import WorkingGrid
from orgseg_node.core.checks import Finding, Grade, Level, check_labels
from orgseg_node.core.organs import Organ
from orgseg_node.core.volume import LabelMap

_ORDER_MARGIN_MM: Final = 10.0
_ORDER_LEAST_ML: Final = 0.5  # the position of a smaller organ is not compared: it may be a false piece
_FEWEST_TOGETHER: Final = 3  # organs, of which half must be implausible before the others are too
_AGREEMENT: Final = 0.6  # mean Dice of the folds of an ensemble
_SHOWN_VALUES: Final = 2  # values that a sentence names
_NAMED_Z: Final = 2.0  # a sentence names a value that is at least so many spreads from the reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the organs are compared with.

    Attributes
    ----------
    populations : reference anatomy of the models, for this patient; the first that knows an organ judges it
    agreement : mean Dice of the folds of an ensemble, by organ
    """

    populations: Sequence[Population] = ()
    agreement: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The judgement of all organs.

    Attributes
    ----------
    findings : for people, in the order of the organs
    compared : what was measured and what it was compared with, one row for each organ that was found
    """

    findings: tuple[Finding, ...] = ()
    compared: tuple[Mapping[str, Any], ...] = ()

    @property
    def grades(self) -> dict[str, Grade]:
        """The worst grade of each organ; organs without a grade are missing."""
        worst: dict[str, Grade] = {}
        for finding in self.findings:
            organ, grade = finding.organ, finding.grade
            if organ is not None and grade is not None and worst.get(organ) is not Grade.IMPLAUSIBLE:
                worst[organ] = grade
        return worst


def judge_organs(label_map: LabelMap, scan: WorkingGrid, comparison: Comparison) -> Judgement:
    """Judge the organs of a label map.

    Parameters
    ----------
    label_map : the organs on the grid of the CT
    scan : the CT and its body
    comparison : what they are compared with
    """
    return judge_measured(label_map, scan, measure_organs(label_map, scan), comparison)


def measure_organs(label_map: LabelMap, scan: WorkingGrid) -> dict[str, OrganMeasures]:
    """The measures of every organ that was found, by key.

    Parameters
    ----------
    label_map : the organs on the grid of the CT
    scan : the CT and its body
    """
    made = {
        organ.key: measure_main_part(scan, label_map.mask(label), organ.key)
        for label, organ in sorted(label_map.organs.items())
    }
    return {key: measures for key, measures in made.items() if measures is not None}


def judge_measured(
    label_map: LabelMap, scan: WorkingGrid, measured: Mapping[str, OrganMeasures], comparison: Comparison
) -> Judgement:
    """Judge organs that are measured already.

    Parameters
    ----------
    label_map : the organs on the grid of the CT
    scan : the CT and its body
    measured : see `measure_organs`
    comparison : what they are compared with
    """
    organs = {organ.key: organ for organ in label_map.organs.values()}
    found = {key: (organs[key], measures) for key, measures in measured.items()}
    findings: list[Finding] = []
    compared: list[Mapping[str, Any]] = []
    judged_by = {key: next((p for p in comparison.populations if key in p.organs), None) for key in measured}
    scored = {id(p): deviations(measured, p.placement) for p in comparison.populations}
    for key, (organ, measures) in found.items():
        population = judged_by[key]
        reference = None if population is None else population.organs[key]
        row: dict[str, Any] = {"organ": key, "volume_ml": round(measures.volume_ml, 3)}
        if population is not None and reference is not None:
            scores = score_organ(
                measures,
                scored[id(population)][key],
                reference.measures,
                reference.signatures,
                reference.discriminant,
            )
            findings += _statistical(organ, scores, reference, population)
            row |= _row(scores, reference, population)
        else:
            findings += _wide_ranges(organ, measures)
            row |= {
                "reference": "the organ table",
                "range_ml": list(organ.volume_ml or ()),
                "range_hu": list(organ.hu or ()),
            }
        findings += rule_findings(organ, measures, reference)
        compared.append(row)
    findings += _disagreeing(found, comparison.agreement)
    findings += _out_of_order(scan, found)
    findings = list(_together(findings, found, judged_by))
    far = {f.organ for f in findings if f.code == "ORGAN_HAS_FAR_PIECES"}
    rest = [
        _expected(finding, scan, measured, comparison)
        for finding in check_labels(label_map)
        if finding.code != "ORGAN_IN_PIECES" or finding.organ not in far  # another finding has the distances
    ]
    return Judgement(findings=(*rest, *findings), compared=tuple(compared))


def _statistical(
    organ: Organ, scores: OrganScores, reference: OrganReference, population: Population
) -> Iterator[Finding]:
    """A finding if a score is beyond the limit of the reference, with the values that say most."""
    worst = worst_score(scores, reference, population)
    if worst.spreads <= worst.limit:
        return
    name, grade = worst.name, worst.grade
    named = [
        f"{words(value)} {shown(value, measured)} (reference {low} to {high})"
        for value, measured, low, high in _farthest_values(scores, reference)
    ]
    what = f"it looks {name}" if name.startswith(("moved", "grown", "shrunk")) else f"its {name} is {grade}"
    what = f"it looks cut off, {name}" if name.startswith("without") else what
    what = "all its measures together are " + grade if name == "overall" else what
    what = "it looks more like a faulty contour than like a correct one" if name == FAULT else what
    text = "; ".join(named)
    yield Finding(
        level=Level.WARNING,
        code=f"ORGAN_{grade.upper()}",
        message=f"{organ.name} is {grade}: {what}" + (f"; {text}." if text else "."),
        organ=organ.key,
        value=round(worst.spreads, 3),
        measure=f"{name}, in spreads of {reference.patients} training contours",
        reference=(0.0, round(worst.limit, 3)),
        grade=grade,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstScore:
    """The score of an organ that is farthest beyond its limit, or nearest to it.

    Attributes
    ----------
    name : of the score
    spreads : from typical
    limit : spreads on from which the organ is unusual
    grade : of the organ, if the limit is exceeded
    """

    name: str
    spreads: float
    limit: float
    grade: Grade


def worst_score(scores: OrganScores, reference: OrganReference, population: Population) -> WorstScore:
    """The score that is farthest beyond its limit.

    Parameters
    ----------
    scores : of an organ
    reference : of this organ
    population : that it belongs to
    """
    spreads = {
        name: reference.tails[name].spreads(value)
        for name, value in scores.values.items()
        if name in reference.tails
    }
    limits = {name: population.faulty if name == FAULT else population.unusual for name in spreads}
    if not spreads:
        return WorstScore(name=OVERALL, spreads=0.0, limit=population.unusual, grade=Grade.UNUSUAL)
    distances = [name for name in spreads if name != FAULT]
    gross = max(distances, key=lambda name: spreads[name]) if distances else FAULT
    if distances and spreads[gross] > population.implausible:  # the discriminant alone leaves no organ out
        return WorstScore(
            name=gross, spreads=spreads[gross], limit=population.unusual, grade=Grade.IMPLAUSIBLE
        )
    name = max(spreads, key=lambda name: spreads[name] / limits[name])
    return WorstScore(name=name, spreads=spreads[name], limit=limits[name], grade=Grade.UNUSUAL)


def _farthest_values(scores: OrganScores, reference: OrganReference) -> list[tuple[str, float, str, str]]:
    """The values that are farthest from the reference, each with its range."""
    z, gaussian = scores.standardised, reference.measures
    order = np.argsort(-np.abs(np.nan_to_num(z)))
    rows = []
    for n in order[:_SHOWN_VALUES]:
        if abs(np.nan_to_num(z[n])) < _NAMED_Z:
            break
        name = gaussian.names[n]
        low, high = reference_range(gaussian, name)
        value = float(gaussian.centre[n] + z[n] * gaussian.scale[n])
        rows.append((name, value, shown(name, low), shown(name, high)))
    return rows


def _row(scores: OrganScores, reference: OrganReference, population: Population) -> dict[str, Any]:
    """What was measured against what, for report.json."""
    worst = worst_score(scores, reference, population)
    gaussian = reference.measures
    values = {}
    for n, value in enumerate(gaussian.names):
        if np.isfinite(scores.standardised[n]):
            low, high = reference_range(gaussian, value)
            measured = float(gaussian.centre[n] + scores.standardised[n] * gaussian.scale[n])
            values[words(value)] = [shown(value, measured), shown(value, low), shown(value, high)]
    parts = {part: round(scores.values[part], 3) for part in (*PARTS, "overall") if part in scores.values}
    return {
        "reference": f"{reference.patients} training contours",
        "worst": worst.name,
        "spreads": round(worst.spreads, 3),
        "unusual_from": round(worst.limit, 3),
        "implausible_from": round(population.implausible, 3),
        "distances": parts,
        "values": values,
    }


def _wide_ranges(organ: Organ, measures: OrganMeasures) -> Iterator[Finding]:
    """Findings of an organ that no reference knows, from the ranges of the organ table."""
    given = (
        ("volume", measures.volume_ml, organ.volume_ml, "ml", bool(measures.cut) or measures.at_border),
        ("mean HU inside", measures.mean_hu, organ.hu, "HU", False),
    )
    for measure, value, limits, unit, only_largest in given:
        if limits is None or not np.isfinite(value):
            continue
        low, high = limits
        if value > high or (value < low and not only_largest):
            yield Finding(
                level=Level.WARNING,
                code="ORGAN_UNUSUAL",
                message=f"{organ.name} is unusual: {measure} {value:.3g} {unit}; "
                f"patients have {low:g} to {high:g}.",
                organ=organ.key,
                value=round(value, 3),
                measure=f"{measure} in {unit}",
                reference=(low, high),
                grade=Grade.UNUSUAL,
            )


def _disagreeing(
    found: Mapping[str, tuple[Organ, OrganMeasures]], agreement: Mapping[str, float]
) -> Iterator[Finding]:
    for key, (organ, _) in found.items():
        if agreement.get(key, 1.0) < _AGREEMENT:
            yield Finding(
                level=Level.WARNING,
                code="ORGAN_FOLDS_DISAGREE",
                message=f"{organ.name}: the networks of the model disagree (mean Dice {agreement[key]:.2f}).",
                organ=key,
                value=round(agreement[key], 3),
                measure="mean Dice of the networks of an ensemble",
                reference=(_AGREEMENT, 1.0),
                grade=Grade.UNUSUAL,
            )


def _out_of_order(scan: WorkingGrid, found: Mapping[str, tuple[Organ, OrganMeasures]]) -> Iterator[Finding]:
    """Organs that are on the wrong side of each other along the body."""
    centres = {
        key: scan.lps_mm(centroid_mm(measures))
        for key, (_, measures) in found.items()
        if measures.volume_ml >= _ORDER_LEAST_ML and not measures.cut
    }
    names = {key: organ.name for key, (organ, _) in found.items()}
    for finding in relative_position_findings(centres, _ORDER_MARGIN_MM):
        if finding.code != "ANATOMY_SIDE" or not str(finding.organ).endswith(
            "_right"
        ):  # see LEFT_RIGHT_SWAPPED
            message = finding.message
            for key, name in names.items():
                message = message.replace(f"{key} ", f"{name} ").replace(f"{key}:", f"{name}:")
            yield replace(finding, level=Level.WARNING, grade=Grade.UNUSUAL, message=message)


def _together(
    findings: Sequence[Finding],
    found: Mapping[str, tuple[Organ, OrganMeasures]],
    judged_by: Mapping[str, Population | None],
) -> Iterator[Finding]:
    """If most organs are implausible, so are the others: the model does not fit this scan."""
    yield from findings
    bad = {f.organ for f in findings if f.grade is Grade.IMPLAUSIBLE}
    judged = [key for key, population in judged_by.items() if population is not None]
    if len(judged) < _FEWEST_TOGETHER or 2 * len(bad) < len(judged):
        return
    for key in judged:
        if key not in bad:
            yield Finding(
                level=Level.WARNING,
                code="ORGAN_IMPLAUSIBLE",
                message=f"{found[key][0].name} is implausible, since {len(bad)} of {len(judged)} organs are: "
                "the model does not fit this scan.",
                organ=key,
                value=float(len(bad)),
                measure="organs of this scan that are implausible by themselves",
                reference=(0.0, (len(judged) - 1) // 2),
                grade=Grade.IMPLAUSIBLE,
            )


def _expected(
    finding: Finding, scan: WorkingGrid, found: Mapping[str, OrganMeasures], comparison: Comparison
) -> Finding:
    """The finding of a missing organ; only information if it is not in the scan by the other organs."""
    if finding.code != "ORGAN_NOT_FOUND" or finding.organ is None:
        return finding
    anchors = {key: measures.anchors_mm for key, measures in found.items()}
    for population in comparison.populations:
        expected = population.placement.expected_mm(finding.organ, anchors)
        if expected is not None:
            height, sigma, half = expected
            length = scan.grid.shape[scan.order[0]] * scan.grid.spacing_mm[scan.order[0]]
            if not -2 * sigma - half < height < length + 2 * sigma + half:
                text = f"{finding.message} The scan does not reach where it should be."
                return replace(finding, level=Level.INFO, message=text)
            if 0 < height < length:
                text = f"{finding.message} The other organs show that its place is in the scan."
                return replace(finding, message=text)
    return finding
