"""Three states per organ are never confused, and the locked patients stay locked."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.errors import InputError
from orgseg_training.datasets.openkbp import LABELS, read_cases, source_cases
from orgseg_training.errors import CaseRejected
from tests.support.ct.openkbp_tree import write_openkbp_tree

COMMON = ("brainstem", "spinal_cord", "parotid_right", "parotid_left", "mandible")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    drawn = {"OKBP_002": (*COMMON, "larynx"), "OKBP_001": COMMON, "OKBP_003": tuple(LABELS)}
    return write_openkbp_tree(tmp_path, drawn, locked=["OKBP_003"])


def test_an_empty_cell_means_not_drawn(tree: Path) -> None:
    cases = {case.name: case for case in read_cases(tree)}
    assert cases["OKBP_001"].drawn == set(COMMON)
    assert cases["OKBP_002"].drawn == {*COMMON, "larynx"}


def test_cases_come_in_the_order_of_their_names(tree: Path) -> None:
    assert [case.name for case in read_cases(tree)] == ["OKBP_001", "OKBP_002", "OKBP_003"]


def test_patients_of_the_test_split_are_locked(tree: Path) -> None:
    assert [case.name for case in read_cases(tree) if case.locked] == ["OKBP_003"]
    assert [case.name for case in source_cases("db", tree, {}) if case.test] == ["OKBP_003"]


def test_a_missing_file_is_named_and_the_others_are_read(tree: Path) -> None:
    (tree / "labelsTr" / "OKBP_002.nii.gz").unlink()
    first, second, third = source_cases("db", tree, {})
    assert first.read().masks
    assert third.read().masks
    with pytest.raises(CaseRejected, match=r"OKBP_002\.nii\.gz"):
        second.read()


def test_a_table_without_a_column_is_refused(tree: Path) -> None:
    table = tree / "cases.csv"
    table.write_text(table.read_text().replace("Larynx", "Pharynx", 1))
    with pytest.raises(InputError, match="no column Larynx"):
        read_cases(tree)


def test_a_folder_that_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cases\.csv"):
        read_cases(tmp_path)


def test_the_real_data_set_has_the_published_counts(shared_data: Path) -> None:
    cases = read_cases(shared_data / "openkbp_head_neck")
    assert len(cases) == 87
    assert sum(case.locked for case in cases) == 15
    assert sum("larynx" in case.drawn for case in cases) == 63
    assert sum("esophagus" in case.drawn for case in cases) == 41
    assert all(set(COMMON) <= case.drawn for case in cases)
