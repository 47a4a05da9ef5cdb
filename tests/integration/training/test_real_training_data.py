"""Real contours of real patients: they become the published masks, and none has impossible anatomy."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from orgseg_node.core.checks import Level
from orgseg_training.datasets.anatomy_check import anatomy_findings
from orgseg_training.datasets.case_store import CaseStore
from orgseg_training.datasets.description import load_data_set
from orgseg_training.datasets.nifti import read_label_image, read_volume, write_image
from orgseg_training.datasets.openkbp import source_cases
from orgseg_training.datasets.registry import open_database
from orgseg_training.durable import read_json
from tests.support.peers.peers import unpacked

pytestmark = pytest.mark.endurance

ORGANS = {"Spinal-Cord": "spinal_cord", "Lung-Left": "lung_left", "Lung-Right": "lung_right"}


def _store(kind: str, folder: Path, out: Path) -> CaseStore:
    store = CaseStore(out)
    store.ingest(open_database(kind, "db", folder, {}))
    return store


def test_a_real_planning_ct_and_its_contours(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "dicom" / "LUNG1-001"
    unpacked(source, tmp_path / "data")
    shutil.copy(source / "rtstruct.dcm", tmp_path / "data" / "structures.dcm")
    store = _store("dicom-rtstruct", tmp_path / "data", tmp_path / "store")
    (case,) = store.cases()
    assert case.drawn == {*ORGANS.values(), "lungs"}
    assert read_json(store.root / "unused.json") == {"GTV-1": [case.key]}
    numbers = json.loads((source / "labels.json").read_text(encoding="utf-8"))
    labels, grid = read_label_image(source / "labels.nii.gz")
    volume = case.volume()
    assert np.allclose(grid.origin_mm, volume.grid.origin_mm, atol=0.01)
    for name, organ in ORGANS.items():
        mask, theirs = case.mask(organ), labels == numbers[name]
        assert 2 * (mask & theirs).sum() / (mask.sum() + theirs.sum()) > 0.98, organ


def test_a_real_rtstruct_of_the_same_patient_with_another_series_is_listed(
    shared_data: Path, tmp_path: Path
) -> None:
    """It has the patient's ID, but UIDs of another anonymisation: nothing shows that it belongs to the CT."""
    source = shared_data / "dicom" / "LUNG1-001"
    unpacked(source, tmp_path / "data")
    packed = source / "rtstruct_xio_mismatched_refs.dcm.gz"
    (tmp_path / "data" / "structures.dcm").write_bytes(gzip.decompress(packed.read_bytes()))
    store = _store("dicom-rtstruct", tmp_path / "data", tmp_path / "store")
    assert store.cases() == ()
    reasons = sorted(entry["why"] for entry in read_json(store.root / "rejected.json").values())
    assert ["No RTSTRUCT refers" in reasons[0], "is not here" in reasons[1]] == [True, True]


def test_a_real_body_in_the_layout_of_totalsegmentator(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "totalsegmentator_example"
    numbers = json.loads((source / "labels_total_v2.json").read_text(encoding="utf-8"))
    data_set = load_data_set("totalsegmentator")
    files = [file for group in data_set.files.values() for file in group]
    assert set(files) <= set(numbers)
    labels, grid = read_label_image(source / "example_seg_fast_force_split.nii.gz")
    folder = tmp_path / "data" / "s0001" / "segmentations"
    folder.mkdir(parents=True)
    write_image(folder.parent / "ct.nii.gz", read_volume(source / "example_ct.nii.gz").hu, grid)
    for file in files:
        write_image(folder / f"{file}.nii.gz", (labels == numbers[file]).astype(np.uint8), grid)
    (tmp_path / "data" / "meta.csv").write_text("image_id;age;split\ns0001;60;train\n", encoding="utf-8")
    (case,) = _store("totalsegmentator", tmp_path / "data", tmp_path / "store").cases()
    assert {"liver", "kidneys", "spleen", "adrenal_glands", "femoral_heads", "spinal_cord"} <= case.drawn
    assert str(case.state("brain")) == "outside"


@pytest.mark.slow
def test_no_patient_of_openkbp_has_impossible_anatomy(shared_data: Path) -> None:
    for case in source_cases("openkbp", shared_data / "openkbp_head_neck", {}):
        contents = case.read()
        findings = anatomy_findings(contents.masks, contents.volume.grid)
        assert not [f.message for f in findings if f.level is Level.ERROR], case.name
