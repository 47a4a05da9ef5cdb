"""What real CT series are taken for, and what is read from them."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from orgseg_node.core.resample import to_slices
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.reading.reader import read_slices, read_volume
from orgseg_node.dicom.reading.series import files_in, read_series, survey
from orgseg_node.errors import InputError

pytestmark = pytest.mark.shared_data

SMALL = "dicom_small"


def unpacked(shared_data: Path, name: str, folder: Path) -> Path:
    """A packed series as a folder."""
    with tarfile.open(shared_data / "dicom" / name / "ct.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize(
    ("name", "shape", "spacing", "hu_range"),
    [
        ("LUNG1-001", (134, 512, 512), (3.0, 0.9765625, 0.9765625), (-1024, 3034)),
        ("pycerr_hn_pt1", (90, 511, 511), (3.0, 1.0, 1.0), (-1024, 3844)),
        ("CRLM-CT-1004", (41, 512, 512), (5.0, 0.796875, 0.796875), (-1024, 1377)),
    ],
)
def test_real_planning_and_diagnostic_series_are_read(
    shared_data: Path,
    tmp_path: Path,
    name: str,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    hu_range: tuple[int, int],
) -> None:
    series = read_series(unpacked(shared_data, name, tmp_path))
    volume = read_volume(series)
    assert volume.hu.shape == shape
    assert volume.hu.dtype == np.int16
    assert volume.grid.spacing_mm == pytest.approx(spacing, abs=1e-6)
    assert (volume.hu.min(), volume.hu.max()) == hu_range
    assert series.findings == ()


def test_the_overlapping_jpeg_2000_series_without_uids_is_read_with_warnings(shared_data: Path) -> None:
    series = read_series(shared_data / SMALL / "totalsegmentator_ct_j2k")
    volume = read_volume(series)
    assert volume.hu.shape == (20, 512, 512)
    assert volume.grid.spacing_mm[0] == pytest.approx(2.0)
    assert {f.code for f in series.findings} == {"SERIES_UID_FROM_FILE", "SERIES_UID_STAND_IN"}
    assert volume.hu.min() == -1024


def test_a_feet_first_series_is_stacked_towards_the_feet_or_head_as_its_orientation_says(
    shared_data: Path,
) -> None:
    series = read_series(shared_data / SMALL / "dcmqi_liver_seg" / "ct")
    assert series.patient_position == "FFS"
    assert [s.position_mm[2] for s in series.slices] == [-128.690002, -127.690002, -126.690002]


def test_the_tilted_head_with_uneven_steps_is_read_slice_by_slice(shared_data: Path, tmp_path: Path) -> None:
    folder = unpacked(shared_data, "dcm_qa_ct_ge_tilt", tmp_path)
    series = read_series(folder)
    tilt, spacing = series.findings
    assert (tilt.code, tilt.value) == ("SERIES_GANTRY_TILT", pytest.approx(18.5, abs=0.01))
    assert (spacing.code, spacing.value) == ("SERIES_SPACING_CHANGES", pytest.approx(7.0, abs=0.01))
    hu = read_slices(series)
    for k, one in enumerate(series.slices):
        plain = dcmread(one.path)
        assert np.array_equal(hu[k], np.maximum(plain.pixel_array * 1.0 + plain.RescaleIntercept, -1024))
        assert series.stack.to_lps([(k, 0, 0)])[0].tolist() == [float(v) for v in plain.ImagePositionPatient]
    steps = np.diff(series.stack.positions_mm[:, 2])
    assert sorted(set(np.round(steps, 2))) == [1.14, 4.22, 7.38]


def test_the_tilted_head_comes_to_a_grid_and_back(shared_data: Path, tmp_path: Path) -> None:
    series = read_series(unpacked(shared_data, "dcm_qa_ct_ge_tilt", tmp_path))
    volume = read_volume(series)
    assert volume.grid.spacing_mm[0] == pytest.approx(4.0, abs=0.01)
    assert volume.grid.shape == (37, 611, 512)  # 28 slices; 99 rows more for 48 mm of sideways shift
    bone = np.greater(volume.hu, 300).astype(np.uint8)
    back = to_slices(LabelMap(grid=volume.grid, labels=bone, organs={}), series.stack).labels.astype(bool)
    truth = read_slices(series) > 300
    dice = [2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in zip(back, truth, strict=True)]
    # the slices 4 mm apart lie on planes; those 7 mm apart do not, and are seen through their neighbours
    assert min(dice[:14]) > 0.9
    assert np.median(dice) > 0.8


@pytest.mark.parametrize(
    ("folder", "code"),
    [
        ("philips_localizer_and_secondary_captures", "INPUT_NO_IMAGES"),
        ("enhanced_multiframe/legacy_converted_24x38x3/multiframe", "INPUT_HU_RANGE"),
        ("enhanced_multiframe/eCT_Supplemental.dcm", "INPUT_HU_RANGE"),
        ("rt_utils_phantom", "INPUT_TOO_FEW_SLICES"),
        ("dicompyler_rt", "INPUT_TOO_FEW_SLICES"),
    ],
)
def test_awkward_folders_are_refused_with_their_reason(shared_data: Path, folder: str, code: str) -> None:
    with pytest.raises(InputError) as caught:
        read_series(shared_data / SMALL / folder)
    assert caught.value.code == code


def test_localizers_and_captures_are_counted(shared_data: Path) -> None:
    folder = shared_data / SMALL / "philips_localizer_and_secondary_captures"
    inventory = survey(files_in(folder))
    assert sum(inventory.set_aside.values()) == 9
    assert inventory.set_aside["localizer"] == 1
    assert inventory.set_aside["secondary capture"] == 6


@pytest.mark.parametrize("process", ["1", "2_4", "6_8", "10_12"])
def test_lossy_jpeg_is_refused(shared_data: Path, process: str) -> None:
    (path,) = (shared_data / SMALL / "transfer_syntaxes").glob(f"*JPEGProcess{process}Transfer*")
    (refusal,) = survey([path]).refused
    assert refusal.error.code == "INPUT_LOSSY"


@pytest.mark.parametrize("name", ["JPEGLSLossyTransferSyntax", "JPEG2000TransferSyntax"])
def test_files_flagged_as_lossy_are_refused(shared_data: Path, name: str) -> None:
    (path,) = (shared_data / SMALL / "transfer_syntaxes").glob(f"*{name}*")
    (refusal,) = survey([path]).refused
    assert refusal.error.code == "INPUT_LOSSY"


def test_all_lossless_versions_of_one_slice_have_the_same_hu(shared_data: Path, tmp_path: Path) -> None:
    found = {}
    for path in sorted((shared_data / SMALL / "transfer_syntaxes").iterdir()):
        if survey([path]).refused[0].error.code != "INPUT_TOO_FEW_SLICES":
            continue
        folder = tmp_path / path.name
        folder.mkdir()
        dataset = dcmread(path)
        for k in range(3):
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.{k}"
            dataset.ImagePositionPatient = [0, 0, 2 * k]
            dataset.save_as(folder / f"{k}")
        found[path.name] = read_volume(read_series(folder)).hu
    first, *others = found.values()
    assert len(found) == 10
    assert all(np.array_equal(first, other) for other in others)
    assert first.min() == -1024
