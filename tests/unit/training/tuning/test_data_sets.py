"""A training on data sets: its file, the scans it uses, and the contours it leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.errors import ConfigError, OptionInvalid
from orgseg_training.datasets.case_store import CaseStore
from orgseg_training.datasets.organ_table import shipped_organs
from orgseg_training.datasets.synthetic import write_patients
from orgseg_training.shipped import training_config
from orgseg_training.tuning.data_sets import (
    TuningFile,
    divide_scans,
    implausible_volumes,
    read_data_sets_file,
    scans_that_validate,
    store_scans,
)

STARTER = training_config("experiments") / "starter-tune.toml"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("data")
    write_patients(root / "first", patients=4, tests=2, varied=True)
    write_patients(root / "more", patients=4, tests=1, first_seed=40, varied=True)
    return {"openkbp": root / "first", "openkbp-more": root / "more"}


@pytest.fixture(scope="module")
def file(folders: dict[str, Path]) -> TuningFile:
    return read_data_sets_file(STARTER, TuningFile, folders)


@pytest.fixture(scope="module")
def store(file: TuningFile, tmp_path_factory: pytest.TempPathFactory) -> CaseStore:
    found = CaseStore(tmp_path_factory.mktemp("work"))
    store_scans(file.databases, found, shipped_organs())
    return found


def test_test_scans_are_held_out_where_the_file_says_so(file: TuningFile, store: CaseStore) -> None:
    cases, tests = divide_scans(file.databases, store.cases())
    assert [case.key for case in tests] == ["openkbp__SYN_002", "openkbp__SYN_003"]
    assert len(cases) == 2 + 4, "of the second data set nothing is held out"


def test_a_copy_of_a_test_scan_is_not_trained_on(tmp_path: Path) -> None:
    write_patients(tmp_path / "first", patients=4, tests=2, varied=True)
    write_patients(tmp_path / "more", patients=4, tests=0, varied=True)  # the same patients
    file = read_data_sets_file(
        STARTER, TuningFile, {"openkbp": tmp_path / "first", "openkbp-more": tmp_path / "more"}
    )
    store = CaseStore(tmp_path / "work")
    store_scans(file.databases, store, shipped_organs())
    cases, tests = divide_scans(file.databases, store.cases())
    assert [case.key for case in tests] == ["openkbp__SYN_002", "openkbp__SYN_003"]
    assert {case.patient for case in cases} == {"SYN_000", "SYN_001"}


def test_validation_takes_the_scans_with_most_organs_of_its_data_set(
    file: TuningFile, store: CaseStore
) -> None:
    cases, _ = divide_scans(file.databases, store.cases())
    keys = scans_that_validate(file, cases)
    assert {key.partition("__")[0] for key in keys} == {"openkbp-more"}
    assert keys[0] in {"openkbp-more__SYN_000", "openkbp-more__SYN_002", "openkbp-more__SYN_003"}


def test_a_contour_of_an_impossible_volume_is_found(store: CaseStore) -> None:
    cases = store.cases()
    assert implausible_volumes(cases, (0.01, 100.0)) == {}
    smaller = implausible_volumes(cases, (0.999, 100.0))
    larger = implausible_volumes(cases, (0.01, 1.001))
    mandibles = [key for found in (smaller, larger) for key, organs in found.items() if "mandible" in organs]
    assert len(mandibles) >= len(cases) - 2, "all but those of the median"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('database = "openkbp-more"', 'database = "other"', "there is no database other"),
        ('test = "none"', 'test = "fraction"', "databases.1.test"),
        ('name = "openkbp-more"', 'name = "openkbp"', "a name is given twice"),
        ("volumes = [0.3, 2.5]", "volumes = [1.3, 2.5]", "volumes.0"),
        ("mirrored = true", "mirrors = true", "training.mirrors"),
        ("balanced = true", "outside_share = 0.2", "outside_share needs balanced"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, old: str, new: str, problem: str) -> None:
    text = STARTER.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "wrong.toml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError, match=problem):
        read_data_sets_file(tmp_path / "wrong.toml", TuningFile, {})


@pytest.mark.parametrize("name", ["starter-tune", "starter-regions", "starter-esophagus"])
def test_the_recipes_that_come_with_the_package_are_valid(name: str) -> None:
    file = read_data_sets_file(training_config("experiments") / f"{name}.toml", TuningFile, {})
    assert set(file.organs) <= set(shipped_organs())
    assert "Not for clinical use" in file.intended_use


def test_an_unknown_data_set_is_refused() -> None:
    with pytest.raises(OptionInvalid, match="no data set other"):
        read_data_sets_file(STARTER, TuningFile, {"other": Path("/data")})
