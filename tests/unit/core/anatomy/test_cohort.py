"""Whether a bundle was trained on patients of the age and the size of a patient."""

from __future__ import annotations

import pytest

from orgseg_node.core.anatomy.cohort import (
    ADULT,
    CHILD,
    COHORT_NOT_TRAINED,
    SIZE_NOT_TRAINED,
    UNKNOWN,
    TrainingPatients,
    cohort_findings,
    cohort_of,
)
from orgseg_node.core.body.size import PatientSize
from orgseg_node.core.checks import Level


def trained(adults: int = 0, children: int = 0, age_unknown: int = 0) -> TrainingPatients:
    return TrainingPatients(
        adults=adults, children=children, age_unknown=age_unknown, diameters_mm=(150.0, 180.0, 240.0)
    )


def size(diameter_mm: float, *, cut: float = 0.0) -> PatientSize:
    return PatientSize(effective_diameter_mm=diameter_mm, ap_mm=180.0, lat_mm=180.0, cut=cut)


def codes(cohort: str, measured: PatientSize, patients: TrainingPatients) -> set[str]:
    found = cohort_findings(cohort, measured, patients, "hn")
    assert all(finding.level is Level.WARNING for finding in found), "an unusual patient is not refused"
    assert all("'hn'" in finding.message for finding in found)
    return {finding.code for finding in found}


@pytest.mark.parametrize(
    ("age_years", "cohort"),
    [(None, UNKNOWN), (0.0, CHILD), (17.99, CHILD), (18.0, ADULT), (90.0, ADULT)],
)
def test_adults_are_eighteen(age_years: float | None, cohort: str) -> None:
    assert cohort_of(age_years) == cohort


@pytest.mark.parametrize(
    ("cohort", "patients", "warned", "covered"),
    [
        (ADULT, trained(adults=70), set(), True),
        (ADULT, trained(children=70), {COHORT_NOT_TRAINED}, False),
        (ADULT, trained(age_unknown=70), set(), None),
        (CHILD, trained(adults=70), {COHORT_NOT_TRAINED}, False),
        (CHILD, trained(adults=70, children=3), set(), True),
        (CHILD, trained(age_unknown=70), {COHORT_NOT_TRAINED}, None),
        (CHILD, trained(adults=10, age_unknown=60), {COHORT_NOT_TRAINED}, None),
        (UNKNOWN, trained(adults=70), set(), None),
        (UNKNOWN, trained(age_unknown=70), set(), None),
    ],
)
def test_a_cohort_without_a_training_patient_is_a_warning(
    cohort: str, patients: TrainingPatients, warned: set[str], covered: object
) -> None:
    assert patients.covers_cohort(cohort) is covered
    assert codes(cohort, size(180.0), patients) == warned


@pytest.mark.parametrize(
    ("measured", "covered"),
    [
        (size(180.0), True),
        (size(143.0), True),
        (size(251.0), True),
        (size(142.0), False),
        (size(253.0), False),
        (size(130.0, cut=0.9), None),
        (size(180.0, cut=0.9), None),
        (size(270.0, cut=0.9), False),
        (size(130.0, cut=0.5), False),
    ],
)
def test_a_size_beyond_the_training_patients_is_a_warning(measured: PatientSize, covered: object) -> None:
    patients = trained(adults=70)
    assert patients.covers_size(measured) is covered
    assert codes(ADULT, measured, patients) == ({SIZE_NOT_TRAINED} if covered is False else set())


def test_patients_are_counted_and_survive_storage() -> None:
    found = TrainingPatients.of([(5.0, 120.0), (40.0, 200.0), (None, 180.0), (70.0, 210.0)])
    assert found == TrainingPatients(adults=2, children=1, age_unknown=1, diameters_mm=(120.0, 190.0, 210.0))
    assert TrainingPatients.from_dict(found.as_dict()) == found
    assert TrainingPatients.of([]) is None
