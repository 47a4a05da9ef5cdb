"""The RTSTRUCT says what was computed, where it was computed, and that nobody has reviewed it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import EnhancedCTImageStorage, ImplicitVRLittleEndian

from orgseg_node.core.contours import MAX_POINTS, Contour, Holes, StructureSet, rasterise, trace
from orgseg_node.core.geometry import Box, Grid
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.regions import Region
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.objects.rtstruct import contour_text, prove, read_rtstruct, write_rtstruct
from orgseg_node.dicom.objects.seg import write_seg
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.dicom.tps.tps import GENERIC, PROFILES, EmptyRois, validate
from orgseg_node.errors import NothingFound, ObjectInvalid, ProofFailed
from tests.support.ct import phantom
from tests.support.ct.objects import PROVENANCE, SMALL, awkward_label_map, series_of
from tests.support.ct.phantom import PhantomOptions


@pytest.fixture
def written(series: CtSeries, label_map: LabelMap) -> FileDataset:
    return write_rtstruct(trace(label_map), series, PROVENANCE)


def _bytes(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _reread(dataset: Dataset) -> FileDataset:
    return dcmread(BytesIO(_bytes(dataset)))


def _contours_of(dataset: Dataset, roi: int = 0) -> Any:
    return dataset.ROIContourSequence[roi].ContourSequence


@pytest.mark.parametrize(
    "options",
    [
        SMALL,
        replace(SMALL, pixel_spacing_mm=(2.0, 5.0)),
        replace(SMALL, orientation=phantom.PRONE),
        replace(SMALL, orientation=phantom.FEET_FIRST),
        replace(SMALL, orientation=phantom.CORONAL),
        replace(SMALL, orientation=phantom.SAGITTAL),
        replace(SMALL, orientation=(0.8, 0.6, 0.0, -0.6, 0.8, 0.0)),
        replace(SMALL, orientation=(0.0, 0.8, 0.6, 0.0, -0.6, 0.8), pixel_spacing_mm=(1.7, 1.3)),
        replace(SMALL, pixel_spacing_mm=(0.25, 0.25)),
        replace(SMALL, pixel_spacing_mm=(0.02, 0.03)),
        replace(SMALL, centre_mm=(-1234.567, 987.654, -1500.25), slice_spacing_mm=0.625),
    ],
)
def test_written_points_lie_where_the_voxels_are(
    options: PhantomOptions, series: CtSeries, organ_table: OrganTable
) -> None:
    series = _series_in_memory(series, options)
    label_map = awkward_label_map(series.grid, organ_table)
    written = write_rtstruct(trace(label_map), series, PROVENANCE)
    prove(written, label_map, series)
    lone = _reread(written).ROIContourSequence[1].ContourSequence[0]
    centre = np.reshape(lone.ContourData, (-1, 3)).astype(float).mean(axis=0)
    np.testing.assert_allclose(centre, series.grid.to_lps([(4, 30, 30)])[0], atol=0.01)
    assert lone.ContourImageSequence[0].ReferencedSOPInstanceUID == series.slices[4].sop_instance_uid


def _series_in_memory(like: CtSeries, options: PhantomOptions) -> CtSeries:
    """The series another scan would give, also one that the reader would refuse for its orientation."""
    slices = []
    for ct_slice, dataset in zip(like.slices, phantom.ct_datasets(options), strict=True):
        texts = [str(value) for value in dataset.ImagePositionPatient]
        x, y, z = (float(text) for text in texts)
        position_ds = (texts[0], texts[1], texts[2])
        slices.append(
            replace(ct_slice, position_mm=(x, y, z), position_ds=position_ds, orientation=options.orientation)
        )
    return replace(
        like,
        slices=tuple(slices),
        pixel_spacing_mm=options.pixel_spacing_mm,
        orientation=options.orientation,
        grid=phantom.grid_of(options),
        is_regular=True,
    )


def test_same_job_gives_the_same_bytes_and_another_job_another_object(
    series: CtSeries, label_map: LabelMap
) -> None:
    first, again = (write_rtstruct(trace(label_map), series, PROVENANCE) for _ in range(2))
    assert _bytes(first) == _bytes(again)
    other = write_rtstruct(trace(label_map), series, replace(PROVENANCE, job_id="job-2"))
    assert other.SOPInstanceUID != first.SOPInstanceUID
    assert other.SeriesInstanceUID != first.SeriesInstanceUID


def test_a_guided_result_says_so(series: CtSeries, label_map: LabelMap) -> None:
    guided = replace(
        PROVENANCE, guidance="Guided by coarse 2: 2 of 3 networks searched only around its organs."
    )
    written = write_rtstruct(trace(label_map), series, guided)
    assert written.StructureSetDescription.endswith(guided.guidance)
    (algorithm,) = written.StructureSetROISequence[0].ROIDerivationAlgorithmIdentificationSequence
    assert guided.guidance in algorithm.AlgorithmParameters


def test_object_says_automatic_and_unreviewed_everywhere(written: FileDataset) -> None:
    again = _reread(written)
    assert again.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert again.StructureSetLabel == "AUTO UNREVIEWED"
    assert again.ApprovalStatus == "UNAPPROVED"
    assert again.ContentQualification == "RESEARCH"
    assert again.SeriesDescription == "AUTO CONTOURS UNREVIEWED"
    assert "ReviewerName" not in again
    assert list(again.SoftwareVersions)[1:] == [str(model) for model in PROVENANCE.models]
    assert again.ContributingEquipmentSequence[0].ManufacturerModelName == "orgseg_node"
    for roi in again.StructureSetROISequence:
        assert roi.ROIGenerationAlgorithm == "AUTOMATIC"
        assert roi.ROIGenerationDescription == "AI, not reviewed"
        (algorithm,) = roi.ROIDerivationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("starter + larynx", "1.0 + 2.0")
        assert algorithm.AlgorithmFamilyCodeSequence[0].CodeValue == "123109"
        assert "sha256=" + "cd" * 32 in algorithm.AlgorithmParameters
    assert "SourceSeriesSequence" not in again.ROIContourSequence[0]
    assert "ROICreatorSequence" not in again.StructureSetROISequence[0]


def test_rois_carry_name_code_side_colour_and_type(written: FileDataset, organ_table: OrganTable) -> None:
    organs = [organ_table[key] for key in ("aorta", "eyeball_left", "liver", "kidney_right", "rectum")]
    assert [roi.ROIName for roi in written.StructureSetROISequence] == [organ.name for organ in organs]
    for number, organ in enumerate(organs, start=1):
        observation = written.RTROIObservationsSequence[number - 1]
        code = observation.RTROIIdentificationCodeSequence[0]
        assert observation.ReferencedROINumber == number
        assert (code.CodeValue, code.CodingSchemeDesignator) == (organ.code, "SCT")
        assert observation.RTROIInterpretedType == "ORGAN"
        assert written.ROIContourSequence[number - 1].ROIDisplayColor == list(organ.color)
    left = written.RTROIObservationsSequence[1].RTROIIdentificationCodeSequence[0]
    assert left.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"


def test_references_name_study_series_frame_and_every_slice(written: FileDataset, series: CtSeries) -> None:
    frame = written.ReferencedFrameOfReferenceSequence[0]
    study = frame.RTReferencedStudySequence[0]
    referenced = study.RTReferencedSeriesSequence[0]
    assert frame.FrameOfReferenceUID == written.FrameOfReferenceUID == series.frame_of_reference_uid
    assert study.ReferencedSOPInstanceUID == written.StudyInstanceUID == series.study_instance_uid
    assert referenced.SeriesInstanceUID == series.series_instance_uid
    uids = [image.ReferencedSOPInstanceUID for image in referenced.ContourImageSequence]
    assert uids == [ct_slice.sop_instance_uid for ct_slice in series.slices]


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 192", "Åström^Lotta"),
        ("ISO_IR 100", "Åström^Lotta"),
        ("ISO_IR 144", "Люкceмбypг"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (None, "Plain^Name"),
    ],
)
def test_patient_name_keeps_its_character_set(
    character_set: str | list[str] | None, name: str, tmp_path: Path, organ_table: OrganTable
) -> None:
    attributes: dict[str, Any] = {"PatientName": name}
    if character_set is not None:
        attributes = {"SpecificCharacterSet": character_set, **attributes}
    options = replace(SMALL, character_set=None, attributes=attributes)
    series = series_of(tmp_path, options)
    structure_set = trace(awkward_label_map(series.grid, organ_table))
    again = _reread(write_rtstruct(structure_set, series, PROVENANCE))
    assert str(again.PatientName) == name
    assert again.get("SpecificCharacterSet") == series.header.get("SpecificCharacterSet")


def test_what_the_ct_lacks_is_empty_and_never_made_up(tmp_path: Path, organ_table: OrganTable) -> None:
    gone = ["PatientBirthDate", "PatientSex", "StudyID", "StudyTime", "ReferringPhysicianName"]
    gone += ["PositionReferenceIndicator", "StudyDescription"]
    options = replace(SMALL, patient_name="", patient_id="", attributes=dict.fromkeys(gone))
    series = series_of(tmp_path, options)
    plain = replace(PROVENANCE, institution="")
    again = _reread(write_rtstruct(trace(awkward_label_map(series.grid, organ_table)), series, plain))
    for keyword in ["PatientName", "PatientID", *gone[:-1], "OperatorsName"]:
        assert again[keyword].is_empty, keyword
    assert "StudyDescription" not in again
    assert "InstitutionName" not in again


@pytest.mark.parametrize(
    ("removed", "method", "written"),
    [
        ("YES", None, "Not stated in the source images"),
        ("YES", "Supplement 142", "Supplement 142"),
        ("NO", None, None),
    ],
)
def test_a_removed_identity_says_how_it_was_removed(
    removed: str, method: str | None, written: str | None, tmp_path: Path, organ_table: OrganTable
) -> None:
    attributes = {"PatientIdentityRemoved": removed} | ({"DeidentificationMethod": method} if method else {})
    series = series_of(tmp_path, replace(SMALL, attributes=attributes))
    dataset = write_rtstruct(trace(awkward_label_map(series.grid, organ_table)), series, PROVENANCE)
    assert dataset.PatientIdentityRemoved == removed
    assert dataset.get("DeidentificationMethod") == written


def test_z_is_the_text_of_the_slice_and_numbers_are_short(written: FileDataset, series: CtSeries) -> None:
    for roi in written.ROIContourSequence:
        for item in roi.ContourSequence:
            words = item.ContourData.split("\\")
            uid = item.ContourImageSequence[0].ReferencedSOPInstanceUID
            ct_slice = next(s for s in series.slices if s.sop_instance_uid == uid)
            assert set(words[2::3]) == {ct_slice.position_ds[2]}
            assert max(map(len, words)) <= 16
            assert "-0.00" not in words
            assert item.NumberOfContourPoints * 3 == len(words)
            assert len(item.ContourData) < 60_000


def test_z_text_longer_than_the_standard_allows_is_shortened(series: CtSeries) -> None:
    first = replace(
        series.slices[0],
        position_mm=(0.0, 0.0, -12.3456789012345),
        position_ds=("0", "0", "-12.34567890123456789"),
    )
    text = contour_text(
        Contour(k=0, points=np.zeros((3, 2))), replace(series, slices=(first, *series.slices[1:]))
    )
    assert text.split("\\")[2] == "-12.345678901234"


def test_largest_contour_with_the_longest_numbers_stays_below_60_kb(series: CtSeries) -> None:
    place, texts = (-1999.9, -1999.9, -1234.5678901234), ("-1999.9", "-1999.9", "-1234.5678901234")
    slices = (replace(series.slices[0], position_mm=place, position_ds=texts), *series.slices[1:])
    points = np.random.default_rng(0).uniform(0, 40, (MAX_POINTS, 2))
    text = contour_text(Contour(k=0, points=points), replace(series, slices=slices))
    assert len(text) < 60_000


def test_each_slice_counts_at_its_own_position(series: CtSeries, label_map: LabelMap) -> None:
    slices = list(series.slices)
    x, y, z = slices[4].position_mm
    slices[4] = replace(
        slices[4], position_mm=(x + 0.3, y, z + 0.04), position_ds=(str(x + 0.3), str(y), f"{z + 0.04:.2f}")
    )
    jittered = replace(series, slices=tuple(slices))
    written = write_rtstruct(trace(label_map), jittered, PROVENANCE)
    prove(written, label_map, jittered)
    with pytest.raises(ProofFailed, match="Liver"):
        prove(written, label_map, series)


def test_nothing_found_is_an_error_and_not_written(series: CtSeries) -> None:
    with pytest.raises(NothingFound):
        write_rtstruct(StructureSet(grid=series.grid, structures=()), series, PROVENANCE)


def test_contours_of_another_grid_are_refused(series: CtSeries, label_map: LabelMap) -> None:
    other = Grid(shape=(8, 40, 41), spacing_mm=(3.0, 4.0, 4.0), origin_mm=(0.0, 0.0, 0.0))
    with pytest.raises(ObjectInvalid, match="grid"):
        write_rtstruct(replace(trace(label_map), grid=other), series, PROVENANCE)


def test_reading_gives_the_masks_back(written: FileDataset, series: CtSeries, label_map: LabelMap) -> None:
    for dataset in (written, _reread(written)):
        found = read_rtstruct(dataset, series)
        assert list(found) == [label_map.organs[label].name for label in range(1, 6)]
        for label in range(1, 6):
            mask = rasterise(found[label_map.organs[label].name], series.grid)
            np.testing.assert_array_equal(mask, label_map.mask(label))


def test_reading_numbers_that_were_set_one_by_one(written: FileDataset, series: CtSeries) -> None:
    item = _contours_of(written)[0]
    before = read_rtstruct(written, series)
    item.ContourData = [float(word) for word in item.ContourData.split("\\")]
    after = read_rtstruct(written, series)
    np.testing.assert_allclose(after["A_Aorta"][0].points, before["A_Aorta"][0].points)


def test_points_are_left_out_and_empty_rois_are_listed(written: FileDataset, series: CtSeries) -> None:
    for item in _contours_of(written):
        item.ContourGeometricType = "POINT"
    del written.ROIContourSequence[1].ContourSequence
    del written.ROIContourSequence[2]
    found = read_rtstruct(written, series)
    assert found["A_Aorta"] == found["Eye_L"] == found["Liver"] == ()


def _double_name(dataset: Dataset) -> None:
    dataset.StructureSetROISequence[1].ROIName = "A_Aorta"


def _unknown_roi(dataset: Dataset) -> None:
    dataset.ROIContourSequence[0].ReferencedROINumber = 99


def _no_number(dataset: Dataset) -> None:
    del dataset.StructureSetROISequence[0].ROINumber


def _other_frame(dataset: Dataset) -> None:
    dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.3"


def _no_rois(dataset: Dataset) -> None:
    del dataset.StructureSetROISequence


def _set_text(text: str) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        _contours_of(dataset)[0]["ContourData"]._value = text

    return change


def _no_data(dataset: Dataset) -> None:
    del _contours_of(dataset)[0].ContourData


def _off_plane(dataset: Dataset) -> None:
    words = np.array([float(word) for word in _contours_of(dataset)[0].ContourData.split("\\")])
    words[2::3] += 1.4
    _set_text("\\".join(f"{word:.2f}" for word in words))(dataset)


@pytest.mark.parametrize(
    "damage",
    [
        _double_name, _unknown_roi, _no_number, _other_frame, _no_rois, _no_data, _off_plane,
        _set_text("1\\2\\x"), _set_text("1\\2"), _set_text("1\\2\\nan"), _set_text(""),
    ],
)  # fmt: skip
def test_damaged_structure_sets_are_refused_and_fail_the_proof(
    damage: Callable[[Dataset], None], written: FileDataset, series: CtSeries, label_map: LabelMap
) -> None:
    damage(written)
    with pytest.raises(ObjectInvalid):
        read_rtstruct(written, series)
    with pytest.raises(ProofFailed):
        prove(written, label_map, series)


def _shift_one_point(dataset: Dataset) -> None:
    words = _contours_of(dataset, 2)[0].ContourData.split("\\")
    words[0] = f"{float(words[0]) - 6:.2f}"
    _contours_of(dataset, 2)[0]["ContourData"]._value = "\\".join(words)


def _wrong_slice(dataset: Dataset) -> None:
    other = _contours_of(dataset, 2)[1].ContourImageSequence[0].ReferencedSOPInstanceUID
    _contours_of(dataset, 2)[0].ContourImageSequence[0].ReferencedSOPInstanceUID = other


def _no_reference(dataset: Dataset) -> None:
    del _contours_of(dataset, 2)[0].ContourImageSequence


def _long_number(dataset: Dataset) -> None:
    words = _contours_of(dataset, 2)[0].ContourData.split("\\")
    words[0] = f"{float(words[0]):.15f}"
    _contours_of(dataset, 2)[0]["ContourData"]._value = "\\".join(words)


def _speck(dataset: Dataset) -> None:
    word = "\\".join(_contours_of(dataset, 2)[0].ContourData.split("\\")[:3])
    _contours_of(dataset, 2)[0]["ContourData"]._value = "\\".join([word] * 4)


def _rename(dataset: Dataset) -> None:
    dataset.StructureSetROISequence[2].ROIName = "Leber"


def _drop(dataset: Dataset) -> None:
    for sequence in ("StructureSetROISequence", "ROIContourSequence", "RTROIObservationsSequence"):
        del dataset[sequence].value[2]


@pytest.mark.parametrize(
    "damage", [_shift_one_point, _wrong_slice, _no_reference, _long_number, _speck, _rename, _drop]
)
def test_proof_names_the_organ_that_differs(
    damage: Callable[[Dataset], None], written: FileDataset, series: CtSeries, label_map: LabelMap
) -> None:
    prove(written, label_map, series)
    damage(written)
    with pytest.raises(ProofFailed, match=r"RTSTRUCT differs in: (Leber, )?Liver") as caught:
        prove(written, label_map, series)
    assert "Aorta" not in str(caught.value)


def test_proof_sees_a_single_voxel(written: FileDataset, series: CtSeries, label_map: LabelMap) -> None:
    labels = label_map.labels.copy()
    labels[4, 30, 30] = 0
    with pytest.raises(ProofFailed, match="differs in: Eye_L"):
        prove(written, replace(label_map, labels=labels), series)
    labels[4, 30, 30] = 99
    with pytest.raises(ProofFailed, match="Eye_L, label 99"):
        prove(written, replace(label_map, labels=labels), series)


def test_proof_refuses_a_label_map_elsewhere(
    written: FileDataset, series: CtSeries, label_map: LabelMap
) -> None:
    x, y, z = series.grid.origin_mm
    for grid in (replace(series.grid, origin_mm=(x + 1, y, z)), replace(series.grid, shape=(8, 40, 41))):
        labels = np.resize(label_map.labels, grid.shape)
        with pytest.raises(ProofFailed, match="voxels of the CT"):
            prove(written, LabelMap(grid=grid, labels=labels, organs=label_map.organs), series)


@pytest.mark.parametrize("holes", Holes)
def test_holes_are_written_as_the_profile_says_and_proven(
    holes: Holes, series: CtSeries, label_map: LabelMap
) -> None:
    profile = replace(GENERIC, name=holes, holes=holes)
    written = _reread(write_rtstruct(trace(label_map, profile.tracing), series, PROVENANCE, profile))
    kinds = [
        {item.ContourGeometricType for item in roi.ContourSequence} for roi in written.ROIContourSequence
    ]
    solid, hollow = {"CLOSED_PLANAR"}, {"CLOSEDPLANAR_XOR" if holes is Holes.XOR else "CLOSED_PLANAR"}
    assert kinds == [hollow, solid, solid, solid, hollow], "all contours of an ROI are of one type"
    prove(written, label_map, series, profile=profile)
    on_slice_4 = [
        item
        for item in written.ROIContourSequence[0].ContourSequence
        if item.ContourImageSequence[0].ReferencedSOPInstanceUID == series.slices[4].sop_instance_uid
    ]
    assert len(on_slice_4) == (2 if holes is Holes.KEYHOLE else 3)
    del written.ROIContourSequence[0].ContourSequence[1]
    with pytest.raises(ProofFailed, match="A_Aorta"):
        prove(written, label_map, series, profile=profile)


def test_holes_traced_otherwise_than_the_profile_wants_are_refused(
    series: CtSeries, label_map: LabelMap
) -> None:
    with pytest.raises(ObjectInvalid, match="holes"):
        write_rtstruct(trace(label_map), series, PROVENANCE, replace(GENERIC, holes=Holes.XOR))


def test_each_profile_is_an_object_of_its_own(series: CtSeries, label_map: LabelMap) -> None:
    written = [write_rtstruct(trace(label_map), series, PROVENANCE, profile) for profile in PROFILES.values()]
    assert len({dataset.SOPInstanceUID for dataset in written}) == len(PROFILES)
    assert written[0].SOPInstanceUID == write_rtstruct(trace(label_map), series, PROVENANCE).SOPInstanceUID


def test_names_and_types_are_those_the_profile_takes(series: CtSeries, label_map: LabelMap) -> None:
    organs = dict(label_map.organs)
    organs[3] = replace(organs[3], name="Leber (gesamt) von Hand", interpreted_type="OAR")
    organs[6] = replace(organs[6], key="a", name="LEBER_gesamt_von")  # not found, and still has its name
    renamed = replace(label_map, organs=organs)
    profile = PROFILES["eclipse"]
    written = write_rtstruct(trace(renamed), series, PROVENANCE, profile)
    assert written.StructureSetROISequence[2].ROIName == "Leber_gesamt_v_2"
    assert written.RTROIObservationsSequence[2].ROIObservationLabel == "Leber_gesamt_v_2"
    assert written.RTROIObservationsSequence[2].RTROIInterpretedType == "ORGAN"
    prove(written, renamed, series, profile=profile)
    assert validate(written, profile) == ()
    with pytest.raises(ProofFailed):
        prove(written, renamed, series)


def test_organs_that_were_not_found_are_listed_where_the_profile_keeps_them(
    series: CtSeries, label_map: LabelMap
) -> None:
    profile = replace(GENERIC, name="keeps", empty_rois=EmptyRois.KEEP)
    written = write_rtstruct(trace(label_map), series, PROVENANCE, profile)
    assert written.StructureSetROISequence[5].ROIName == "Spleen"
    assert "ContourSequence" not in written.ROIContourSequence[5]
    prove(written, label_map, series, profile=profile)
    with pytest.raises(ProofFailed, match="Spleen"):
        prove(written, label_map, series)


def test_rois_refer_to_their_segments(series: CtSeries, label_map: LabelMap) -> None:
    seg = write_seg(label_map, series, PROVENANCE)
    written = _reread(write_rtstruct(trace(label_map, order=["liver"]), series, PROVENANCE, GENERIC, seg))
    assert written.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == seg.SOPInstanceUID
    labels = {segment.SegmentNumber: segment.SegmentLabel for segment in seg.SegmentSequence}
    for roi in written.StructureSetROISequence:
        (source,) = roi.DefinitionSourceSequence
        assert source.ReferencedSOPClassUID == seg.SOPClassUID
        assert source.ReferencedSOPInstanceUID == seg.SOPInstanceUID
        assert labels[source.ReferencedSegmentNumber] == roi.ROIName
    assert validate(written, GENERIC) == ()


def _region(organ_table: OrganTable, label_map: LabelMap) -> Region:
    mask = np.zeros(label_map.grid.shape, dtype=bool)
    mask[1:7, 2:30, 5:38] = True
    box = Box.around(mask)
    organ = replace(organ_table["brain"], key="ring", name="zRing", interpreted_type="CONTROL")
    return Region(organ=organ, box=box, mask=mask[box.slices], derivation="A_Aorta + 5 mm, 1 cm höher")


def test_regions_are_written_and_proven_beside_the_organs(
    series: CtSeries, label_map: LabelMap, organ_table: OrganTable
) -> None:
    region = _region(organ_table, label_map)
    seg = write_seg(label_map, series, PROVENANCE)
    written = write_rtstruct(trace(label_map, regions=[region]), series, PROVENANCE, GENERIC, seg)
    roi = _reread(written).StructureSetROISequence[-1]
    assert (roi.ROIName, roi.ROIDescription) == ("zRing", "A_Aorta + 5 mm, 1 cm hoher")
    assert "DefinitionSourceSequence" not in roi
    assert written.RTROIObservationsSequence[-1].RTROIInterpretedType == "CONTROL"
    prove(written, label_map, series, [region])
    assert validate(written, GENERIC) == ()
    wrong = region.mask.copy()
    wrong[0, 0, 0] = False
    for regions in ([], [replace(region, mask=wrong)]):
        with pytest.raises(ProofFailed, match=r"differs in: zRing\.$"):
            prove(written, label_map, series, regions)


def test_slices_of_one_file_are_referenced_by_their_frames(series: CtSeries, label_map: LabelMap) -> None:
    slices = tuple(
        replace(ct_slice, frame=8 - k, sop_instance_uid="2.25.7", sop_class_uid=str(EnhancedCTImageStorage))
        for k, ct_slice in enumerate(series.slices)
    )
    multiframe = replace(series, slices=slices)
    written = _reread(write_rtstruct(trace(label_map), multiframe, PROVENANCE))
    study = written.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    (image,) = study.RTReferencedSeriesSequence[0].ContourImageSequence
    assert list(image.ReferencedFrameNumber) == [8, 7, 6, 5, 4, 3, 2, 1]
    lone = written.ROIContourSequence[1].ContourSequence[0].ContourImageSequence[0]
    assert (lone.ReferencedSOPInstanceUID, lone.ReferencedFrameNumber) == ("2.25.7", 4)
    prove(written, label_map, multiframe)
    assert validate(written, GENERIC) == ()
    lone.ReferencedFrameNumber = 5
    with pytest.raises(ProofFailed, match="Eye_L"):
        prove(written, label_map, multiframe)
    lone.ReferencedFrameNumber = 9
    assert validate(written, GENERIC) == ("ROI 2: contour 1 does not refer to one image that is listed",)


@pytest.mark.parametrize(
    "options",
    [
        replace(SMALL, shear=float(np.tan(np.deg2rad(18.5)))),
        replace(SMALL, positions_mm=(0, 3, 6, 9, 15, 18, 21, 24)),
        replace(SMALL, positions_mm=(0, 1.5, 3, 4.5, 7, 9.5, 12, 14.5), pixel_spacing_mm=(4.0, 3.0)),
    ],
)
@pytest.mark.parametrize("holes", Holes)
def test_irregular_slices_are_contoured_each_at_its_own_place(
    options: PhantomOptions, holes: Holes, tmp_path: Path, organ_table: OrganTable
) -> None:
    series = series_of(tmp_path, options)
    assert not series.is_regular
    label_map = awkward_label_map(series.geometry, organ_table)
    profile = replace(GENERIC, holes=holes)
    written = write_rtstruct(trace(label_map, profile.tracing), series, PROVENANCE, profile)
    prove(written, label_map, series, profile=profile)
    assert validate(written, profile) == ()
    lone = _reread(written).ROIContourSequence[1].ContourSequence[0]
    centre = np.reshape(lone.ContourData, (-1, 3)).astype(float).mean(axis=0)
    ct_slice = series.slices[4]
    row, column = np.reshape(ct_slice.orientation, (2, 3))
    height, width = series.pixel_spacing_mm
    place = np.asarray(ct_slice.position_mm) + 30 * width * row + 30 * height * column
    np.testing.assert_allclose(centre, place, atol=0.01)
    with pytest.raises(ProofFailed, match="voxels of the CT"):
        prove(written, replace(label_map, grid=replace(series.grid, shape=label_map.grid.shape)), series)


def test_a_slice_turned_against_the_others_keeps_its_own_orientation(
    series: CtSeries, label_map: LabelMap
) -> None:
    slices = list(series.slices)
    turned = (0.8, 0.6, 0.0, -0.6, 0.8, 0.0)
    slices[4] = replace(slices[4], orientation=turned)
    orientations = np.array(series.stack.orientations)
    orientations[4] = np.reshape(turned, (2, 3))
    stack = replace(series.stack, orientations=orientations)
    odd = replace(series, slices=tuple(slices), stack=stack, is_regular=False)
    there = replace(label_map, grid=stack)
    written = write_rtstruct(trace(there), odd, PROVENANCE)
    prove(written, there, odd)
    with pytest.raises(ProofFailed, match="Liver"):
        prove(written, label_map, series)
