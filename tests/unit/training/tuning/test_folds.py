"""Training and validation scans of a fine-tuning."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.errors import ConfigError
from orgseg_training.datasets.case import OrganState
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.errors import TooFewDrawn
from orgseg_training.tuning.folds import given_fold, make_folds, validation_scans


def _case(number: int, organs: str, patient: str = "") -> StoredCase:
    return StoredCase(
        key=f"site__{number:02d}",
        database="site",
        patient=patient or f"p{number}",
        age_years=None,
        test=False,
        states=dict.fromkeys(organs.split(), OrganState.DRAWN),
        voxels_sha256=f"v{number}",
        coarse_sha256=f"c{number}",
        folder=Path("nowhere"),
    )


def test_one_fold_validates_a_fifth() -> None:
    (fold,) = make_folds([_case(n, "cord") for n in range(20)], ["cord"], 1, seed=3)
    assert (len(fold["train"]), len(fold["val"])) == (16, 4)
    assert not set(fold["train"]) & set(fold["val"])


def test_several_folds_validate_every_patient_once() -> None:
    cases = [_case(n, "cord larynx" if n % 2 else "cord") for n in range(12)]
    folds = make_folds(cases, ["cord", "larynx"], 3, seed=1)
    validated = [key for fold in folds for key in fold["val"]]
    assert sorted(validated) == [case.key for case in cases]
    larynx = {case.key for case in cases if "larynx" in case.drawn}
    assert [len(larynx & set(fold["val"])) for fold in folds] == [2, 2, 2]


def test_scans_of_a_patient_stay_together() -> None:
    cases = [_case(n, "cord", patient=f"p{n // 2}") for n in range(12)]
    for fold in make_folds(cases, ["cord"], 2, seed=1):
        assert {key[-2:] for key in fold["val"]} & {"00", "01"} in ({"00", "01"}, set())


def test_a_rare_organ_is_found_a_fold_if_there_is_one() -> None:
    cases = [_case(n, "cord larynx" if n < 5 else "cord") for n in range(8)]
    (fold,) = make_folds(cases, ["cord", "larynx"], 1, seed=1)
    assert sum(int(key[-2:]) < 5 for key in fold["train"]) >= 4


def test_an_organ_drawn_too_rarely_is_named() -> None:
    cases = [_case(n, "cord larynx" if n < 2 else "cord") for n in range(10)]
    with pytest.raises(TooFewDrawn, match="larynx is drawn in 2"):
        make_folds(cases, ["cord", "larynx"], 1, seed=1)


def test_each_organ_is_in_the_scans_that_choose_the_best_moment() -> None:
    cases = [_case(n, "cord larynx" if n == 8 else "cord") for n in range(10)]
    fold = {"train": [], "val": [case.key for case in cases]}
    chosen = validation_scans(cases, ["cord", "larynx"], fold, 3)
    assert len(chosen) == len(set(chosen)) == 3
    assert "site__08" in chosen
    assert len(validation_scans(cases, ["cord"], fold, 20)) == 10


def test_the_scans_that_are_named_validate() -> None:
    cases = [_case(n, "cord") for n in range(8)]
    fold = given_fold(cases, ["cord"], ["site__03", "site__01"])
    assert fold["val"] == ["site__01", "site__03"]
    assert sorted([*fold["train"], *fold["val"]]) == [case.key for case in cases]


def test_a_patient_is_not_on_both_sides_when_scans_are_named() -> None:
    cases = [_case(n, "cord", patient=f"p{n // 2}") for n in range(12)]
    with pytest.raises(ConfigError, match="site__02, site__03 are of one patient"):
        given_fold(cases, ["cord"], ["site__02"])
    assert given_fold(cases, ["cord"], ["site__02", "site__03"])["val"] == ["site__02", "site__03"]


def test_named_scans_are_there_and_have_every_organ() -> None:
    cases = [_case(n, "cord larynx" if n < 6 else "cord") for n in range(12)]
    with pytest.raises(ConfigError, match="no scan site__99"):
        given_fold(cases, ["cord"], ["site__99"])
    with pytest.raises(TooFewDrawn, match="larynx"):
        given_fold(cases, ["cord", "larynx"], ["site__10"])
