"""The SEG is the label map, says so of each organ, and that nobody has reviewed it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from orgseg_node.core.contours import trace
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.rtstruct import write_rtstruct
from orgseg_node.dicom.seg import prove_seg, write_seg
from orgseg_node.dicom.series import CtSeries
from orgseg_node.errors import NothingFound, ObjectInvalid, ProofFailed
from tests.support.objects import PROVENANCE, awkward_label_map, awkward_labels, series_of
from tests.support.phantom import FEET_FIRST, PhantomOptions

SMALL = PhantomOptions(slices=8, rows=41, columns=43)  # 1763 pixels: frames do not end at whole bytes
FOUND = ("A_Aorta", "Eye_L", "Liver", "Kidney_R", "Rectum")


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> CtSeries:
    return series_of(tmp_path_factory.mktemp("ct"), SMALL)


@pytest.fixture(scope="module")
def label_map(series: CtSeries, organ_table: OrganTable) -> LabelMap:
    return awkward_label_map(series.grid, organ_table)


@pytest.fixture
def written(series: CtSeries, label_map: LabelMap) -> Dataset:
    return write_seg(label_map, series, PROVENANCE)


def _bytes(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_segments_are_the_organs_that_were_found(written: Dataset, organ_table: OrganTable) -> None:
    again = dcmread(BytesIO(_bytes(written)))
    assert [segment.SegmentLabel for segment in again.SegmentSequence] == list(FOUND)
    assert again.SegmentationType == "BINARY"
    eye = again.SegmentSequence[1]
    kind = eye.SegmentedPropertyTypeCodeSequence[0]
    assert kind.CodeValue == organ_table["eyeball_left"].code
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert eye.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "91723000"
    assert len(eye.RecommendedDisplayCIELabValue) == 3
    aorta = again.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]
    assert "SegmentedPropertyTypeModifierCodeSequence" not in aorta


def test_only_slices_with_an_organ_are_stored(written: Dataset, label_map: LabelMap) -> None:
    frames = sum(int(label_map.mask(label).any(axis=(1, 2)).sum()) for label in range(1, 6))
    assert int(written.NumberOfFrames) == frames


def test_object_says_automatic_and_unreviewed(written: Dataset) -> None:
    assert written.ContentQualification == "RESEARCH"
    assert written.ContentLabel == "AUTO_UNREVIEWED"
    assert written.SeriesDescription == "AUTO CONTOURS UNREVIEWED"
    assert written.ContentDescription == "AI, not reviewed"
    for segment in written.SegmentSequence:
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert algorithm.AlgorithmName == "starter + larynx"
    assert list(written.SoftwareVersions)[1] == "starter 1.0 sha256:abababababab"


def test_same_job_gives_the_same_bytes_and_another_job_another_object(
    series: CtSeries, label_map: LabelMap, written: Dataset
) -> None:
    assert _bytes(write_seg(label_map, series, PROVENANCE)) == _bytes(written)
    other = write_seg(label_map, series, replace(PROVENANCE, job_id="job-2"))
    tracking = {segment.TrackingUID for s in (other, written) for segment in s.SegmentSequence}
    assert other.SOPInstanceUID != written.SOPInstanceUID
    assert len(tracking) == 2 * len(FOUND)


def test_patient_and_study_are_those_of_the_rtstruct(tmp_path: Path, organ_table: OrganTable) -> None:
    series = series_of(
        tmp_path, replace(SMALL, character_set="ISO_IR 100", patient_name="Åström^Lotta", patient_id="")
    )
    label_map = awkward_label_map(series.grid, organ_table)
    seg = dcmread(BytesIO(_bytes(write_seg(label_map, series, PROVENANCE))))
    rtstruct = dcmread(BytesIO(_bytes(write_rtstruct(trace(label_map), series, PROVENANCE))))
    for keyword in ("SpecificCharacterSet", "PatientName", "PatientID", "PatientSex", "StudyInstanceUID",
                    "StudyDate", "StudyDescription", "AccessionNumber", "FrameOfReferenceUID"):  # fmt: skip
        assert seg[keyword].value == rtstruct[keyword].value, keyword
    assert str(seg.PatientName) == "Åström^Lotta"
    assert seg.SOPInstanceUID != rtstruct.SOPInstanceUID
    assert seg.SeriesInstanceUID != rtstruct.SeriesInstanceUID


@pytest.mark.parametrize(
    "options",
    [
        SMALL,
        replace(SMALL, orientation=FEET_FIRST),
        replace(SMALL, slice_spacing_mm=1.5, centre_mm=(3.14159, -2.71828, -1000.123456)),
        replace(SMALL, attributes={"SliceThickness": None}),
        replace(SMALL, attributes={"PatientBirthDate": None, "PatientSex": None, "StudyTime": None}),
    ],
)
def test_any_series_comes_back_to_the_voxel(
    options: PhantomOptions, tmp_path: Path, organ_table: OrganTable
) -> None:
    series = series_of(tmp_path, options)
    label_map = awkward_label_map(series.grid, organ_table)
    prove_seg(write_seg(label_map, series, PROVENANCE), label_map, series)


def test_orientation_that_is_not_quite_exact_is_accepted(series: CtSeries, label_map: LabelMap) -> None:
    inexact = replace(series, orientation=(0.99999995, 1e-5, 0.0, -1e-5, 0.99999995, 0.0))
    prove_seg(write_seg(label_map, inexact, PROVENANCE), label_map, inexact)


def test_one_voxel_in_one_frame_is_enough(series: CtSeries, label_map: LabelMap) -> None:
    labels = np.where(label_map.labels == 2, 2, 0).astype(np.uint8)
    lone = replace(label_map, labels=labels)
    written = write_seg(lone, series, PROVENANCE)
    assert int(written.NumberOfFrames) == 1
    prove_seg(written, lone, series)


def test_label_numbers_may_have_gaps(series: CtSeries, organ_table: OrganTable) -> None:
    labels = awkward_labels(series.grid.shape)
    labels[labels == 5] = 200
    organs = {label: organ_table[key] for label, key in ((1, "liver"), (2, "heart"), (200, "brain"))}
    label_map = LabelMap(grid=series.grid, labels=np.where(labels > 4, labels, labels % 3), organs=organs)
    written = write_seg(label_map, series, PROVENANCE)
    assert [int(s.SegmentNumber) for s in written.SegmentSequence] == [1, 2, 3]
    prove_seg(written, label_map, series)


def test_nothing_found_is_said_and_not_written(series: CtSeries, label_map: LabelMap) -> None:
    with pytest.raises(NothingFound):
        write_seg(replace(label_map, labels=np.zeros_like(label_map.labels)), series, PROVENANCE)


def test_label_without_organ_is_refused(series: CtSeries, label_map: LabelMap) -> None:
    with pytest.raises(ObjectInvalid, match=r"\[2\]"):
        write_seg(replace(label_map, organs={1: label_map.organs[1], 3: label_map.organs[3],
                                             4: label_map.organs[4], 5: label_map.organs[5]}),
                  series, PROVENANCE)  # fmt: skip


def test_label_map_of_another_grid_is_refused(series: CtSeries, label_map: LabelMap) -> None:
    grid = replace(label_map.grid, shape=(8, 41, 42))
    other = LabelMap(grid=grid, labels=label_map.labels[..., 1:].copy(), organs=label_map.organs)
    with pytest.raises(ObjectInvalid, match="grid"):
        write_seg(other, series, PROVENANCE)


def _flip_a_bit(dataset: Dataset) -> None:
    pixels = bytearray(dataset.PixelData)
    pixels[0] ^= 1  # first pixel of the first frame, which belongs to the first segment
    dataset.PixelData = bytes(pixels)


def _wrong_source(dataset: Dataset) -> None:
    frames = dataset.PerFrameFunctionalGroupsSequence
    source = frames[1].DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
    frames[0].DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = source


def _unknown_source(dataset: Dataset) -> None:
    frames = dataset.PerFrameFunctionalGroupsSequence
    frames[0].DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def _wrong_place(dataset: Dataset) -> None:
    dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 0]


def _frame_of_nothing(dataset: Dataset) -> None:
    frame = dataset.PerFrameFunctionalGroupsSequence[0]
    frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 99


def _renamed(dataset: Dataset) -> None:
    dataset.SegmentSequence[0].SegmentLabel = "Aorta"


def _frame_lost(dataset: Dataset) -> None:
    del dataset["PerFrameFunctionalGroupsSequence"].value[-1]
    del dataset["PerFrameFunctionalGroupsSequence"].value[0]
    size = 41 * 43
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    dataset.PixelData = np.packbits(bits[size:], bitorder="little").tobytes()


@pytest.mark.parametrize(
    "damage",
    [_flip_a_bit, _wrong_source, _unknown_source, _wrong_place, _frame_of_nothing, _renamed, _frame_lost],
)
def test_proof_names_the_organ_that_differs(
    damage: Callable[[Dataset], None], written: Dataset, series: CtSeries, label_map: LabelMap
) -> None:
    prove_seg(written, label_map, series)
    reread = dcmread(BytesIO(_bytes(written)))  # highdicom lets frames share items in memory
    damage(reread)
    with pytest.raises(ProofFailed, match="SEG differs in: A_Aorta") as caught:
        prove_seg(reread, label_map, series)
    assert "Liver" not in str(caught.value)


def test_proof_sees_a_single_voxel(written: Dataset, series: CtSeries, label_map: LabelMap) -> None:
    labels = label_map.labels.copy()
    labels[4, 30, 31] = 2
    with pytest.raises(ProofFailed, match="Eye_L"):
        prove_seg(written, replace(label_map, labels=labels), series)
