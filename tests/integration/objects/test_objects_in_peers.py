"""Programs of others read our objects as they were meant.

`dciodvfy` (dicom3tools) checks them against the standard; plastimatch turns the contours into masks on the CT
by its own code, dcmqi the segments. They run on the phantom with awkward organs, and on real series where
these are at hand. dciodvfy is older than Segmentation Type LABELMAP: it does not know that object at all, and
takes a reference to one of its segments for a mistake.
"""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread

from orgseg_node.core.checks import check_labels
from orgseg_node.core.contours import rasterise, trace
from orgseg_node.core.metrics import dice
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.objects.iod import missing
from orgseg_node.dicom.objects.pdf import write_pdf
from orgseg_node.dicom.objects.rtstruct import prove, read_rtstruct, write_rtstruct
from orgseg_node.dicom.objects.seg import SegKind, prove_seg, write_seg
from orgseg_node.dicom.objects.sr import write_report_sr
from orgseg_node.dicom.reading.series import CtSeries, read_series
from orgseg_node.errors import ObjectInvalid
from tests.support.ct.objects import PROVENANCE, awkward_label_map, series_of
from tests.support.ct.phantom import FEET_FIRST, PRONE, PhantomOptions
from tests.support.ct.zoo import Scan, regular
from tests.support.ct.zoo_multiframe import write_enhanced, write_legacy_converted
from tests.support.peers.dcmqi import dcmqi_masks
from tests.support.peers.peers import dciodvfy_errors, plastimatch_masks, unpacked

SMALL = PhantomOptions(slices=10, rows=64, columns=56, pixel_spacing_mm=(2.0, 2.0))


PDF = b"%PDF-1.4\n%%EOF\n"


def _save(folder: Path, label_map: LabelMap, series: CtSeries) -> tuple[Path, ...]:
    """RTSTRUCT, SEG, SR and PDF, proven and saved."""
    rtstruct = write_rtstruct(trace(label_map), series, PROVENANCE)
    seg = write_seg(label_map, series, PROVENANCE, structure_set_uid=rtstruct.SOPInstanceUID)
    prove(rtstruct, label_map, series)
    prove_seg(seg, label_map, series)
    report = write_report_sr(label_map, series, PROVENANCE, seg, check_labels(label_map))
    page = write_pdf(PDF, series, PROVENANCE, sources=[rtstruct, seg, report])
    objects = {"RTSTRUCT": rtstruct, "SEG": seg, "SR": report, "PDF": page}
    for name, dataset in objects.items():
        dataset.save_as(folder / f"{name}.dcm", enforce_file_format=True)
    return tuple(folder / f"{name}.dcm" for name in objects)


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
        replace(SMALL, character_set="ISO_IR 144", patient_name="Иванов^Иван"),
        replace(SMALL, character_set=["", "ISO 2022 IR 87"], patient_name="Yamada^Tarou=山田^太郎"),
        replace(SMALL, character_set=["", "ISO 2022 IR 149"], patient_name="Hong^Gildong=洪^吉洞=홍^길동"),
        replace(SMALL, positions_mm=(0.0, 3.0, 6.0, 12.0, 15.0, 18.0, 21.0, 24.0, 27.0, 30.0)),
        replace(SMALL, shear=0.33, attributes={"GantryDetectorTilt": "18.26"}),
    ],
)
def test_dciodvfy_finds_no_error(options: PhantomOptions, tmp_path: Path, organ_table: OrganTable) -> None:
    series = series_of(tmp_path / "ct", options)
    for path in _save(tmp_path, awkward_label_map(series.geometry, organ_table), series):
        assert dciodvfy_errors(path) == []
        if path.stem != "SR":  # whose content items need what their own value type needs; see its unit test
            assert missing(dcmread(path)) == ()


