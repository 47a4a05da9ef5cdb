"""What nnU-Net is given is what the node would give its network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from orgseg_node.core.body import cut_to_body, find_body
from orgseg_node.core.volume import LabelMap
from orgseg_training.datasets.nifti import read_labels, read_volume
from orgseg_training.datasets.openkbp import LABELS, Case, read_cases, source_cases
from orgseg_training.durable import read_json, write_json
from orgseg_training.evaluation.predictions import Scoring
from orgseg_training.experiment.config import NetworkSettings, load_experiment
from orgseg_training.experiment.prepare import training_cases, write_dataset
from orgseg_training.experiment.splits import lock_splits, make_splits
from orgseg_training.experiment.workspace import Network, Workspace
from orgseg_training.nnunet.run import Dataset
from orgseg_training.shipped import training_config
from tests.support.ct.openkbp_tree import write_openkbp_tree

MARGIN_MM = 3.0
COMMON = ("brainstem", "spinal_cord", "parotid_right", "parotid_left", "mandible")


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return read_cases(write_openkbp_tree(tmp_path / "data", {"OKBP_001": tuple(LABELS)}))[0]


@pytest.fixture
def workspace(case: Case, tmp_path: Path) -> Workspace:
    """A workspace that holds one scan."""
    workspace = Workspace(
        experiment=load_experiment(training_config("experiments/smoke.toml")), root=tmp_path / "work"
    )
    assert workspace.experiment.body_margin_mm == MARGIN_MM
    workspace.store.ingest(source_cases("db", case.image.parents[1], {}))
    return workspace


def _network(*organs: str) -> Network:
    settings = NetworkSettings(name="some", organs=organs)
    return Network(strategy=1, settings=settings, dataset=Dataset(number=801, name="some"))


def _write(workspace: Workspace, *organs: str) -> Path:
    network = _network(*organs)
    write_dataset(workspace, network, workspace.store.cases())
    return workspace.nnunet.raw / network.dataset.folder


@pytest.fixture
def locked(tmp_path: Path) -> Workspace:
    """Three patients: the larynx was not drawn in the first, and the last is of the test split."""
    drawn = {"OKBP_001": COMMON, "OKBP_002": (*COMMON, "larynx"), "OKBP_003": tuple(LABELS)}
    data = write_openkbp_tree(tmp_path / "data", drawn, locked=["OKBP_003"])
    workspace = Workspace(
        experiment=load_experiment(training_config("experiments/smoke.toml")), root=tmp_path / "work"
    )
    workspace.store.ingest(source_cases("synthetic", data, {}))
    lock_splits(make_splits(workspace.experiment, workspace.store.cases()), workspace.splits_file)
    return workspace


def test_only_patients_with_the_organ_drawn_train_it(locked: Workspace) -> None:
    assert [case.key for case in training_cases(locked, _network("larynx"))] == ["synthetic__OKBP_002"]
    assert [case.key for case in training_cases(locked, _network("mandible", "larynx"))] == [
        "synthetic__OKBP_002"
    ]


def test_patients_of_the_test_split_never_train(locked: Workspace) -> None:
    cases = [case.key for organ in LABELS for case in training_cases(locked, _network(organ))]
    assert "synthetic__OKBP_001" in cases
    assert "synthetic__OKBP_003" not in cases


def test_the_image_is_cut_exactly_as_the_node_cuts_it(case: Case, workspace: Workspace) -> None:
    folder = _write(workspace, "larynx")
    volume = read_volume(case.image)
    expected, _ = cut_to_body(volume, find_body(volume), MARGIN_MM, outside_to_air=True)
    written = read_volume(folder / "imagesTr" / "db__OKBP_001_0000.nii.gz")
    assert np.array_equal(written.hu, expected.hu)
    assert np.allclose(written.grid.affine, expected.grid.affine)


def test_labels_are_numbered_by_their_place_and_others_vanish(case: Case, workspace: Workspace) -> None:
    folder = _write(workspace, "parotid_left", "mandible")
    written = read_labels(folder / "labelsTr" / "db__OKBP_001.nii.gz")
    source = read_labels(case.labels)
    assert set(np.unique(written)) == {0, 1, 2}
    assert (written == 1).sum() == (source == LABELS["parotid_left"]).sum()
    assert (written == 2).sum() == (source == LABELS["mandible"]).sum()
    description = json.loads((folder / "dataset.json").read_text())
    assert description["labels"] == {"background": 0, "parotid_left": 1, "mandible": 2}


def _known_in_part(workspace: Workspace, organ: str, part: tuple[int, int]) -> None:
    file = workspace.store.root / "cases" / "db__OKBP_001" / "case.json"
    write_json(file, read_json(file) | {"known_slices": {organ: part}})


def test_beyond_an_organ_drawn_in_part_nothing_is_background(case: Case, workspace: Workspace) -> None:
    drawn = read_labels(case.labels) == LABELS["spinal_cord"]
    first, last = np.flatnonzero(drawn.any(axis=(1, 2)))[[0, -1]]
    _known_in_part(workspace, "spinal_cord", (int(first), drawn.shape[0]))
    folder = _write(workspace, "spinal_cord", "mandible")
    written = read_labels(folder / "labelsTr" / "db__OKBP_001.nii.gz")
    description = json.loads((folder / "dataset.json").read_text())
    assert description["labels"]["ignore"] == 3
    beyond = (written == 3).any(axis=(1, 2))
    assert beyond.sum() == (written == 3).all(axis=(1, 2)).sum() > 0
    assert (written == 1).any(axis=(1, 2)).sum() == last - first + 1
    assert not (written == 0)[beyond].any()


def test_what_is_predicted_beyond_an_organ_drawn_in_part_is_no_fault(workspace: Workspace) -> None:
    stored = workspace.store.cases()[0]
    mask = stored.mask("spinal_cord")
    first = int(np.flatnonzero(mask.any(axis=(1, 2)))[0])
    longer = mask.copy()
    longer[:first] = mask[first]
    table = workspace.organs
    found = LabelMap(
        grid=stored.volume().grid, labels=longer.astype(np.uint8), organs={1: table["spinal_cord"]}
    )
    scoring, spacing = Scoring(model="m"), stored.volume().grid.spacing_mm
    (score,) = scoring.compare(stored, found, [("spinal_cord", mask)], spacing)
    assert score.value("dsc") < 1
    _known_in_part(workspace, "spinal_cord", (first, mask.shape[0]))
    (score,) = scoring.compare(workspace.store.cases()[0], found, [("spinal_cord", mask)], spacing)
    assert score.value("dsc") == 1


def test_cases_already_written_are_kept(workspace: Workspace) -> None:
    image = _write(workspace, "larynx") / "imagesTr" / "db__OKBP_001_0000.nii.gz"
    before = image.stat().st_mtime_ns
    _write(workspace, "larynx")
    assert image.stat().st_mtime_ns == before


def test_left_stays_left_when_a_nifti_is_stored_the_other_way_round(case: Case, tmp_path: Path) -> None:
    import SimpleITK  # noqa: PLC0415

    flipped = tmp_path / "flipped.nii.gz"
    SimpleITK.WriteImage(SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(case.image)), "RAI"), str(flipped))
    assert np.array_equal(read_volume(flipped).hu, read_volume(case.image).hu)
