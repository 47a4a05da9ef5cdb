"""Two folders become per-case results; what does not belong together is refused with a code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from orgseg_node.core.geometry import Grid
from orgseg_node.core.metrics import Status, compare
from orgseg_node.core.organs import OrganTable
from orgseg_node.errors import ConfigError, GridsDiffer, InputError, LabelsInvalid, NotPaired
from orgseg_training.cli.app import app
from orgseg_training.datasets.nifti import write_image
from orgseg_training.evaluation.results import read_cases
from orgseg_training.evaluation.scoring import (
    CaseInfo,
    Evaluation,
    Tolerances,
    read_case_list,
    read_label_numbers,
    read_tolerances,
)
from orgseg_training.shipped import training_config

GRID = Grid(shape=(12, 14, 16), spacing_mm=(3.0, 1.0, 1.5), origin_mm=(-5.0, 7.0, 100.0))
NUMBERS = {"liver": (1, 1), "spleen": (2, 4)}


def labels(shift: int = 0, spleen: int = 2) -> NDArray[np.uint8]:
    array = np.zeros(GRID.shape, np.uint8)
    array[3:8, 3:8, 3 + shift : 8 + shift] = 1
    array[4:7, 9:12, 9:12] = spleen
    return array


def evaluation(root: Path, **changes: object) -> Evaluation:
    for folder, array in (("reference", labels()), ("prediction", labels(1, spleen=4))):
        (root / folder).mkdir(exist_ok=True)
        for case in ("a", "b"):
            write_image(root / folder / f"{case}.nii.gz", array, GRID)
    given: dict[str, object] = {
        "reference": root / "reference",
        "prediction": root / "prediction",
        "numbers": NUMBERS,
        "model": "m",
        "subset": "test",
        "cases": {"b": CaseInfo(group="p", subset="2", child=True, labelled=frozenset({"liver"}))},
        "tolerances": Tolerances(organs_mm={"liver": 1.0}),
    }
    return Evaluation(**(given | changes))  # type: ignore[arg-type]


def test_every_organ_of_every_case_is_scored_as_by_hand(tmp_path: Path) -> None:
    scores = list(evaluation(tmp_path).scores())
    assert [(s.case, s.organ) for s in scores] == [(c, o) for c in "ab" for o in NUMBERS]
    whole = compare(labels() == 1, labels(1) == 1, GRID.spacing_mm, 1.0)
    assert scores[0].comparison == whole, "the box changes nothing"
    assert scores[1].comparison.dsc == 1.0, "number 2 there, number 4 here"
    assert [s.group for s in scores] == ["a", "a", "p", "p"]
    assert [s.subset for s in scores] == ["test", "test", "2", "2"]
    assert scores[3].status is Status.NOT_LABELLED


def test_an_organ_in_neither_image_is_a_true_negative(tmp_path: Path) -> None:
    scores = list(evaluation(tmp_path, numbers={"heart": (9, 9)}, cases={}).scores())
    assert {s.status for s in scores} == {Status.BOTH_EMPTY}


def test_cases_in_one_folder_only_and_empty_folders_are_refused(tmp_path: Path) -> None:
    setup = evaluation(tmp_path)
    (tmp_path / "prediction" / "b.nii.gz").unlink()
    with pytest.raises(NotPaired, match="first is b"):
        list(setup.scores())
    with pytest.raises(NotPaired, match="has no"):
        list(evaluation(tmp_path, reference=tmp_path).scores())


@pytest.mark.parametrize("change", ["shape", "place"])
def test_a_prediction_on_another_grid_is_refused(tmp_path: Path, change: str) -> None:
    setup = evaluation(tmp_path)
    place = (-5.0, 7.0, 100.0 if change == "shape" else 103.0)
    array = labels()[:-1] if change == "shape" else labels()
    grid = Grid(shape=array.shape, spacing_mm=GRID.spacing_mm, origin_mm=place)
    write_image(tmp_path / "prediction" / "a.nii.gz", array, grid)
    with pytest.raises(GridsDiffer, match="Case a"):
        list(setup.scores())


def test_files_that_hold_no_labels_are_refused(tmp_path: Path) -> None:
    setup = evaluation(tmp_path)
    write_image(tmp_path / "prediction" / "a.nii.gz", labels().astype(np.int16) - 5, GRID)
    with pytest.raises(InputError, match="no label numbers"):
        list(setup.scores())
    (tmp_path / "prediction" / "a.nii.gz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="damaged or truncated"):
        list(setup.scores())


def test_label_numbers_by_key_and_by_tg263_name(tmp_path: Path, organ_table: OrganTable) -> None:
    path = tmp_path / "dataset.json"
    path.write_text('{"labels": {"background": 0, "Liver": 1, "kidney_left": 2}}')
    assert read_label_numbers(path, organ_table) == {"liver": 1, "kidney_left": 2}


@pytest.mark.parametrize(
    "text", ["livre = 1", "liver = 300", "liver = 1\nspleen = 1", "liver = [", "", "liver = 0"]
)
def test_labels_that_say_nothing_sure_are_refused(tmp_path: Path, organ_table: OrganTable, text: str) -> None:
    (tmp_path / "labels.toml").write_text(text)
    with pytest.raises(LabelsInvalid):
        read_label_numbers(tmp_path / "labels.toml", organ_table)


def test_a_case_list_tells_not_drawn_from_not_said(tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    path.write_text("case,child,labelled\na,1,liver spleen\nb,,\n")
    cases = read_case_list(path)
    assert cases["a"].labelled == {"liver", "spleen"}
    assert cases["a"].child is True
    assert cases["b"].labelled == frozenset()
    path.write_text("case\na\n")
    assert read_case_list(path)["a"].labelled is None
    path.write_text("name\na\n")
    with pytest.raises(ConfigError):
        read_case_list(path)


def test_tolerances_by_organ(tmp_path: Path, organ_table: OrganTable) -> None:
    assert read_tolerances(training_config("tolerances.toml"), organ_table) == Tolerances()
    path = tmp_path / "t.toml"
    path.write_text("default_mm = 1.5\n[organs_mm]\nliver = 3\n")
    found = read_tolerances(path, organ_table)
    assert (found.of("liver"), found.of("spleen")) == (3.0, 1.5)
    for wrong in ("[organs_mm]\nlever = 3", "default_mm = 0", "defalt_mm = 2"):
        path.write_text(wrong)
        with pytest.raises(ConfigError):
            read_tolerances(path, organ_table)


def test_from_two_folders_to_tables_on_the_command_line(tmp_path: Path) -> None:
    evaluation(tmp_path)
    (tmp_path / "labels.toml").write_text("liver = 1\nspleen = 2\n")
    (tmp_path / "theirs.toml").write_text("spleen = 4\nliver = 1\n")
    out = tmp_path / "cases.parquet"
    run = CliRunner()
    command = [
        "evaluate",
        "--reference",
        str(tmp_path / "reference"),
        "--prediction",
        str(tmp_path / "prediction"),
    ]
    command += ["--out", str(out), "--labels", str(tmp_path / "labels.toml")]
    first = run.invoke(
        app, [*command, "--prediction-labels", str(tmp_path / "theirs.toml"), "--model", "one"]
    )
    second = run.invoke(app, [*command, "--model", "two", "--append"])
    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    found = {(s.model, s.case, s.organ): s for s in read_cases(out)}
    assert len(found) == 8
    assert found["one", "a", "spleen"].comparison.dsc == 1.0
    assert found["two", "a", "spleen"].status is Status.PRED_EMPTY
    made = run.invoke(app, ["tables", str(out), "--out", str(tmp_path / "tables")])
    assert made.exit_code == 0, made.output
    names = {path.name for path in (tmp_path / "tables").iterdir()}
    assert {"table_1.csv", "table_2.html", "table_3.tex", "cost.csv", "boxes_test_dsc.png"} <= names


def test_errors_of_the_command_line_have_codes(tmp_path: Path) -> None:
    run = CliRunner()
    wrong = run.invoke(app, ["tables", str(tmp_path / "none.parquet"), "--out", str(tmp_path / "out")])
    assert getattr(wrong.exception, "code", "") == "EVALUATION_CASES"
    assert not (tmp_path / "out").exists()
    evaluation(tmp_path)
    command = [
        "evaluate",
        "--reference",
        str(tmp_path / "reference"),
        "--prediction",
        str(tmp_path / "prediction"),
    ]
    wrong = run.invoke(app, [*command, "--out", str(tmp_path / "cases.parquet")])
    assert getattr(wrong.exception, "code", "") == "EVALUATION_LABELS"
    assert not (tmp_path / "cases.parquet").exists()


def test_the_study_s_inconsistent_rows_are_listed_by_a_command() -> None:
    found = CliRunner().invoke(app, ["study", "check"])
    assert found.exit_code == 0
    assert "aorta: mean J 0.665 with mean D 0.844" in found.output
    assert "3 of 10 rows" in found.output
