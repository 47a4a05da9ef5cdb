"""Which patients a bundle was trained on, and whether a patient is one of them: by age, and by size.

The age comes from the header of the CT and may be missing; the size is the effective diameter at the level
scanned, in mm. Neither decides anything: what is outside of the training patients is a warning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from orgseg_node.core.body.size import PatientSize
from orgseg_node.core.checks import Finding, Level

ADULT, CHILD, UNKNOWN = "adult", "child", "unknown"
"""Cohorts by age: from 18 years on, younger, and patients whose age is not known."""
ADULT_YEARS: Final = 18.0

COHORT_NOT_TRAINED: Final = "COHORT_NOT_TRAINED"
SIZE_NOT_TRAINED: Final = "SIZE_NOT_TRAINED"

_TOLERANCE: Final = 0.05
"""A patient is of another size if the diameter is this fraction beyond the smallest or the largest one: of as
many new patients of the same clinics as were trained on, two lie outside of the range itself."""


def cohort_of(age_years: float | None) -> str:
    """The cohort of a patient by age in years; None if it is not known."""
    if age_years is None:
        return UNKNOWN
    return ADULT if age_years >= ADULT_YEARS else CHILD


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPatients:
    """The patients that a bundle was trained on.

    Attributes
    ----------
    adults, children, age_unknown : number of them by cohort
    diameters_mm : smallest, median and largest effective diameter
    """

    adults: int
    children: int
    age_unknown: int
    diameters_mm: tuple[float, float, float]

    @classmethod
    def of(cls, patients: Sequence[tuple[float | None, float]]) -> TrainingPatients | None:
        """Count patients, given by age in years (None if not known) and diameter in mm; None without any."""
        if not patients:
            return None
        groups = [cohort_of(age) for age, _ in patients]
        sizes = [diameter for _, diameter in patients]
        return cls(
            adults=groups.count(ADULT),
            children=groups.count(CHILD),
            age_unknown=groups.count(UNKNOWN),
            diameters_mm=(min(sizes), float(np.median(sizes)), max(sizes)),
        )

    def number_of(self, cohort: str) -> int:
        """How many of them are of a cohort."""
        return {ADULT: self.adults, CHILD: self.children, UNKNOWN: self.age_unknown}[cohort]

    def covers_cohort(self, cohort: str) -> bool | None:
        """Whether some of them are of a cohort; None if that is not known, as where ages are missing."""
        if cohort == UNKNOWN:
            return None
        if self.number_of(cohort):
            return True
        return None if self.age_unknown else False

    def covers_size(self, size: PatientSize) -> bool | None:
        """Whether the size is in their range; None if the field of view cuts a patient who seems small."""
        smallest, _, largest = self.diameters_mm
        if size.effective_diameter_mm > largest * (1.0 + _TOLERANCE):
            return False
        if size.is_lower_limit:
            return None
        return size.effective_diameter_mm >= smallest * (1.0 - _TOLERANCE)

    def as_dict(self) -> dict[str, Any]:
        """As plain numbers, for JSON."""
        return {
            "adults": self.adults,
            "children": self.children,
            "age_unknown": self.age_unknown,
            "diameters_mm": [round(each, 1) for each in self.diameters_mm],
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> TrainingPatients:
        """From `as_dict`. Raises KeyError, TypeError or ValueError if it is something else."""
        smallest, middle, largest = (float(each) for each in row["diameters_mm"])
        return cls(
            adults=int(row["adults"]),
            children=int(row["children"]),
            age_unknown=int(row["age_unknown"]),
            diameters_mm=(smallest, middle, largest),
        )


def cohort_findings(
    cohort: str, size: PatientSize, trained: TrainingPatients, bundle: str
) -> tuple[Finding, ...]:
    """Warnings where a bundle was not trained on patients like this one.

    A child is also reported where the ages of training patients are not known: most sources of contours
    have adults only. An adult is then not reported.

    Parameters
    ----------
    cohort : of the patient, see `cohort_of`
    size : of the patient
    trained : on whom the bundle was trained
    bundle : its name, for the sentences
    """
    found = []
    covered = trained.covers_cohort(cohort)
    if covered is False or (covered is None and cohort == CHILD):
        who = "a child" if cohort == CHILD else "an adult"
        others = "children" if cohort == CHILD else "adults"
        known = "" if covered is False else f"; the age of {trained.age_unknown} of them is not known"
        found.append(
            Finding(
                level=Level.WARNING,
                code=COHORT_NOT_TRAINED,
                message=f"The patient is {who}, and no {others} are known among the training patients of "
                f"'{bundle}'{known}.",
            )
        )
    if trained.covers_size(size) is False:
        smallest, _, largest = trained.diameters_mm
        found.append(
            Finding(
                level=Level.WARNING,
                code=SIZE_NOT_TRAINED,
                message=f"The patient's effective diameter of {size.effective_diameter_mm:.0f} mm is outside "
                f"of the training patients of '{bundle}' ({smallest:.0f} to {largest:.0f} mm).",
                value=round(size.effective_diameter_mm, 1),
                measure="effective diameter in mm",
                reference=(round(smallest, 1), round(largest, 1)),
            )
        )
    return tuple(found)
