"""The reference of contours: what it learns, and that it survives being stored."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from orgseg_node.core.anatomy import fitting
from orgseg_node.core.anatomy.cohort import ADULT, CHILD, TrainingPatients
from orgseg_node.core.anatomy.fitting import (
    FEWEST,
    MeasuredPatient,
    fit_reference,
    measure_patient,
    neighbourhoods,
)
from orgseg_node.core.anatomy.gaussian import Gaussian
from orgseg_node.core.anatomy.plausibility import worst_score
from orgseg_node.core.anatomy.reference import ALL, AnatomyReference
from orgseg_node.core.anatomy.scores import FAULT, OrganScores, deviations, score_organ
from orgseg_node.core.anatomy.working_grid import WorkingGrid
from orgseg_node.core.checks import Grade
from tests.support.ct.anatomy_patients import KEYS, anatomy_patient, patients, reference


def worst(patient: MeasuredPatient, key: str) -> float:
    """The highest score of an organ, in units of the limit."""
    group = reference().populations[ALL]
    organ, away = group.organs[key], deviations(patient.organs, group.placement)
    scores = score_organ(patient.organs[key], away[key], organ.measures, organ.signatures, organ.discriminant)
    found = worst_score(scores, organ, group)
    return found.spreads / found.limit


def moved(seed: int, key: str, steps: tuple[int, int, int]) -> MeasuredPatient:
    """A new patient, one of whose organs is moved."""
    patient = anatomy_patient(seed)
    masks = dict(patient.masks)
    masks[key] = np.roll(masks[key], steps, axis=(0, 1, 2))
    return measure_patient(WorkingGrid(patient.grid, patient.hu, patient.body), masks)


def test_new_patients_fit_and_moved_organs_do_not() -> None:
    for key in KEYS:
        assert worst(moved(101, key, (0, 0, 0)), key) < 1
        assert worst(moved(101, key, (0, 5, 0)), key) > 1
        assert worst(moved(101, key, (5, 0, 0)), key) > 1


def test_an_organ_is_learnt_beside_all_and_beside_some_of_its_neighbours() -> None:
    patient = moved(104, "brainstem", (0, 0, 0))
    everything, *some = neighbourhoods(3, "brainstem", patient)
    assert set(everything) == {"parotid_left", "parotid_right"}
    assert all(each and each.keys() <= everything.keys() for each in some)
    assert any(
        set(each) == {"parotid_left"}
        for number in range(20)
        for each in neighbourhoods(number, "brainstem", patient)
    )
    assert neighbourhoods(3, "brainstem", patient) == [everything, *some]
    alone = replace(patient, organs={"brainstem": patient.organs["brainstem"]})
    assert neighbourhoods(3, "brainstem", alone) == [{}, {}, {}]


def test_limits_and_discriminant_come_from_organs_beside_few_neighbours_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fitting, "_SHARES", ())
    only_all = fit_reference(patients(), "a test").populations[ALL].organs["brainstem"]
    some = reference().populations[ALL].organs["brainstem"]
    assert some.tails["relation"] != only_all.tails["relation"]
    assert some.discriminant is not None
    assert only_all.discriminant is not None
    assert not np.allclose(some.discriminant.signed, only_all.discriminant.signed)


def test_a_wrong_organ_does_not_make_its_neighbours_wrong() -> None:
    patient = moved(102, "brainstem", (0, -8, 0))
    assert worst(patient, "brainstem") > 1
    assert worst(patient, "parotid_left") < 1


def test_it_is_the_same_after_storage_and_keeps_the_part_of_the_scan() -> None:
    again = AnatomyReference.from_dict(json.loads(json.dumps(reference().as_dict())))
    assert again.as_dict() == reference().as_dict()
    assert again.scan == {"scans": 3}
    assert again.populations[ALL].patients == 16


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"schema": 2},
        {"schema": 1, "source": "", "populations": {}},
        {"schema": 1, "populations": []},
        reference().as_dict() | {"trained": {"adults": 3}},
    ],
)
def test_something_else_is_refused_with_a_reason(document: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"missing|schema|population|type"):
        AnatomyReference.from_dict(document)


def test_an_organ_needs_enough_patients() -> None:
    few = patients()[: FEWEST - 1]
    with pytest.raises(ValueError, match="no organ"):
        fit_reference(few, "too few")


def test_children_are_apart_only_where_there_are_enough() -> None:
    group = reference()
    assert set(group.populations) == {ALL}
    assert group.population(5.0) is group.populations[ALL]
    assert {ADULT, CHILD}.isdisjoint(group.populations)


def test_missing_values_and_outliers_do_not_spoil_a_distribution() -> None:
    rng = np.random.default_rng(0)
    samples = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], 200)
    samples[:3] = 1000.0
    samples[10:60, 1] = np.nan
    found = Gaussian.fit(("a", "b"), samples, np.full(2, 0.1))
    assert found.scale == pytest.approx([1, 1], abs=0.25)
    assert 0.3 < found.correlation[0, 1] < 0.85
    assert found.distance(found.standardised({"a": 2, "b": -2})) > found.distance(
        found.standardised({"a": 2, "b": 2})
    )
    assert found.distance(np.full(2, np.nan)) == 0
    assert found.standardised({"a": 1.0})[0] == pytest.approx(1, abs=0.3)


def test_the_training_patients_are_counted_by_age_and_size() -> None:
    made = [
        replace(patient, age_years=age, diameter_mm=150.0 + number)
        for number, (patient, age) in enumerate(zip(patients(), [5.0, 17.9, 18.0, None] * 4, strict=True))
    ]
    found = AnatomyReference.from_dict(json.loads(json.dumps(fit_reference(made, "a test").as_dict())))
    assert found.trained == TrainingPatients(
        adults=4, children=8, age_unknown=4, diameters_mm=(150.0, 157.5, 165.0)
    )


def test_a_reference_made_without_a_discriminant_is_still_read_and_judges_by_distances() -> None:
    document = json.loads(json.dumps(reference().as_dict()))
    group = document["populations"][ALL]
    assert group.pop("faulty") > 1
    for organ in group["organs"].values():
        assert set(organ.pop("discriminant")) == {"signed", "sizes"}
    older = AnatomyReference.from_dict(document).populations[ALL]
    organ, patient = older.organs["brainstem"], moved(103, "brainstem", (0, 8, 0)).organs["brainstem"]
    found = worst_score(score_organ(patient, None, organ.measures, organ.signatures), organ, older)
    assert found.name != FAULT
    assert found.spreads > found.limit


def test_patients_without_measured_faults_give_a_reference_without_a_discriminant() -> None:
    made = fit_reference([replace(patient, faulty={}) for patient in patients()], "a test")
    group = made.populations[ALL]
    assert all(organ.discriminant is None for organ in group.organs.values())
    assert group.implausible == pytest.approx(1.8 * group.unusual)


def test_what_only_looks_faulty_is_unusual_and_never_implausible() -> None:
    group = reference().populations[ALL]
    organ = group.organs["brainstem"]
    typical = {name: tail.typical for name, tail in organ.tails.items()}
    scores = OrganScores(
        values=typical | {FAULT: organ.tails[FAULT].typical + 50 * organ.tails[FAULT].spread},
        standardised=np.zeros(len(organ.measures.names)),
        deviation=None,
    )
    found = worst_score(scores, organ, group)
    assert (found.name, found.grade) == (FAULT, Grade.UNUSUAL)
    assert found.spreads > found.limit


def test_a_reference_made_before_patients_were_counted_is_still_read() -> None:
    document = reference().as_dict()
    assert "trained" not in document
    assert AnatomyReference.from_dict(document).trained is None