@pytest.mark.peer
@pytest.mark.parametrize(
    "options", [SMALL, replace(SMALL, centre_mm=(-312.4375, 77.7, -1033.25), slice_spacing_mm=1.25)]
)
def test_plastimatch_sees_the_same_masks(
    options: PhantomOptions, tmp_path: Path, organ_table: OrganTable
) -> None:
    series = series_of(tmp_path / "ct", options)
    label_map = awkward_label_map(series.grid, organ_table)
    rtstruct, *_ = _save(tmp_path, label_map, series)
    masks = plastimatch_masks(rtstruct, tmp_path / "ct", tmp_path / "masks")
    overlaps = {
        label_map.organs[label].name: dice(masks[label_map.organs[label].name], label_map.mask(label))
        for label in range(1, 6)
    }
    assert min(overlaps.values()) >= 0.999, overlaps


@pytest.mark.peer
@pytest.mark.parametrize("kind", SegKind)
@pytest.mark.parametrize(
    "options",
    [
        SMALL,
        replace(SMALL, rows=41, columns=43),  # frames of odd size
        replace(SMALL, orientation=FEET_FIRST),
        replace(SMALL, centre_mm=(-312.4375, 77.7, -1033.25), slice_spacing_mm=1.25),
    ],
)
def test_dcmqi_reads_the_segments_to_the_voxel(
    options: PhantomOptions, kind: SegKind, tmp_path: Path, organ_table: OrganTable
) -> None:
    series = series_of(tmp_path / "ct", options)
    label_map = awkward_label_map(series.grid, organ_table)
    path = tmp_path / "SEG.dcm"
    write_seg(label_map, series, PROVENANCE, kind=kind).save_as(path, enforce_file_format=True)
    masks = dcmqi_masks(path, series.grid, tmp_path / "dcmqi")
    names = {label_map.organs[label].name: label for label in range(1, 6)}
    assert masks.keys() == names.keys()
    for name, label in names.items():
        assert np.array_equal(masks[name], label_map.mask(label)), name


@pytest.mark.peer
@pytest.mark.parametrize("kind", SegKind)
@pytest.mark.parametrize("conversion", ["enhanced", "legacy"])
def test_objects_of_a_multi_frame_ct_are_valid_and_read_to_the_voxel(
    conversion: str, kind: SegKind, tmp_path: Path, organ_table: OrganTable
) -> None:
    scan = Scan(heights_mm=regular(10))
    if conversion == "enhanced":
        write_enhanced(tmp_path / "ct", [scan], order=[3, 1, 0, 2, 9, 8, 7, 4, 5, 6])
    else:
        write_legacy_converted(tmp_path / "ct", scan)
    series = read_series(tmp_path / "ct")
    label_map = awkward_label_map(series.geometry, organ_table)
    for path in _save(tmp_path, label_map, series):
        assert dciodvfy_errors(path) == []
    path = tmp_path / "kind.dcm"
    seg = write_seg(label_map, series, PROVENANCE, kind=kind)
    prove_seg(seg, label_map, series)
    seg.save_as(path, enforce_file_format=True)
    masks = dcmqi_masks(path, series.grid, tmp_path / "dcmqi")
    for label in range(1, 6):
        assert np.array_equal(masks[label_map.organs[label].name], label_map.mask(label))


@pytest.mark.peer
@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "box"),
    [
        ("dicom/pycerr_hn_pt1", np.s_[40:50, 200:240, 200:240]),
        ("dicom_small/totalsegmentator_ct_j2k", np.s_[5:13, 200:240, 200:240]),
        ("dicom/CRLM-CT-1004", np.s_[10:20, 200:240, 200:240]),
        ("dicom/dcm_qa_ct_ge_tilt", np.s_[5:15, 200:240, 200:240]),  # 18.5 degrees, uneven distances
    ],
)
def test_real_series_give_valid_objects(
    name: str, box: tuple[slice, ...], shared_data: Path, tmp_path: Path, organ_table: OrganTable
) -> None:
    series = _unpack(shared_data, name, tmp_path / "ct")
    labels = np.zeros(series.geometry.shape, dtype=np.uint8)
    corner = awkward_label_map(replace(series.grid, shape=labels[box].shape), organ_table)
    labels[box] = corner.labels
    label_map = LabelMap(grid=series.geometry, labels=labels, organs=corner.organs)
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
