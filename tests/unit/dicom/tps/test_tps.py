"""A structure set that a planning system may misread is found out before it is sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import ExplicitVRLittleEndian

from orgseg_node.core.contours import MAX_POINTS, Holes, Tracing, trace
from orgseg_node.core.organs import Organ, OrganTable
from orgseg_node.dicom.objects.rtstruct import write_rtstruct
from orgseg_node.dicom.tps.tps import (
    GENERIC,
    PROFILES,
    EmptyRois,
    TpsProfile,
    names_for,
    require_valid,
    validate,
)
from orgseg_node.errors import ObjectInvalid
from tests.support.ct.objects import PROVENANCE, awkward_label_map, series_of
from tests.support.ct.phantom import PhantomOptions

SMALL = PhantomOptions(slices=8, rows=40, columns=40)
ECLIPSE = PROFILES["eclipse"]
Write = Callable[[TpsProfile], FileDataset]


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory, organ_table: OrganTable) -> Write:
    series = series_of(tmp_path_factory.mktemp("ct"), SMALL)
    label_map = awkward_label_map(series.geometry, organ_table)
    return lambda profile: write_rtstruct(trace(label_map, profile.tracing), series, PROVENANCE, profile)


def _organs(table: OrganTable, *names: str) -> list[Organ]:
    return [replace(table["liver"], key=f"organ_{n}", name=name) for n, name in enumerate(names)]


def _names(table: OrganTable, profile: TpsProfile, *names: str) -> list[str]:
    return list(names_for(_organs(table, *names), profile).values())


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_names_of_the_organ_table_are_taken_as_they_are(profile: TpsProfile, organ_table: OrganTable) -> None:
    names = names_for(organ_table.values(), profile)
    assert names == {key: organ.name for key, organ in organ_table.items()}


@pytest.mark.parametrize(
    ("name", "eclipse", "generic"),
    [
        ("Parotis links", "Parotis_links", "Parotis links"),
        ("Hüftkopf (re)", "Huftkopf_re", "Huftkopf (re)"),
        ("SpinalCord_PRV05", "SpinalCord_PRV05", "SpinalCord_PRV05"),
        ("A_Carotid_Internal_L", "A_Carotid_Inte_L", "A_Carotid_Internal_L"),
        ("OpticNerve_Right_PRV03", "OpticNerve_PRV03", "OpticNerve_Right_PRV03"),
        ("Brain~", "Brain~", "Brain~"),
        ("A\\B", "A_B", "A/B"),
        ("脊髄", "ROI", "??"),
        ("  ", "ROI", "ROI"),
        ("x" * 70, "x" * 16, "x" * 64),
    ],
)
def test_names_are_made_acceptable(name: str, eclipse: str, generic: str, organ_table: OrganTable) -> None:
    assert _names(organ_table, ECLIPSE, name) == [eclipse]
    assert _names(organ_table, GENERIC, name) == [generic]


def test_names_stay_different_whatever_their_case_and_length(organ_table: OrganTable) -> None:
    names = _names(
        organ_table, ECLIPSE, "Heart", "HEART", "heart", "Ventricle_Left_Front_L", "Ventricle_Left_L"
    )
    assert names == ["Heart", "HEART_2", "heart_3", "Ventricle_Left_L", "Ventricle_Le_L_2"]
    assert len({name.casefold() for name in names}) == 5
    assert max(map(len, names)) <= 16
    careless = replace(GENERIC, unique_without_case=False)
    assert _names(organ_table, careless, "Heart", "HEART", "Heart") == ["Heart", "HEART", "Heart_2"]


def test_two_structures_of_one_key_are_refused(organ_table: OrganTable) -> None:
    with pytest.raises(ObjectInvalid, match="key liver"):
        names_for([organ_table["liver"], organ_table["liver"]], GENERIC)


def test_profiles_are_cautious_and_differ_from_generic_only_as_documented() -> None:
    assert list(PROFILES) == ["generic", "eclipse", "raystation", "monaco", "pinnacle"]
    for name, profile in PROFILES.items():
        assert profile.name == name
        assert profile.tracing == Tracing(holes=Holes.KEYHOLE, max_points=MAX_POINTS)
        assert profile.implicit_vr
        assert (profile.max_ds, profile.max_contour_bytes, profile.min_points) == (16, 60_000, 3)
        assert profile.max_name == (64 if name == "generic" else 16)
        assert not profile.source_series | profile.roi_creator
        assert profile.empty_rois is EmptyRois.OMIT


@pytest.mark.parametrize(
    ("wanted", "eclipse", "generic"),
    [("ORGAN", "ORGAN", "ORGAN"), ("OAR", "ORGAN", "OAR"), ("PTV", "PTV", "PTV"), ("", "", ""),
     ("RING", "CONTROL", "CONTROL")],
)  # fmt: skip
def test_types_that_are_not_taken_are_replaced(wanted: str, eclipse: str, generic: str) -> None:
    assert ECLIPSE.interpreted_type(wanted) == eclipse
    assert GENERIC.interpreted_type(wanted) == generic


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
@pytest.mark.parametrize("holes", Holes)
def test_what_is_written_is_valid_in_memory_and_on_disk(
    profile: TpsProfile, holes: Holes, write: Write
) -> None:
    profile = replace(profile, holes=holes)
    written = write(profile)
    assert validate(written, profile) == ()
    buffer = BytesIO()
    written.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    reread = dcmread(buffer)
    assert validate(reread, profile) == ()
    require_valid(reread, profile)


def test_all_switches_together_are_valid(write: Write) -> None:
    profile = replace(
        GENERIC,
        name="all",
        source_series=True,
        roi_creator=True,
        empty_rois=EmptyRois.KEEP,
        implicit_vr=False,
    )
    written = write(profile)
    assert validate(written, profile) == ()
    assert written.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert [roi.ROIName for roi in written.StructureSetROISequence][-1] == "Spleen"
    assert "ContourSequence" not in written.ROIContourSequence[-1]
    assert "ROI 6 has no contours" in validate(written, replace(profile, empty_rois=EmptyRois.OMIT))


def _roi(dataset: Dataset, number: int = 1) -> Dataset:
    return dataset.StructureSetROISequence[number - 1]


def _contour(dataset: Dataset) -> Dataset:
    return dataset.ROIContourSequence[2].ContourSequence[0]


def _put(**values: Any) -> Callable[[Dataset], None]:
    def damage(dataset: Dataset) -> None:
        for keyword, value in values.items():
            if keyword in dataset:
                dataset[keyword]._value = value  # past pydicom's own check
            else:
                setattr(dataset, keyword, value)

    return damage


def _in_roi(**values: Any) -> Callable[[Dataset], None]:
    return lambda dataset: _put(**values)(_roi(dataset))


def _in_contour(**values: Any) -> Callable[[Dataset], None]:
    return lambda dataset: _put(**values)(_contour(dataset))


def _in_observation(**values: Any) -> Callable[[Dataset], None]:
    def damage(dataset: Dataset) -> None:
        for item in dataset.RTROIObservationsSequence:
            _put(**values)(item)

    return damage


def _text(change: Callable[[list[str]], list[str]]) -> Callable[[Dataset], None]:
    """Change the numbers of a contour, and keep the number of points right."""

    def damage(dataset: Dataset) -> None:
        contour = _contour(dataset)
        words = change(contour.ContourData.split("\\"))
        contour["ContourData"]._value = "\\".join(words)
        contour.NumberOfContourPoints = len(words) // 3

    return damage


def _lift(words: list[str]) -> list[str]:
    return [*words[:2], f"{float(words[2]) + 0.02:.3f}", *words[3:]]


def _drop(sequence: str) -> Callable[[Dataset], None]:
    def damage(dataset: Dataset) -> None:
        del dataset[sequence].value[1]

    return damage


def _other_image(dataset: Dataset) -> None:
    _contour(dataset).ContourImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def _mixed(dataset: Dataset) -> None:
    dataset.ROIContourSequence[0].ContourSequence[0].ContourGeometricType = "CLOSEDPLANAR_XOR"


def _other_study(dataset: Dataset) -> None:
    dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[
        0
    ].ReferencedSOPInstanceUID = "1.2"


def _other_syntax(dataset: Any) -> None:
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def _other_color(dataset: Dataset) -> None:
    dataset.ROIContourSequence[0].ROIDisplayColor = [1, 2, 300]


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (_put(SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4"), "the object is not an RT Structure Set"),
        (_put(StructureSetLabel=None), "StructureSetLabel is empty (type 1)"),
        (_put(ApprovalStatus="APPROVED"), "ApprovalStatus is not UNAPPROVED"),
        (_put(ReviewerName="A^B"), "ReviewerName is set although no person has reviewed the object"),
        (_other_syntax, "the transfer syntax is not implicit VR"),
        (_in_roi(ROIName=""), "ROI 1 has no name"),
        (_in_roi(ROIName="x" * 17), "the name of ROI 1 has 17 characters, more than 16"),
        (_in_roi(ROIName="Aorta links"), "the name of ROI 1 contains characters that eclipse may not accept"),
        (_in_roi(ROIName="EYE_l"), "2 ROIs have the name eye_l"),
        (_in_roi(ROINumber=2), "two ROIs have the same number"),
        (_in_roi(ROINumber=77), "ROIContourSequence refers to ROI 1, which does not exist"),
        (_in_roi(ReferencedFrameOfReferenceUID="1.2"), "ROI 1 is in a frame of reference that is not"),
        (_put(FrameOfReferenceUID="1.2"), "the referenced frames of reference are not the one"),
        (_in_roi(ROIGenerationDescription="y" * 65), "[1].ROIGenerationDescription has 65 characters, more"),
        (_in_observation(ROIObservationLabel="z" * 17), "[1].ROIObservationLabel has 17 characters"),
        (_in_observation(RTROIInterpretedType="OAR"), "eclipse may not accept the type OAR of ROI 1"),
        (_in_observation(RTROIInterpretedType="EXTERNAL"), "more than one ROI is the outline of the patient"),
        (_in_observation(ObservationNumber=1), "two observations have the same number"),
        (_in_observation(ReferencedROINumber=1), "RTROIObservationsSequence refers twice to one ROI"),
        (_drop("RTROIObservationsSequence"), "RTROIObservationsSequence has no item for ROI 2"),
        (_drop("ROIContourSequence"), "ROIContourSequence has no item for ROI 2"),
        (_drop("StructureSetROISequence"), "ROIContourSequence refers to ROI 2, which does not exist"),
        (_in_roi(ROICreatorSequence=[Dataset()]), "ROICreatorSequence is present, which eclipse excludes"),
        (_in_roi(DefinitionSourceSequence=[Dataset()]), "DefinitionSourceSequence is present, which eclipse"),
        (_other_study, "the object refers to images of another study than its own"),
        (_other_color, "the colour of ROI 1 is not three numbers up to 255"),
        (_other_image, "ROI 3: contour 1 does not refer to one image that is listed"),
        (_in_contour(ContourImageSequence=[]), "ROI 3: contour 1 does not refer to one image that is listed"),
        (_in_contour(ContourGeometricType="OPEN_PLANAR"), "ROI 3: contours of a type that eclipse may"),
        (_mixed, "ROI 1: CLOSEDPLANAR_XOR contours together with contours of another type"),
        (_in_contour(NumberOfContourPoints=4), "ROI 3: contour 1: NumberOfContourPoints is wrong"),
        (_text(lambda words: words[:6]), "ROI 3: contour 1 has 2 points, not 3 to 1700"),
        (_text(lambda words: words * 200), "points, not 3 to 1700"),
        (_text(lambda words: words * 200), "bytes, more than 60000"),
        (_text(lambda words: words[:3] * 5), "ROI 3: contour 1 encloses nothing"),
        (_text(_lift), "ROI 3: contour 1 is not planar"),
        (_text(lambda words: ["1.234567890123456", *words[1:]]), "has a number of 17 characters"),
        (_text(lambda words: [*words, "x", "1", "1"]), "ROI 3: contour 1: Contour Data contains"),
        (_text(lambda words: [*words, "1"]), "ROI 3: contour 1: Contour Data does not contain x, y and z"),
    ],
)  # fmt: skip
def test_each_broken_rule_is_found(damage: Callable[[Dataset], None], problem: str, write: Write) -> None:
    dataset = write(ECLIPSE)
    damage(dataset)
    found = validate(dataset, ECLIPSE)
    assert any(problem in text for text in found), found
    with pytest.raises(ObjectInvalid, match="RTSTRUCT for eclipse"):
        require_valid(dataset, ECLIPSE)


def test_the_sentence_names_the_first_problems_and_counts_the_others(write: Write) -> None:
    dataset = write(ECLIPSE)
    for roi in dataset.StructureSetROISequence:
        roi.ROIName = ""
        _put(ROIGenerationAlgorithm="GUESSED" * 4)(roi)
    _put(PatientName="Very^Secret" * 20)(dataset)
    with pytest.raises(ObjectInvalid, match=r"; and \d+ more\.$") as caught:
        require_valid(dataset, ECLIPSE)
    assert "Secret" not in str(caught.value)


def test_what_the_ct_says_of_the_patient_is_not_judged(write: Write) -> None:
    dataset = write(ECLIPSE)
    _put(StudyDescription="long " * 30)(dataset)
    assert validate(dataset, ECLIPSE) == ()
