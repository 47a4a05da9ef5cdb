"""Programs of others read our objects as they were meant.

`dciodvfy` (dicom3tools) checks them against the standard; plastimatch turns the contours into masks on the CT
by its own code. Both run on the phantom with awkward organs, and on real series where these are at hand.
"""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread

from orgseg_node.core.contours import rasterise, trace
from orgseg_node.core.metrics import dice
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.rtstruct import prove, read_rtstruct, write_rtstruct
from orgseg_node.dicom.seg import prove_seg, write_seg
from orgseg_node.dicom.series import CtSeries, read_series
from orgseg_node.errors import ObjectInvalid
from tests.support.objects import PROVENANCE, awkward_label_map, series_of
from tests.support.peers import dciodvfy_errors, plastimatch_masks, unpacked
from tests.support.phantom import FEET_FIRST, PRONE, PhantomOptions

SMALL = PhantomOptions(slices=10, rows=64, columns=56, pixel_spacing_mm=(2.0, 2.0))


def _save(folder: Path, label_map: LabelMap, series: CtSeries) -> tuple[Path, Path]:
    """Both objects, proven and saved."""
    rtstruct = write_rtstruct(trace(label_map), series, PROVENANCE)
    seg = write_seg(label_map, series, PROVENANCE)
    prove(rtstruct, label_map, series)
    prove_seg(seg, label_map, series)
    paths = folder / "RTSTRUCT.dcm", folder / "SEG.dcm"
    for dataset, path in zip((rtstruct, seg), paths, strict=True):
        dataset.save_as(path, enforce_file_format=True)
    return paths


def _unpack(shared_data: Path, name: str, folder: Path) -> CtSeries:
    return read_series(unpacked(shared_data / name, folder))


@pytest.mark.peer
@pytest.mark.parametrize(
    "options",
    [
        SMALL,
        replace(SMALL, orientation=FEET_FIRST),
        replace(SMALL, orientation=PRONE, patient_position="HFP"),
        replace(SMALL, patient_name="", patient_id="", character_set=None),
        replace(SMALL, character_set="ISO_IR 100", patient_name="Åström^Lotta"),
    ],
)
def test_dciodvfy_finds_no_error(options: PhantomOptions, tmp_path: Path, organ_table: OrganTable) -> None:
    series = series_of(tmp_path / "ct", options)
    for path in _save(tmp_path, awkward_label_map(series.grid, organ_table), series):
        assert dciodvfy_errors(path) == []


@pytest.mark.peer
@pytest.mark.parametrize(
    "options", [SMALL, replace(SMALL, centre_mm=(-312.4375, 77.7, -1033.25), slice_spacing_mm=1.25)]
)
def test_plastimatch_sees_the_same_masks(
    options: PhantomOptions, tmp_path: Path, organ_table: OrganTable
) -> None:
    series = series_of(tmp_path / "ct", options)
    label_map = awkward_label_map(series.grid, organ_table)
    rtstruct, _ = _save(tmp_path, label_map, series)
    masks = plastimatch_masks(rtstruct, tmp_path / "ct", tmp_path / "masks")
    overlaps = {
        label_map.organs[label].name: dice(masks[label_map.organs[label].name], label_map.mask(label))
        for label in range(1, 6)
    }
    assert min(overlaps.values()) >= 0.999, overlaps


@pytest.mark.peer
@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "box"),
    [
        ("dicom/pycerr_hn_pt1", np.s_[40:50, 200:240, 200:240]),
        ("dicom_small/totalsegmentator_ct_j2k", np.s_[5:13, 200:240, 200:240]),
        ("dicom/CRLM-CT-1004", np.s_[10:20, 200:240, 200:240]),
    ],
)
def test_real_series_give_valid_objects(
    name: str, box: tuple[slice, ...], shared_data: Path, tmp_path: Path, organ_table: OrganTable
) -> None:
    series = _unpack(shared_data, name, tmp_path / "ct")
    labels = np.zeros(series.grid.shape, dtype=np.uint8)
    corner = awkward_label_map(replace(series.grid, shape=labels[box].shape), organ_table)
    labels[box] = corner.labels
    label_map = LabelMap(grid=series.grid, labels=labels, organs=corner.organs)
    for path in _save(tmp_path, label_map, series):
        assert dciodvfy_errors(path) == []
        assert dcmread(path).PatientID == (series.header.get("PatientID") or "")


@pytest.mark.shared_data
def test_structure_set_of_another_system_is_read(shared_data: Path, tmp_path: Path) -> None:
    series = _unpack(shared_data, "dicom/LUNG1-001", tmp_path / "ct")
    found = read_rtstruct(dcmread(shared_data / "dicom" / "LUNG1-001" / "rtstruct.dcm"), series)
    drawn = SimpleITK.GetArrayFromImage(
        SimpleITK.ReadImage(str(shared_data / "dicom" / "LUNG1-001" / "labels.nii.gz"))
    )
    for label, name in ((2, "Lung-Left"), (3, "Lung-Right")):
        mask = rasterise(found[name], series.grid)
        assert mask.sum() * series.grid.voxel_ml > 500
        assert dice(mask, drawn == label) > 0.98, "another program's raster of the same contours"


@pytest.mark.shared_data
def test_structure_set_in_another_frame_of_reference_is_refused(shared_data: Path, tmp_path: Path) -> None:
    series = _unpack(shared_data, "dicom/LUNG1-001", tmp_path / "ct")
    path = shared_data / "dicom" / "LUNG1-001" / "rtstruct_xio_mismatched_refs.dcm.gz"
    with gzip.open(path) as stream, pytest.raises(ObjectInvalid, match="another frame of reference"):
        read_rtstruct(dcmread(stream), series)
