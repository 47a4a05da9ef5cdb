"""What nnU-Net is given is what the node would give its network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from orgseg_node.core.body import cut_to_body, find_body
from orgseg_training.datasets.nifti import read_labels, read_volume
from orgseg_training.datasets.openkbp import LABELS, Case, read_cases
from orgseg_training.preparing import write_raw_dataset
from tests.support.ct.openkbp_tree import write_openkbp_tree


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return read_cases(write_openkbp_tree(tmp_path / "data", {"OKBP_001": tuple(LABELS)}))[0]


def test_the_image_is_cut_exactly_as_the_node_cuts_it(case: Case, tmp_path: Path) -> None:
    write_raw_dataset(tmp_path / "raw", ["larynx"], [case], 3.0)
    volume = read_volume(case.image)
    expected, _ = cut_to_body(volume, find_body(volume), 3.0, outside_to_air=True)
    written = read_volume(tmp_path / "raw" / "imagesTr" / "OKBP_001_0000.nii.gz")
    assert np.array_equal(written.hu, expected.hu)
    assert np.allclose(written.grid.affine, expected.grid.affine)


def test_labels_are_numbered_by_their_place_and_others_vanish(case: Case, tmp_path: Path) -> None:
    write_raw_dataset(tmp_path / "raw", ["parotid_left", "mandible"], [case], 3.0)
    written = read_labels(tmp_path / "raw" / "labelsTr" / "OKBP_001.nii.gz")
    source = read_labels(case.labels)
    assert set(np.unique(written)) == {0, 1, 2}
    assert (written == 1).sum() == (source == LABELS["parotid_left"]).sum()
    assert (written == 2).sum() == (source == LABELS["mandible"]).sum()
    description = json.loads((tmp_path / "raw" / "dataset.json").read_text())
    assert description["labels"] == {"background": 0, "parotid_left": 1, "mandible": 2}


def test_cases_already_written_are_kept(case: Case, tmp_path: Path) -> None:
    write_raw_dataset(tmp_path / "raw", ["larynx"], [case], 3.0)
    image = tmp_path / "raw" / "imagesTr" / "OKBP_001_0000.nii.gz"
    before = image.stat().st_mtime_ns
    write_raw_dataset(tmp_path / "raw", ["larynx"], [case], 3.0)
    assert image.stat().st_mtime_ns == before


def test_left_stays_left_when_a_nifti_is_stored_the_other_way_round(case: Case, tmp_path: Path) -> None:
    import SimpleITK  # noqa: PLC0415

    flipped = tmp_path / "flipped.nii.gz"
    SimpleITK.WriteImage(SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(case.image)), "RAI"), str(flipped))
    assert np.array_equal(read_volume(flipped).hu, read_volume(case.image).hu)
