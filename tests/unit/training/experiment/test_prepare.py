"""What nnU-Net is given is what the node would give its network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from orgseg_node.core.body import cut_to_body, find_body
from orgseg_training.datasets.nifti import read_labels, read_volume
from orgseg_training.datasets.openkbp import LABELS, Case, read_cases, source_cases
from orgseg_training.experiment.config import NetworkSettings, load_experiment
from orgseg_training.experiment.prepare import cases_of, write_dataset
from orgseg_training.experiment.splits import lock, make_splits
from orgseg_training.experiment.workspace import Network, Work
from orgseg_training.nnunet.run import Dataset
from orgseg_training.shipped import training_config
from tests.support.ct.openkbp_tree import write_openkbp_tree

MARGIN_MM = 3.0
COMMON = ("brainstem", "spinal_cord", "parotid_right", "parotid_left", "mandible")


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return read_cases(write_openkbp_tree(tmp_path / "data", {"OKBP_001": tuple(LABELS)}))[0]


@pytest.fixture
def work(case: Case, tmp_path: Path) -> Work:
    """A workspace that holds one scan."""
    work = Work(experiment=load_experiment(training_config("experiments/smoke.toml")), root=tmp_path / "work")
    assert work.experiment.body_margin_mm == MARGIN_MM
    work.store.take_in(source_cases("db", case.image.parents[1], {}))
    return work


def _network(*organs: str) -> Network:
    settings = NetworkSettings(name="some", organs=organs)
    return Network(strategy=1, settings=settings, dataset=Dataset(number=801, name="some"))


def _write(work: Work, *organs: str) -> Path:
    network = _network(*organs)
    write_dataset(work, network, work.store.cases())
    return work.workspace.raw / network.dataset.folder


@pytest.fixture
def locked(tmp_path: Path) -> Work:
    """Three patients: the larynx was not drawn in the first, and the last is of the test split."""
    drawn = {"OKBP_001": COMMON, "OKBP_002": (*COMMON, "larynx"), "OKBP_003": tuple(LABELS)}
    data = write_openkbp_tree(tmp_path / "data", drawn, locked=["OKBP_003"])
    work = Work(experiment=load_experiment(training_config("experiments/smoke.toml")), root=tmp_path / "work")
    work.store.take_in(source_cases("synthetic", data, {}))
    lock(make_splits(work.experiment, work.store.cases()), work.lock)
    return work


def test_only_patients_with_the_organ_drawn_train_it(locked: Work) -> None:
    assert [case.key for case in cases_of(locked, _network("larynx"))] == ["synthetic__OKBP_002"]
    assert [case.key for case in cases_of(locked, _network("mandible", "larynx"))] == ["synthetic__OKBP_002"]


def test_patients_of_the_test_split_never_train(locked: Work) -> None:
    cases = [case.key for organ in LABELS for case in cases_of(locked, _network(organ))]
    assert "synthetic__OKBP_001" in cases
    assert "synthetic__OKBP_003" not in cases


def test_the_image_is_cut_exactly_as_the_node_cuts_it(case: Case, work: Work) -> None:
    folder = _write(work, "larynx")
    volume = read_volume(case.image)
    expected, _ = cut_to_body(volume, find_body(volume), MARGIN_MM, outside_to_air=True)
    written = read_volume(folder / "imagesTr" / "db__OKBP_001_0000.nii.gz")
    assert np.array_equal(written.hu, expected.hu)
    assert np.allclose(written.grid.affine, expected.grid.affine)


def test_labels_are_numbered_by_their_place_and_others_vanish(case: Case, work: Work) -> None:
    folder = _write(work, "parotid_left", "mandible")
    written = read_labels(folder / "labelsTr" / "db__OKBP_001.nii.gz")
    source = read_labels(case.labels)
    assert set(np.unique(written)) == {0, 1, 2}
    assert (written == 1).sum() == (source == LABELS["parotid_left"]).sum()
    assert (written == 2).sum() == (source == LABELS["mandible"]).sum()
    description = json.loads((folder / "dataset.json").read_text())
    assert description["labels"] == {"background": 0, "parotid_left": 1, "mandible": 2}


def test_cases_already_written_are_kept(work: Work) -> None:
    image = _write(work, "larynx") / "imagesTr" / "db__OKBP_001_0000.nii.gz"
    before = image.stat().st_mtime_ns
    _write(work, "larynx")
    assert image.stat().st_mtime_ns == before


def test_left_stays_left_when_a_nifti_is_stored_the_other_way_round(case: Case, tmp_path: Path) -> None:
    import SimpleITK  # noqa: PLC0415

    flipped = tmp_path / "flipped.nii.gz"
    SimpleITK.WriteImage(SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(case.image)), "RAI"), str(flipped))
    assert np.array_equal(read_volume(flipped).hu, read_volume(case.image).hu)
