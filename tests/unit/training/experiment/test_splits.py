"""Splits: no patient is on two sides, and locked splits are never changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.errors import ConfigError
from orgseg_training.datasets.case import OrganState
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.datasets.scan_groups import groups_of
from orgseg_training.errors import SplitChanged
from orgseg_training.experiment.config import Experiment, load_experiment
from orgseg_training.experiment.splits import lock_splits, make_splits, read_splits
from orgseg_training.shipped import training_config

SMOKE = load_experiment(training_config("experiments/smoke.toml"))


def experiment(**changes: object) -> Experiment:
    """The small experiment with other settings."""
    return SMOKE.model_copy(update=changes)


def case(number: int, *, database: str = "synthetic", **changes: object) -> StoredCase:
    """A scan of a patient of its own, with voxels of its own."""
    values: dict[str, object] = {
        "key": f"{database}__{number:03d}",
        "database": database,
        "patient": f"P{number}",
        "age_years": None,
        "test": False,
        "states": {"mandible": OrganState.DRAWN},
        "voxels_sha256": f"v-{database}-{number}",
        "coarse_sha256": f"c-{database}-{number}",
        "folder": Path(),
    }
    return StoredCase(**values | changes)  # type: ignore[arg-type]


def test_the_data_sets_own_test_scans_are_held_back_and_all_others_validate_once() -> None:
    cases = [case(n, test=n >= 8) for n in range(10)]
    splits = make_splits(experiment(folds=4), cases)
    assert splits.subsets == {2: ("synthetic__008", "synthetic__009")}
    validated = [key for fold in splits.folds for key in fold]
    assert sorted(validated) == [f"synthetic__{n:03d}" for n in range(8)]
    assert {len(fold) for fold in splits.folds} == {2}


def test_scans_of_one_patient_are_in_one_fold() -> None:
    cases = [case(n, patient=f"P{n // 2}") for n in range(12)]
    splits = make_splits(experiment(folds=3), cases)
    for fold in splits.folds:
        numbers = {int(key[-3:]) // 2 for key in fold}
        assert len(fold) == 2 * len(numbers)


def test_a_copy_of_a_held_scan_in_another_data_set_is_held_back_in_strict_mode_alone() -> None:
    other = SMOKE.databases[0].model_copy(update={"name": "other", "test": "none", "subset": 1})
    both = experiment(databases=(SMOKE.databases[0], other))
    cases = [
        case(0, test=True),
        case(1),
        case(2),
        case(3),
        case(9, database="other", coarse_sha256="c-synthetic-0"),
    ]
    strict = make_splits(both, cases)
    assert "other__009" in strict.tested
    paper = make_splits(both.model_copy(update={"mode": "paper"}), cases)
    assert "other__009" in paper.development, "a weakness of the study, reproduced in the mode paper"


def test_a_fraction_of_the_patients_is_held_back_the_same_every_time() -> None:
    tenth = SMOKE.databases[0].model_copy(update={"test": "fraction", "fraction": 0.1, "subset": 1})
    cases = [case(n) for n in range(30)]
    first, second = (make_splits(experiment(databases=(tenth,)), cases) for _ in range(2))
    assert first == second
    assert len(first.subsets[1]) == 3


def test_rare_organs_are_spread_over_the_folds() -> None:
    rare = {"mandible": OrganState.DRAWN, "larynx": OrganState.DRAWN}
    cases = [case(n, states=rare if n < 5 else {"mandible": OrganState.DRAWN}) for n in range(25)]
    splits = make_splits(experiment(folds=5), cases)
    assert all(sum(int(key[-3:]) < 5 for key in fold) == 1 for fold in splits.folds)


def test_copies_make_one_group_over_any_number_of_steps() -> None:
    chain = [case(0), case(1, voxels_sha256="v-synthetic-0"), case(2, patient="P1"), case(3)]
    assert [len(group) for group in groups_of(chain)] == [3, 1]
    assert [len(group) for group in groups_of(chain, copies=False)] == [1, 2, 1]


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 patients"):
        make_splits(experiment(folds=2), [case(0)])
    cases = [case(n) for n in range(3)]
    left_out = [one.key for one in cases[1:]]
    with pytest.raises(ConfigError, match=r"Of 3 scans 2 were left out, .*; 0 patients are for the test\."):
        make_splits(experiment(folds=2), cases, left_out=left_out)


def test_a_locked_split_is_never_changed(tmp_path: Path) -> None:
    file = tmp_path / "splits.lock.json"
    splits = make_splits(experiment(folds=2), [case(n) for n in range(6)])
    lock_splits(splits, file)
    assert read_splits(file) == splits
    lock_splits(splits, file)
    with pytest.raises(SplitChanged):
        lock_splits(make_splits(experiment(folds=3), [case(n) for n in range(6)]), file)
    file.write_text(file.read_text().replace("synthetic__003", "synthetic__004"))
    with pytest.raises(SplitChanged, match="hash"):
        read_splits(file)
