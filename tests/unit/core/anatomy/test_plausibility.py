"""The judgement of a result: what is flagged, how gravely, and with which words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from orgseg_node.core.anatomy.plausibility import Comparison, Judgement, judge_organs
from orgseg_node.core.anatomy.working_grid import WorkingGrid
from orgseg_node.core.checks import Grade, Level
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap, Mask
from tests.support.ct.anatomy_patients import KEYS, AnatomyPatient, anatomy_patient, reference


def judged(
    table: OrganTable,
    patient: AnatomyPatient,
    masks: dict[str, Mask] | None = None,
    comparison: Comparison | None = None,
) -> Judgement:
    """The judgement of a patient, some of whose contours were changed."""
    labels = np.zeros(patient.grid.shape, dtype=np.uint8)
    for number, key in enumerate(KEYS, start=1):
        labels[{**patient.masks, **(masks or {})}[key]] = number
    organs = {number: table[key] for number, key in enumerate(KEYS, start=1)}
    label_map = LabelMap(grid=patient.grid, labels=labels, organs=organs)
    scan = WorkingGrid(patient.grid, patient.hu, patient.body)
    with_reference = Comparison(populations=[reference().population(None)])
    return judge_organs(label_map, scan, comparison or with_reference)


def test_correct_contours_are_left_alone(organ_table: OrganTable) -> None:
    judgement = judged(organ_table, anatomy_patient(201))
    assert judgement.grades == {}
    assert {row["organ"] for row in judgement.compared} == set(KEYS)


def test_an_organ_far_away_is_implausible_and_says_why(organ_table: OrganTable) -> None:
    patient = anatomy_patient(202)
    elsewhere = np.roll(patient.masks["brainstem"], (0, -16, 0), axis=(0, 1, 2))
    judgement = judged(organ_table, patient, {"brainstem": elsewhere})
    assert judgement.grades["brainstem"] is Grade.IMPLAUSIBLE
    finding = next(f for f in judgement.findings if f.organ == "brainstem" and f.grade is not None)
    assert finding.code == "ORGAN_IMPLAUSIBLE"
    assert finding.level is Level.WARNING
    assert finding.measure is not None
    assert finding.reference is not None
    assert "reference" in finding.message


def test_exchanged_names_are_found_on_both_organs(organ_table: OrganTable) -> None:
    patient = anatomy_patient(203)
    swapped = {
        "brainstem": patient.masks["parotid_left"],
        "parotid_left": patient.masks["brainstem"],
    }
    assert {"brainstem", "parotid_left"} <= set(judged(organ_table, patient, swapped).grades)


def test_when_most_organs_are_implausible_none_is_trusted(organ_table: OrganTable) -> None:
    patient = anatomy_patient(204)
    moved = {key: np.roll(patient.masks[key], (0, -14, 0), axis=(0, 1, 2)) for key in KEYS[1:]}
    judgement = judged(organ_table, patient, moved)
    assert judgement.grades == dict.fromkeys(KEYS, Grade.IMPLAUSIBLE)


def test_a_crumb_far_away_does_not_spoil_an_organ_and_its_neighbours(organ_table: OrganTable) -> None:
    patient = anatomy_patient(205)
    mask = patient.masks["brainstem"].copy()
    mask[1:3, 34:37, 22:24] = True  # 0.6 ml
    clean, judgement = judged(organ_table, patient), judged(organ_table, patient, {"brainstem": mask})
    assert clean.grades == {}
    assert judgement.grades == {"brainstem": Grade.UNUSUAL}
    assert [f.code for f in judgement.findings if f.grade is not None] == ["ORGAN_HAS_FAR_PIECES"]
    for before, after in zip(clean.compared, judgement.compared, strict=True):
        assert after["spreads"] == before["spreads"]


def test_a_piece_far_away_is_found_by_its_distance(organ_table: OrganTable) -> None:
    patient = anatomy_patient(205)
    mask = patient.masks["brainstem"].copy()
    mask[2:5, 30:33, 22:25] = True
    findings = judged(organ_table, patient, {"brainstem": mask}).findings
    assert "ORGAN_HAS_FAR_PIECES" in {f.code for f in findings}


def test_skipped_slices_are_found(organ_table: OrganTable) -> None:
    patient = anatomy_patient(206)
    mask = patient.masks["brainstem"].copy()
    shown = np.flatnonzero(mask.any(axis=(1, 2)))
    mask[shown[3:5]] = False
    findings = judged(organ_table, patient, {"brainstem": mask}).findings
    (finding,) = (f for f in findings if f.code == "ORGAN_SKIPS_SLICES")
    assert finding.value == 2


def test_a_missing_organ_is_a_warning_where_its_place_is_in_the_scan(organ_table: OrganTable) -> None:
    patient = anatomy_patient(207)
    nothing = np.zeros_like(patient.body)
    (finding,) = (
        f
        for f in judged(organ_table, patient, {"brainstem": nothing}).findings
        if f.code == "ORGAN_NOT_FOUND"
    )
    assert finding.level is Level.WARNING
    assert "its place is in the scan" in finding.message


def test_without_a_reference_only_wide_ranges_are_compared(organ_table: OrganTable) -> None:
    patient = anatomy_patient(208)
    crumb = np.zeros_like(patient.body)
    crumb[16, 22, 22] = True
    judgement = judged(organ_table, patient, {"brainstem": crumb}, Comparison())
    assert judgement.grades == {"brainstem": Grade.UNUSUAL}
    (finding,) = (f for f in judgement.findings if f.code == "ORGAN_UNUSUAL")
    assert finding.reference == (4.0, 60.0)


def test_an_organ_in_the_couch_is_found(organ_table: OrganTable) -> None:
    patient = anatomy_patient(209)
    outside = np.zeros_like(patient.body)
    outside[10:20, 42:44, 10:30] = True
    codes = {f.code for f in judged(organ_table, patient, {"brainstem": outside}).findings}
    assert "ORGAN_OUTSIDE_BODY" in codes


def test_networks_that_disagree_are_reported(organ_table: OrganTable) -> None:
    comparison = Comparison(populations=[reference().population(None)], agreement={"brainstem": 0.4})
    judgement = judged(organ_table, anatomy_patient(210), comparison=comparison)
    assert judgement.grades == {"brainstem": Grade.UNUSUAL}


def test_a_crumb_on_the_wrong_side_does_not_swap_the_sides(organ_table: OrganTable) -> None:
    patient = anatomy_patient(211)
    crumb = np.zeros_like(patient.body)
    crumb[16, 22, 30] = True
    codes = {f.code for f in judged(organ_table, patient, {"parotid_right": crumb}).findings}
    assert "LEFT_RIGHT_SWAPPED" not in codes
    swapped = {"parotid_left": patient.masks["parotid_right"], "parotid_right": patient.masks["parotid_left"]}
    findings = judged(organ_table, patient, swapped).findings
    (finding,) = (f for f in findings if f.code == "LEFT_RIGHT_SWAPPED")
    assert finding.level is Level.ERROR
    assert replace(finding, level=Level.INFO).grade is None
