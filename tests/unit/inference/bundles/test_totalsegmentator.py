"""Which task of TotalSegmentator a folder of weights holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.core.organs import OrganTable
from orgseg_node.errors import ModelNotImportable
from orgseg_node.inference.bundles.importing import ImportOptions, of_task
from orgseg_node.inference.bundles.matching import unknown_labels
from orgseg_node.inference.bundles.totalsegmentator import TASKS, choose_task, is_of


def _weights(folder: Path, *datasets: int) -> Path:
    for number in datasets:
        (folder / f"Dataset{number}_some_task_1559subj" / "trainer__plans__3d_fullres").mkdir(parents=True)
    return folder


def test_the_only_complete_task_is_taken_and_total_before_others(tmp_path: Path) -> None:
    assert choose_task(_weights(tmp_path / "a", 775), None).name == "head_glands_cavities"
    assert choose_task(_weights(tmp_path / "b", 291, 292, 293, 294, 295, 297, 775), None).name == "total"
    both = _weights(tmp_path / "c", 297, 775)
    with pytest.raises(ModelNotImportable, match=r"total_fast, head_glands_cavities.*--task"):
        choose_task(both, None)
    assert choose_task(both, "total_fast").datasets == (297,)
    assert choose_task(next(both.glob("Dataset775*")), None).name == "head_glands_cavities"


def test_a_task_that_is_not_complete_names_what_is_missing(tmp_path: Path) -> None:
    parts = _weights(tmp_path, 291, 292, 295)
    for wanted in (None, "total"):
        with pytest.raises(ModelNotImportable, match=r"293, 294 .*totalseg_download_weights -t total"):
            choose_task(parts, wanted)
    with pytest.raises(ModelNotImportable, match="no CT task 'totl'"):
        choose_task(parts, "totl")
    with pytest.raises(ModelNotImportable, match="data sets there: 850"):
        choose_task(_weights(tmp_path / "mr", 850), None)


def test_a_task_that_is_cropped_there_says_so() -> None:
    assert "around the skull" in TASKS["head_glands_cavities"].remarks[0]
    assert TASKS["total"].remarks == ()


def test_no_data_set_belongs_to_two_tasks() -> None:
    numbers = [number for task in TASKS.values() for number in task.datasets]
    assert len(numbers) == len(set(numbers))


def test_a_folder_belongs_to_the_data_set_above_it(tmp_path: Path) -> None:
    (folder,) = _weights(tmp_path, 297).glob("*/*")
    assert is_of(folder, (297,))
    assert not is_of(folder, (29, 1297))


def test_labels_that_are_no_organ_are_known_unless_the_user_named_them(organ_table: OrganTable) -> None:
    labels = {1: "spleen", 2: "kidney_cyst_left", 3: "odd", 4: "lung_upper_lobe_left"}
    assert unknown_labels("Dataset1_A", labels, {}, organ_table) == ["kidney_cyst_left", "odd"]
    assert unknown_labels("Dataset1_A", labels, {"odd": "liver"}, organ_table) == ["kidney_cyst_left"]


def test_it_is_imported_with_the_steps_that_totalsegmentator_takes(
    tmp_path: Path, organ_table: OrganTable
) -> None:
    options = ImportOptions(name="a", folder=tmp_path, table=organ_table)
    steps = {name: of_task(options, task).tile_step_size for name, task in TASKS.items()}
    assert steps.pop("total") == 0.8
    assert set(steps.values()) == {0.5}
