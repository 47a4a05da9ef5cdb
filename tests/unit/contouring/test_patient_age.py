"""Organs are compared with patients of the same age group, and the age itself appears nowhere."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orgseg_node.contouring.anatomy_check import AnatomyRules
from orgseg_node.contouring.pipeline import Request, run
from orgseg_node.core.anatomy.cohort import ADULT, CHILD, UNKNOWN, TrainingPatients
from orgseg_node.core.anatomy.reference import ALL, AnatomyReference
from orgseg_node.core.organs import OrganTable
from orgseg_node.dicom.reading.series import read_series
from tests.support.ct.anatomy_patients import reference
from tests.support.models.threshold_predictor import ThresholdPredictor

PATIENTS = {ALL: 16, ADULT: 40, CHILD: 30}


def grouped() -> AnatomyReference:
    """A reference with a group of children and one of adults, distinguished by their numbers of patients."""
    group = reference().populations[ALL]
    return AnatomyReference(
        source="made for a test",
        populations={
            name: replace(
                group, organs={key: replace(organ, patients=count) for key, organ in group.organs.items()}
            )
            for name, count in PATIENTS.items()
        },
        trained=TrainingPatients(adults=40, children=0, age_unknown=0, diameters_mm=(100.0, 180.0, 300.0)),
    )


@pytest.mark.parametrize(
    ("attributes", "group"),
    [
        ({"PatientAge": "007Y"}, CHILD),
        ({"PatientAge": "018M"}, CHILD),
        ({"PatientAge": "064Y"}, ADULT),
        ({"PatientBirthDate": "20150615", "StudyDate": "20260301"}, CHILD),
        ({"PatientAge": "064Y", "PatientBirthDate": "20150615", "StudyDate": "20260301"}, ALL),
        ({}, ALL),
    ],
)
def test_the_age_at_the_scan_chooses_the_group(
    attributes: dict[str, str], group: str, ct_folder: Path, organ_table: OrganTable, tmp_path: Path
) -> None:
    series = read_series(ct_folder)
    header = deepcopy(series.header)
    for name in ("PatientAge", "PatientBirthDate"):
        if name in header:
            delattr(header, name)
    for name, value in attributes.items():
        setattr(header, name, value)
    predictor = ThresholdPredictor(organs=organ_table)
    (model,) = predictor.models
    lines: list[str] = []
    outcome = run(
        Request(
            series=replace(series, header=header),
            out=tmp_path,
            job_id="job-1",
            created=datetime(2026, 3, 1, tzinfo=UTC),
            organs=organ_table,
            anatomy=AnatomyRules(references={model.sha256: grouped()}),
        ),
        predictor,
        lambda _step, _part, text: lines.append(text),
    )
    cohort = outcome.report["cohort"]
    expected = group if group != ALL else UNKNOWN
    assert cohort["age"] == expected
    assert [model["age_trained"] for model in cohort["models"]] == [
        {ADULT: True, CHILD: False, UNKNOWN: None}[expected]
    ]
    assert ("COHORT_NOT_TRAINED" in {finding.code for finding in outcome.findings}) is (expected == CHILD)
    rows = {row["organ"]: row for row in outcome.report["anatomy"]}
    assert rows["brainstem"]["reference"].startswith(f"{PATIENTS[group]} ")
    stated = {value for name, value in attributes.items() if name != "StudyDate" and value}
    assert not any(value in line for value in stated for line in (*lines, outcome.report_path.read_text()))
