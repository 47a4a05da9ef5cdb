"""The SEG is the label map, says so of each organ, and that nobody has reviewed it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage, RLELossless

from orgseg_node.core.contours import trace
from orgseg_node.core.geometry import SliceStack
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.objects.rtstruct import write_rtstruct
from orgseg_node.dicom.objects.seg import LABEL_MAP_STORAGE, SegKind, prove_seg, write_seg
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.errors import NothingFound, ObjectInvalid, ProofFailed
from tests.support.ct.objects import PROVENANCE, SMALL, awkward_label_map, awkward_labels, series_of
from tests.support.ct.phantom import FEET_FIRST, PhantomOptions

FOUND = ("A_Aorta", "Eye_L", "Liver", "Kidney_R", "Rectum")


@pytest.fixture
def written(series: CtSeries, label_map: LabelMap) -> Dataset:
    return write_seg(label_map, series, PROVENANCE)


@pytest.fixture(scope="module", params=SegKind)
def kind(request: pytest.FixtureRequest) -> SegKind:
    return request.param


def _moved(
    series: CtSeries,
    positions_mm: Sequence[Sequence[float]],
    orientation: Callable[[int], tuple[float, ...]] | None = None,
) -> CtSeries:
    """The series with its slices elsewhere, each at a place, and with an orientation, of its own."""
    slices = tuple(
        replace(
            one,
            position_mm=tuple(map(float, place)),
            orientation=one.orientation if orientation is None else orientation(k),
        )
        for k, (one, place) in enumerate(zip(series.slices, positions_mm, strict=True))
    )
    stack = SliceStack(
        shape=(len(slices), series.rows, series.columns),
        positions_mm=np.array([one.position_mm for one in slices]),
        orientations=np.array([one.orientation for one in slices]).reshape(-1, 2, 3),
        pixel_spacing_mm=series.pixel_spacing_mm,
    )
    return replace(series, slices=slices, stack=stack, is_regular=False)


def _tilted_with_gaps(series: CtSeries) -> CtSeries:
    """Tilted by 18 degrees, with a slice missing and distances of 3, 6, 4.2 and 1.1 mm."""
    heights = np.cumsum([0.0, 3.0, 6.0, 3.0, 4.22, 1.14, 3.0, 3.0])
    start = np.array(series.slices[0].position_mm)
    tilt = np.tan(np.radians(18.5))
    return _moved(series, [start + np.array([0.0, h * tilt, h]) for h in heights])


def _each_its_own_way(series: CtSeries) -> CtSeries:
    """Slices turned against each other by hundredths of a degree: a tenth of a millimetre at the edge."""

    def turned(k: int) -> tuple[float, ...]:
        angle = 8e-5 * k
        return (np.cos(angle), np.sin(angle), 0.0, -np.sin(angle), np.cos(angle), 0.0)

    return _moved(series, [one.position_mm for one in series.slices], turned)


def _in_one_file(series: CtSeries) -> CtSeries:
    """The slices as frames of one Enhanced CT file, in another order than along the normal."""
    file = {"sop_class_uid": EnhancedCTImageStorage, "sop_instance_uid": "1.2.3"}
    last = len(series.slices)
    slices = tuple(replace(one, **file, frame=last - k) for k, one in enumerate(series.slices))
    return replace(series, slices=slices)


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
    series: CtSeries, label_map: LabelMap, kind: SegKind
) -> None:
    written = write_seg(label_map, series, PROVENANCE, kind=kind)
    assert _bytes(write_seg(label_map, series, PROVENANCE, kind=kind)) == _bytes(written)
    other = write_seg(label_map, series, replace(PROVENANCE, job_id="job-2"), kind=kind)
    segments = (*other.SegmentSequence, *written.SegmentSequence)
    tracking = {segment.TrackingUID for segment in segments if segment.SegmentNumber != 0}
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
        replace(SMALL, pixel_spacing_mm=(4.0, 2.5)),
        replace(SMALL, positions_mm=(0.0, 3.0, 6.0, 12.0, 15.0, 18.0, 21.0, 24.0)),
        replace(SMALL, positions_mm=(0.0, 3.0, 6.0, 9.0, 15.0, 21.0, 27.0, 33.0), orientation=FEET_FIRST),
        replace(SMALL, shear=0.33, attributes={"GantryDetectorTilt": "18.26"}),
    ],
)
def test_any_series_comes_back_to_the_voxel(
    options: PhantomOptions, kind: SegKind, tmp_path: Path, organ_table: OrganTable
) -> None:
    series = series_of(tmp_path, options)
    label_map = awkward_label_map(series.geometry, organ_table)
    prove_seg(write_seg(label_map, series, PROVENANCE, kind=kind), label_map, series)


def _nearly(k: int) -> tuple[float, ...]:
    return (0.99999995, 1e-5 * (k % 2), 0.0, -1e-5 * (k % 2), 0.99999995, 0.0)


def test_roundings_of_the_orientation_are_no_orientations_of_their_own(
    series: CtSeries, label_map: LabelMap, kind: SegKind
) -> None:
    inexact = _moved(series, [one.position_mm for one in series.slices], _nearly)
    label_map = replace(label_map, grid=inexact.geometry)
    written = write_seg(label_map, inexact, PROVENANCE, kind=kind)
    assert "PlaneOrientationSequence" in written.SharedFunctionalGroupsSequence[0]
    prove_seg(written, label_map, inexact)


@pytest.mark.parametrize("change", [_tilted_with_gaps, _each_its_own_way])
def test_irregular_slices_keep_their_own_places(
    change: Callable[[CtSeries], CtSeries], series: CtSeries, label_map: LabelMap, kind: SegKind
) -> None:
    irregular = change(series)
    label_map = replace(label_map, grid=irregular.geometry)
    written = dcmread(BytesIO(_bytes(write_seg(label_map, irregular, PROVENANCE, kind=kind))))
    prove_seg(written, label_map, irregular)
    shared = written.SharedFunctionalGroupsSequence[0]
    k_of_uid = {one.sop_instance_uid: k for k, one in enumerate(irregular.slices)}
    for frame in written.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        ct_slice = irregular.slices[k_of_uid[source.ReferencedSOPInstanceUID]]
        stated = frame if "PlaneOrientationSequence" in frame else shared
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        orientation = stated.PlaneOrientationSequence[0].ImageOrientationPatient
        assert np.allclose(position, ct_slice.position_mm, rtol=0, atol=1e-6)
        assert np.allclose(orientation, ct_slice.orientation, rtol=0, atol=1e-9)
    assert written.get("DimensionOrganizationType") != "3D"
    assert "SpacingBetweenSlices" not in shared.PixelMeasuresSequence[0]


def test_frames_refer_to_the_frames_of_a_multi_frame_ct(
    series: CtSeries, label_map: LabelMap, kind: SegKind
) -> None:
    one_file = _in_one_file(series)
    written = dcmread(BytesIO(_bytes(write_seg(label_map, one_file, PROVENANCE, kind=kind))))
    prove_seg(written, label_map, one_file)
    (file,) = written.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert (file.ReferencedSOPClassUID, file.ReferencedSOPInstanceUID) == (EnhancedCTImageStorage, "1.2.3")
    numbers = set()
    for frame in written.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert source.ReferencedSOPInstanceUID == "1.2.3"
        (k,) = [k for k, one in enumerate(one_file.slices) if one.frame == source.ReferencedFrameNumber]
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        assert np.allclose(position, one_file.slices[k].position_mm, rtol=0, atol=1e-6)
        numbers.add(int(source.ReferencedFrameNumber))
    assert numbers == set(range(1, len(series.slices) + 1))


def test_wrong_frame_of_a_multi_frame_ct_is_noticed(
    series: CtSeries, label_map: LabelMap, kind: SegKind
) -> None:
    one_file = _in_one_file(series)
    written = dcmread(BytesIO(_bytes(write_seg(label_map, one_file, PROVENANCE, kind=kind))))
    first = written.PerFrameFunctionalGroupsSequence[0]
    source = first.DerivationImageSequence[0].SourceImageSequence[0]
    source.ReferencedFrameNumber = int(source.ReferencedFrameNumber) - 1
    with pytest.raises(ProofFailed, match="SEG differs in"):
        prove_seg(written, label_map, one_file)


def test_label_map_is_compressed_and_an_object_of_its_own(
    series: CtSeries, label_map: LabelMap, written: Dataset
) -> None:
    compact = dcmread(BytesIO(_bytes(write_seg(label_map, series, PROVENANCE, kind=SegKind.LABELMAP))))
    assert compact.SOPClassUID == compact.file_meta.MediaStorageSOPClassUID == LABEL_MAP_STORAGE
    assert compact.file_meta.TransferSyntaxUID == RLELossless
    assert compact.SegmentationType == "LABELMAP"
    assert int(compact.NumberOfFrames) == len(series.slices)  # the liver is on each of them
    assert compact.SOPInstanceUID != written.SOPInstanceUID
    assert compact.SeriesInstanceUID != written.SeriesInstanceUID
    background, *organs = compact.SegmentSequence
    assert background.SegmentNumber == 0
    for one, other in zip(organs, written.SegmentSequence, strict=True):
        assert one == other  # label, codes, side, colour, tracking, algorithm


def test_colours_are_those_for_viewers(written: Dataset, organ_table: OrganTable) -> None:
    for segment, key in zip(written.SegmentSequence, ("aorta", "eyeball_left"), strict=False):
        color = hd.color.CIELabColor.from_dicom_value(tuple(segment.RecommendedDisplayCIELabValue))
        assert np.allclose(color.to_rgb(), organ_table[key].display, atol=1)


def test_highdicom_reads_the_label_map(series: CtSeries, label_map: LabelMap, kind: SegKind) -> None:
    written = write_seg(label_map, series, PROVENANCE, kind=kind)
    read = hd.seg.segread(BytesIO(_bytes(written)))
    uids = [one.sop_instance_uid for one in series.slices]
    labels = read.get_pixels_by_source_instance(uids, combine_segments=True, ignore_spatial_locations=True)
    assert np.array_equal(labels, label_map.labels)


def test_it_refers_to_the_structure_set(series: CtSeries, label_map: LabelMap, written: Dataset) -> None:
    uid = write_rtstruct(trace(label_map), series, PROVENANCE).SOPInstanceUID
    both = write_seg(label_map, series, PROVENANCE, structure_set_uid=uid)
    (other,) = dcmread(BytesIO(_bytes(both))).ReferencedInstanceSequence
    assert other.ReferencedSOPInstanceUID == uid
    assert other.ReferencedSOPClassUID.name == "RT Structure Set Storage"
    assert other.PurposeOfReferenceCodeSequence[0].CodeValue == "121326"
    assert "ReferencedInstanceSequence" not in written


def test_names_of_a_template_fit_into_any_character_set(
    series: CtSeries, label_map: LabelMap, kind: SegKind
) -> None:
    organs = dict(label_map.organs)
    organs[1] = replace(organs[1], name="R\u00fcckenmark_\u00d8")
    named = replace(label_map, organs=organs)
    written = write_seg(named, series, PROVENANCE, kind=kind)
    prove_seg(written, named, series)
    assert "Ruckenmark_?" in {segment.SegmentLabel for segment in written.SegmentSequence}


def test_one_voxel_in_one_frame_is_enough(series: CtSeries, label_map: LabelMap, kind: SegKind) -> None:
    labels = np.where(label_map.labels == 2, 2, 0).astype(np.uint8)
    lone = replace(label_map, labels=labels)
    written = write_seg(lone, series, PROVENANCE, kind=kind)
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


def test_nothing_found_is_an_error_and_not_written(series: CtSeries, label_map: LabelMap) -> None:
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
