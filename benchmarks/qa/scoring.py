"""Runs the node's judge on correct and on faulty contours, and counts."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.qa.faults import Patient, inject
from orgseg_node.core.anatomy.measures import measure_main_part
from orgseg_node.core.anatomy.plausibility import Comparison, Judgement, judge_measured, measure_organs
from orgseg_node.core.anatomy.working_grid import WorkingGrid
from orgseg_node.core.checks import Grade
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap

CLEAN = "clean"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One judged organ.

    Attributes
    ----------
    patient, organ, kind : which one, and which fault; ``clean`` for none
    dice : with the correct contour
    grade : worst grade; None if it is not flagged
    score : spreads from typical, in units of the limit; for a ROC curve
    message : the first sentence about it
    """

    patient: str
    organ: str
    kind: str
    dice: float
    grade: Grade | None
    score: float
    message: str

    @property
    def is_flagged(self) -> bool:
        """Whether a person is asked to look at it, or it is left out."""
        return self.grade is not None


def judged_rows(
    patient: Patient, others: Sequence[Patient], table: OrganTable, comparison: Comparison
) -> Iterator[Row]:
    """The organs of a patient, correct and with every fault.

    Parameters
    ----------
    patient : with correct contours
    others : patients whose organs may be taken
    table : the organ table
    comparison : what the judge compares with
    """
    scan = WorkingGrid(patient.grid, patient.hu, patient.body)
    organs = {number: table[key] for key, number in patient.numbers.items()}
    correct = LabelMap(grid=patient.grid, labels=patient.labels, organs=organs)
    measured = measure_organs(correct, scan)
    judgement = judge_measured(correct, scan, measured, comparison)
    for key in measured:
        yield row(patient.name, key, CLEAN, 1.0, judgement)
    rng = np.random.default_rng(zlib.crc32(patient.name.encode()))
    for key in measured:
        other = others[int(rng.integers(len(others)))]
        for fault in inject(patient, key, other, rng):
            faulty = LabelMap(grid=patient.grid, labels=fault.labels, organs=organs)
            changed = dict(measured)
            for number, organ in organs.items():
                if not np.array_equal(fault.labels == number, patient.labels == number):
                    again = measure_main_part(scan, faulty.mask(number), organ.key)
                    changed.pop(organ.key, None)
                    if again is not None:
                        changed[organ.key] = again
            wrong = judge_measured(faulty, scan, changed, comparison)
            yield row(patient.name, key, fault.kind, fault.dice, wrong)


def row(patient: str, organ: str, kind: str, dice: float, judgement: Judgement) -> Row:
    """What the judge says of one organ.

    Parameters
    ----------
    patient, organ, kind, dice : see `Row`
    judgement : of the whole result
    """
    own = [f for f in judgement.findings if f.organ == organ and f.grade is not None]
    swapped = any(f.code == "LEFT_RIGHT_SWAPPED" for f in judgement.findings) and "_" in organ
    missing = any(f.code == "ORGAN_NOT_FOUND" and f.organ == organ for f in judgement.findings)
    grade = judgement.grades.get(organ)
    if grade is None and (missing or (swapped and kind == "swapped sides")):
        grade = Grade.UNUSUAL
    compared = next((c for c in judgement.compared if c["organ"] == organ), {})
    score = compared.get("spreads", 0.0) / compared.get("unusual_from", 1.0)
    score = max(score, 1.001 if grade else 0.0)
    message = own[0].message if own else ""
    return Row(patient=patient, organ=organ, kind=kind, dice=dice, grade=grade, score=score, message=message)
