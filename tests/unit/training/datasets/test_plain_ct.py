"""CTs without contours: what is certainly outside is known, and of nothing else is anything known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orgseg_node.errors import ConfigError, InputError
from orgseg_training.datasets.case import OrganState
from orgseg_training.datasets.case_store import CaseStore
from orgseg_training.datasets.nifti import write_image
from orgseg_training.datasets.registry import open_database
from orgseg_training.datasets.synthetic import write_patients
from orgseg_training.durable import read_json
from tests.support.ct.phantom import build_ct_series
from tests.unit.training.datasets.test_case_store import GRID, volume

OUTSIDE = {"outside": ["parotid_left", "parotid_right"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "data"
    write_image(place / "abdomen.nii.gz", volume().hu, GRID)
    write_image(place / "more" / "pelvis.nii", volume(1).hu, GRID)
    return place


def test_every_ct_is_stored_with_what_is_outside(folder: Path, tmp_path: Path) -> None:
    store = CaseStore(tmp_path / "store")
    assert store.ingest(open_database("ct", "db", folder, OUTSIDE)).added == 2
    cases = store.cases()
    assert [case.key for case in cases] == ["db__abdomen", "db__more_pelvis"]
    for case in cases:
        assert case.outside == {"parotid_left", "parotid_right", "parotids"}
        assert case.state("mandible") is OrganState.NOT_DRAWN
        assert not case.drawn
    again = store.ingest(open_database("ct", "db", folder, OUTSIDE))
    assert (again.added, again.kept) == (0, 2), "a scan without masks is whole"
    more = {"outside": [*OUTSIDE["outside"], "mandible"]}
    assert store.ingest(open_database("ct", "db", folder, more)).changed == 2
    assert "mandible" in store.cases()[0].outside


def test_a_dicom_series_is_a_scan_named_by_a_hash(tmp_path: Path) -> None:
    build_ct_series(tmp_path / "data")
    (case,) = open_database("ct", "db", tmp_path / "data", OUTSIDE)
    assert len(case.name) == 16
    assert case.read().volume.hu.ndim == 3


def test_a_data_set_without_organs_outside_says_nothing(folder: Path) -> None:
    with pytest.raises(ConfigError, match="outside: name organs"):
        open_database("ct", "db", folder, {})
    with pytest.raises(ConfigError, match="no keys of the organ table"):
        open_database("ct", "db", folder, {"outside": ["gland"]})


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no NIfTI file and no DICOM series"):
        open_database("ct", "db", tmp_path, OUTSIDE)


def test_an_organ_that_is_drawn_is_not_outside(tmp_path: Path) -> None:
    write_patients(tmp_path / "data", patients=2, tests=0)
    store = CaseStore(tmp_path / "store")
    store.ingest(open_database("openkbp", "db", tmp_path / "data", {"outside": ["larynx", "spleen"]}))
    (kept,) = store.cases()
    assert kept.key == "db__SYN_001", "the larynx is drawn in the first patient"
    assert {"larynx", "spleen"} <= kept.outside
    assert kept.drawn == {"mandible"}
    assert "larynx" in read_json(tmp_path / "store" / "rejected.json")["db__SYN_000"]["why"]


def test_noise_that_is_no_ct_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "data" / "odd.nii.gz", np.zeros(GRID.shape, np.int16), GRID)
    store = CaseStore(tmp_path / "store")
    store.ingest(open_database("ct", "db", tmp_path / "data", OUTSIDE))
    assert store.cases() == ()


def test_two_files_of_one_name_are_refused_not_stored_over_each_other(folder: Path) -> None:
    write_image(folder / "more_pelvis.nii.gz", volume().hu, GRID)
    with pytest.raises(InputError, match="several files that would be called more_pelvis"):
        open_database("ct", "db", folder, OUTSIDE)
