"""What is a usable CT series, and the coded reason where there is none."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEGBaseline8Bit,
    MRImageStorage,
    RLELossless,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
)

from orgseg_node.core.checks import Level
from orgseg_node.dicom.reading.series import (
    Inventory,
    Reason,
    choose,
    files_in,
    read_series,
    source_header,
    survey,
)
from orgseg_node.errors import (
    DuplicateSlices,
    HuOutOfRange,
    InputError,
    InvalidAttribute,
    IrregularSpacing,
    LossyCompression,
    MissingAttribute,
    MixedGeometry,
    MultiframeImage,
    NoPixelData,
    NoSeries,
    NotAxial,
    NotDicom,
    NotImages,
    SeveralPatients,
    SeveralSeries,
    SidewaysDrift,
    TiltedGantry,
    TooFewSlices,
    TruncatedFile,
    UnsupportedPixels,
    UnsupportedSyntax,
    WrongModality,
)
from tests.support.ct.phantom import (
    AXIAL,
    CORONAL,
    FEET_FIRST,
    PRONE,
    SAGITTAL,
    PhantomOptions,
    build_ct_series,
    ct_datasets,
    grid_of,
    save,
    uid,
)


def small(**settings: object) -> PhantomOptions:
    """A series of a few kilobytes."""
    given = {"slices": 6, "rows": 16, "columns": 16, "pixel_spacing_mm": (16.0, 16.0)} | settings
    return PhantomOptions(**given)  # type: ignore[arg-type]  # the test's own keywords


def on_slice(n: int, **attributes: object) -> Callable[[int, Dataset], object]:
    """A change of one slice's attributes; None deletes."""

    def change(k: int, dataset: Dataset) -> object:
        if k == n:
            for keyword, value in attributes.items():
                if value is None:
                    delattr(dataset, keyword)
                else:
                    setattr(dataset, keyword, value)
        return None

    return change


def rewritten(path: Path, **meta: str) -> None:
    """Give a file another file meta header."""
    dataset = dcmread(path)
    for keyword, value in meta.items():
        setattr(dataset.file_meta, keyword, value)
    dataset.save_as(path, enforce_file_format=False)


def refusal(folder: Path) -> InputError:
    """The error with which a folder is refused; the survey and the reading must agree."""
    with pytest.raises(InputError) as caught:
        read_series(folder)
    return caught.value


def accounted(inventory: Inventory) -> int:
    """Number of files an inventory names."""
    return (
        len({image.path for one in inventory.accepted for image in one.slices})
        + sum(one.files for one in inventory.refused)
        + len(inventory.aside)
    )


# what is accepted


def test_a_clean_series_is_accepted_with_its_identity_and_geometry(ct_folder: Path) -> None:
    series = read_series(ct_folder)
    options = PhantomOptions()
    assert len(series.slices) == 24
    assert series.study_instance_uid == uid("study")
    assert series.series_instance_uid == uid("study", "series")
    assert series.frame_of_reference_uid == uid("study", "frame")
    assert (series.rows, series.columns, series.pixel_spacing_mm) == (64, 64, (4.0, 4.0))
    assert series.patient_position == "HFS"
    assert series.grid == grid_of(options)
    assert series.findings == ()
    assert series.header.PatientName == "Phantom^Ellipse"
    assert "PixelData" not in series.header


def test_position_strings_are_verbatim(tmp_path: Path) -> None:
    build_ct_series(tmp_path, small(centre_mm=(0.123456789, -7.5, 1000.25)))
    for one in read_series(tmp_path).slices:
        written = dcmread(one.path).ImagePositionPatient
        assert one.position_ds == tuple(v.original_string for v in written)
        assert one.position_mm == tuple(float(v) for v in written)


def test_order_comes_from_positions_not_from_names_or_instance_numbers(tmp_path: Path) -> None:
    shuffle = random.Random(5).sample(range(6), 6)

    def change(k: int, dataset: Dataset) -> None:
        dataset.InstanceNumber = 6 - k

    paths = build_ct_series(tmp_path / "a", small(), change)
    (tmp_path / "b").mkdir()
    for k, path in zip(shuffle, paths, strict=True):
        shutil.move(path, tmp_path / "b" / f"{k}.dcm")
    slices = read_series(tmp_path / "b").slices
    assert [s.sop_instance_uid for s in slices] == [uid("study", "series", "slice", k) for k in range(6)]


@pytest.mark.parametrize("orientation", [AXIAL, FEET_FIRST, PRONE, (0, 1, 0, -1, 0, 0)])
def test_every_patient_position_is_accepted_and_stacked_along_its_normal(
    tmp_path: Path, orientation: tuple[float, float, float, float, float, float]
) -> None:
    options = small(orientation=orientation, centre_mm=(10.0, 20.0, -300.0))
    build_ct_series(tmp_path, options)
    grid = read_series(tmp_path).grid
    assert np.allclose(grid.affine, grid_of(options).affine, atol=1e-6)


def test_an_oblique_series_is_accepted_and_reported_as_oblique(tmp_path: Path) -> None:
    c, s = np.cos(0.2), np.sin(0.2)
    options = small(orientation=(1, 0, 0, 0, c, s))
    build_ct_series(tmp_path, options)
    series = read_series(tmp_path)
    assert np.allclose(series.grid.affine, grid_of(options).affine, atol=1e-5)
    assert [f.code for f in series.findings] == ["SERIES_OBLIQUE"]


@pytest.mark.parametrize("jitter", [0.0, 0.02])
def test_rounded_positions_are_still_regular(tmp_path: Path, jitter: float) -> None:
    places = [k * 1.25 + jitter * (-1) ** k / 2 for k in range(6)]
    build_ct_series(tmp_path, small(positions_mm=places, slice_thickness_mm=2.5))
    assert read_series(tmp_path).grid.spacing_mm[0] == pytest.approx(1.25, abs=0.01)


def test_a_slightly_different_orientation_from_rounding_is_accepted(tmp_path: Path) -> None:
    build_ct_series(tmp_path, small(), on_slice(2, ImageOrientationPatient=[1, 0.00001, 0, 0, 1, 0]))
    assert len(read_series(tmp_path).slices) == 6


def test_a_file_without_patient_position_is_accepted(tmp_path: Path) -> None:
    build_ct_series(tmp_path, small(attributes={"PatientPosition": ""}))
    assert read_series(tmp_path).patient_position == ""


def test_big_endian_deflated_and_compressed_files_are_accepted(tmp_path: Path) -> None:
    for syntax in ("1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", RLELossless):
        folder = tmp_path / syntax
        build_ct_series(folder, small(transfer_syntax=syntax))
        assert {s.transfer_syntax_uid for s in read_series(folder).slices} == {syntax}


# identity that is missing


def test_empty_sop_uids_are_taken_from_the_file_meta_header(tmp_path: Path) -> None:
    for k, dataset in enumerate(ct_datasets(small())):
        dataset.SOPClassUID = ""
        dataset.SOPInstanceUID = ""
        dataset.preamble = b"\0" * 128
        dataset.save_as(tmp_path / f"{k}.dcm", enforce_file_format=False)
    series = read_series(tmp_path)
    assert series.slices[0].sop_instance_uid == uid("study", "series", "slice", 0)
    assert [f.code for f in series.findings] == ["SERIES_UID_FROM_FILE"]
    assert series.header.SOPClassUID == CTImageStorage


def test_missing_study_and_series_uids_get_the_same_stand_ins_every_time_and_a_warning(
    tmp_path: Path,
) -> None:
    build_ct_series(tmp_path, small(attributes={"StudyInstanceUID": "", "SeriesInstanceUID": ""}))
    first, second = read_series(tmp_path), read_series(tmp_path)
    assert first.series_instance_uid.startswith("2.25.")
    assert first.series_instance_uid == second.series_instance_uid != first.study_instance_uid
    assert [(f.code, f.level) for f in first.findings] == [("SERIES_UID_STAND_IN", Level.WARNING)]
    assert source_header(first, 3).SeriesInstanceUID == first.series_instance_uid
    assert source_header(first, 3).SOPInstanceUID == first.slices[3].sop_instance_uid


def test_missing_uids_and_frame_of_reference_are_refused(tmp_path: Path) -> None:
    build_ct_series(tmp_path, small(attributes={"SeriesInstanceUID": None, "FrameOfReferenceUID": None}))
    assert isinstance(refusal(tmp_path), MissingAttribute)


def test_a_series_without_uids_is_refused_under_no_name(tmp_path: Path) -> None:
    build_ct_series(tmp_path, small(slices=2, attributes={"SeriesInstanceUID": ""}))
    (only,) = survey(files_in(tmp_path)).refused
    assert (only.series_instance_uid, only.files) == (None, 2)


# attributes

_MISSING = [
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "FrameOfReferenceUID",
    "PixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
    "Rows",
    "Columns",
    "PixelRepresentation",
]


@pytest.mark.parametrize("keyword", _MISSING)
def test_geometry_and_hu_attributes_are_never_invented(tmp_path: Path, keyword: str) -> None:
    build_ct_series(tmp_path, small(), on_slice(2, **{keyword: None}))
    error = refusal(tmp_path)
    assert isinstance(error, MissingAttribute)
    assert error.detail


@pytest.mark.parametrize(
    "keyword", ["ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID", "RescaleSlope"]
)
def test_an_empty_attribute_is_a_missing_one(tmp_path: Path, keyword: str) -> None:
    build_ct_series(tmp_path, small(), on_slice(0, **{keyword: ""}))
    assert isinstance(refusal(tmp_path), MissingAttribute)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImageOrientationPatient", [1, 0, 0, 0, 2, 0]),
        ("ImageOrientationPatient", [1, 0, 0, 0.1, 1, 0]),
        ("ImageOrientationPatient", [1, 0, 0]),
        ("ImagePositionPatient", [1, 2]),
        ("PixelSpacing", [0, 0]),
        ("PixelSpacing", ["1e300", "1e300"]),
        ("ImagePositionPatient", [1, 2, "1e300"]),
        ("RescaleSlope", 0),
        ("RescaleSlope", -1),
        ("RescaleIntercept", [1, 2]),
    ],
)
def test_impossible_attributes_are_refused(tmp_path: Path, keyword: str, value: object) -> None:
    build_ct_series(tmp_path, small(), on_slice(1, **{keyword: value}))
    assert isinstance(refusal(tmp_path), InvalidAttribute)


@pytest.mark.parametrize(
    ("tag", "value"),
    [(0x00280030, ["wide", "high"]), (0x00280030, ["inf", "inf"]), (0x00280010, "many")],
)
def test_words_where_numbers_belong_are_refused(tmp_path: Path, tag: int, value: object) -> None:
    def change(k: int, dataset: Dataset) -> None:
        if k == 1:
            dataset[tag] = DataElement(tag, "LO", value)

    build_ct_series(tmp_path, small(), change)
    assert isinstance(refusal(tmp_path), InvalidAttribute)


@pytest.mark.parametrize(
    ("attributes", "error"),
    [
        ({"Modality": "MR"}, WrongModality),
        ({"PhotometricInterpretation": "MONOCHROME1"}, UnsupportedPixels),
        ({"SamplesPerPixel": 3}, UnsupportedPixels),
        ({"BitsAllocated": 32}, UnsupportedPixels),
        ({"HighBit": 11}, UnsupportedPixels),
        ({"BitsStored": 17}, UnsupportedPixels),
        ({"ModalityLUTSequence": Sequence([Dataset()])}, UnsupportedPixels),
        ({"RescaleType": "OD"}, HuOutOfRange),
        ({"RescaleIntercept": "1e300"}, HuOutOfRange),
        ({"RescaleSlope": "4e9"}, HuOutOfRange),
        ({"LossyImageCompression": "01"}, LossyCompression),
        ({"NumberOfFrames": 2}, MultiframeImage),
        ({"SOPClassUID": EnhancedCTImageStorage}, MissingAttribute),  # no functional groups
        ({"PixelData": None}, NoPixelData),
    ],
)
def test_what_is_not_a_plain_lossless_ct_slice_refuses_its_series(
    tmp_path: Path, attributes: dict[str, object], error: type[InputError]
) -> None:
    build_ct_series(tmp_path, small(), on_slice(5, **attributes))
    assert type(refusal(tmp_path)) is error
    (only,) = survey(files_in(tmp_path)).refused
    assert (only.series_instance_uid, only.files) == (uid("study", "series"), 6)


def test_lossy_flag_00_is_lossless(tmp_path: Path) -> None:
    build_ct_series(tmp_path, small(attributes={"LossyImageCompression": "00"}))
    assert read_series(tmp_path)


@pytest.mark.parametrize(
    ("syntax", "error"), [(JPEGBaseline8Bit, LossyCompression), (HTJ2KLossless, UnsupportedSyntax)]
)
def test_lossy_and_unknown_syntaxes_are_refused(tmp_path: Path, syntax: str, error: type[InputError]) -> None:
    paths = build_ct_series(tmp_path, small(transfer_syntax=RLELossless))
    rewritten(paths[3], TransferSyntaxUID=syntax)
    assert type(refusal(tmp_path)) is error


# geometry


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"slices": 2}, TooFewSlices),
        ({"slices": 1}, TooFewSlices),
        ({"positions_mm": [0, 3, 3, 6, 9]}, DuplicateSlices),
        ({"positions_mm": [0, 0, 3, 3, 6, 6]}, DuplicateSlices),
        ({"positions_mm": [0, 0, 0]}, DuplicateSlices),
        ({"positions_mm": [0, 3, 6, 27, 30, 33]}, IrregularSpacing),
        ({"shear": 0.8}, TiltedGantry),
        ({"orientation": CORONAL}, NotAxial),
        ({"orientation": SAGITTAL}, NotAxial),
    ],
)
def test_what_cannot_be_read_safely_is_refused_with_its_own_reason(
    tmp_path: Path, settings: dict[str, object], error: type[InputError]
) -> None:
    # noise, so that slices at one position are not equal images
    build_ct_series(tmp_path, small(**settings, noise_hu=5.0))
    assert type(refusal(tmp_path)) is error


@pytest.mark.parametrize(
    ("settings", "code", "value"),
    [
        ({"positions_mm": [0, 3, 6, 12, 15]}, "SERIES_MISSING_SLICES", 1),
        ({"positions_mm": [0, 3, 9]}, "SERIES_MISSING_SLICES", 1),
        ({"positions_mm": [0, 3, 6, 21, 24, 27]}, "SERIES_MISSING_SLICES", 4),
        ({"positions_mm": [0, 3, 6, 9, 13.5]}, "SERIES_SPACING_CHANGES", 4.5),
        ({"positions_mm": [0, 3, 6, 9, 10]}, "SERIES_SPACING_CHANGES", 3),
        ({"positions_mm": [0, 2.5, 5, 10, 15, 20]}, "SERIES_SPACING_CHANGES", 5),
        ({"positions_mm": [0, 2.5, 5, 7.5, 10, 15, 20, 25]}, "SERIES_SPACING_CHANGES", 5),
        ({"positions_mm": [0, 1, 2, 3, 4.15, 5.3, 6.45]}, "SERIES_SPACING_CHANGES", 1.15),
        ({"positions_mm": [0, 3.2, 6, 9.2, 12]}, "SERIES_POSITION_JITTER", 0.2),
        ({"positions_mm": np.cumsum(np.linspace(2.96, 3.04, 40)).tolist()}, "SERIES_POSITION_JITTER", 0.39),
        ({"shear": 0.05}, "SERIES_GANTRY_TILT", 2.86),
        ({"shear": -0.4}, "SERIES_GANTRY_TILT", 21.8),
        ({"slices": 60, "shear": 0.002}, "SERIES_POSITION_JITTER", 0.35),
    ],
)
def test_slices_that_lie_unevenly_keep_their_places_and_say_so(
    tmp_path: Path, settings: dict[str, object], code: str, value: float
) -> None:
    options = small(**settings, centre_mm=(7.0, -3.0, 100.0))
    build_ct_series(tmp_path, options)
    series = read_series(tmp_path)
    (finding,) = series.findings
    assert (finding.code, finding.level) == (code, Level.WARNING)
    assert finding.value == pytest.approx(value, abs=0.03)
    assert not series.is_regular
    assert series.geometry is series.stack
    for k, one in enumerate(series.slices):
        assert np.allclose(series.stack.to_lps([(k, 0, 0)])[0], one.position_mm, atol=1e-9)
    assert series.grid.shape[0] >= len(series.slices) - 1


@pytest.mark.parametrize(("distance_mm", "warned"), [(3.0, False), (3.9, False), (6.0, True)])
def test_slices_much_thinner_than_their_distance_say_that_others_may_be_missing(
    tmp_path: Path, distance_mm: float, *, warned: bool
) -> None:
    build_ct_series(tmp_path, small(slice_spacing_mm=distance_mm, slice_thickness_mm=3.0))
    series = read_series(tmp_path)
    assert series.is_regular
    assert [finding.code for finding in series.findings] == ["SERIES_SLICES_LEAVE_GAPS"] * warned


def test_pixels_that_are_not_square_are_regular(tmp_path: Path) -> None:
    build_ct_series(tmp_path, small(pixel_spacing_mm=(16.0, 12.0)))
    series = read_series(tmp_path)
    assert series.is_regular
    assert series.geometry is series.grid
    assert series.grid.spacing_mm == (3.0, 16.0, 12.0)
    assert series.findings == ()


def test_a_sideways_shift_that_is_no_tilt_is_refused(tmp_path: Path) -> None:
    def change(k: int, dataset: Dataset) -> None:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x + 0.3 * (k - 3) ** 2, y, z]

    build_ct_series(tmp_path, small(slices=8), change)
    assert type(refusal(tmp_path)) is SidewaysDrift


def test_slices_shifted_sideways_by_less_than_half_a_pixel_keep_their_places(tmp_path: Path) -> None:
    def change(k: int, dataset: Dataset) -> None:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x + 0.2 * (-1) ** k, y, z]

    build_ct_series(tmp_path, small(), change)
    series = read_series(tmp_path)
    assert [f.code for f in series.findings] == ["SERIES_POSITION_JITTER"]
    assert np.ptp(series.stack.positions_mm[:, 0]) == pytest.approx(0.4)


def test_the_number_of_missing_slices_is_reported(tmp_path: Path) -> None:
    build_ct_series(tmp_path, small(slices=9), lambda k, _: k not in {3, 5, 6})
    series = read_series(tmp_path)
    (finding,) = series.findings
    assert finding.value == 3
    first, last = (float(series.stack.positions_mm[k][2]) for k in (3, 4))
    assert last - first == 9.0
    assert "missing, 3 in all; the widest of these gaps (2) has 9.0 mm" in finding.message
    assert f"from position {first:.1f} to {last:.1f} mm" in finding.message


@pytest.mark.parametrize(
    ("attributes", "difference"),
    [
        ({"FrameOfReferenceUID": "1.2.3"}, "frame of reference"),
        ({"ImageOrientationPatient": [1, 0.001, 0, -0.001, 1, 0]}, "orientation"),
        ({"PixelSpacing": [15.9, 15.9]}, "pixel spacing"),
        ({"PatientPosition": "FFS"}, "patient position"),
        ({"Rows": 8}, "size"),
    ],
)
@pytest.mark.parametrize("k", [0, 4, 5])
def test_one_slice_of_other_geometry_in_its_row_refuses_the_series(
    tmp_path: Path, attributes: dict[str, object], difference: str, k: int
) -> None:
    build_ct_series(tmp_path, small(), on_slice(k, **attributes))
    error = refusal(tmp_path)
    assert type(error) is MixedGeometry
    assert difference in error.detail


def test_slices_of_two_studies_under_one_series_uid_are_refused(tmp_path: Path) -> None:
    build_ct_series(tmp_path, small(), on_slice(1, StudyInstanceUID="1.2.3"))
    assert type(refusal(tmp_path)) is InvalidAttribute


def test_two_slices_with_one_sop_uid_are_refused(tmp_path: Path) -> None:
    build_ct_series(tmp_path, small(), on_slice(1, SOPInstanceUID=uid("study", "series", "slice", 0)))
    assert type(refusal(tmp_path)) is DuplicateSlices


def test_a_tilt_tag_without_tilted_positions_is_a_warning(tmp_path: Path) -> None:
    build_ct_series(tmp_path, small(attributes={"GantryDetectorTilt": "15"}))
    (finding,) = read_series(tmp_path).findings
    assert (finding.code, finding.level, finding.value) == ("SERIES_TILT_TAG", Level.WARNING, 15.0)


def test_a_padding_value_among_tissue_is_a_warning(tmp_path: Path) -> None:
    build_ct_series(tmp_path, small(padding=1024))
    assert [f.code for f in read_series(tmp_path).findings] == ["SERIES_PADDING_IN_TISSUE"]


# more than one thing in a folder


def test_two_series_need_a_choice(tmp_path: Path) -> None:
    build_ct_series(tmp_path / "a", small())
    build_ct_series(tmp_path / "b", small(series="other", slices=7))
    assert type(refusal(tmp_path)) is SeveralSeries
    assert len(read_series(tmp_path, uid("study", "other")).slices) == 7
    assert len(read_series(tmp_path, uid("study", "other")[-12:]).slices) == 7  # a part that only one has
    for wrong in ("1.2.3", "2.25.", ""):
        with pytest.raises(NoSeries, match="requested UID"):
            read_series(tmp_path, wrong)
    with pytest.raises(SeveralSeries, match="2"):
        read_series(tmp_path, part="")
    assert [len(s.slices) for s in survey(files_in(tmp_path)).accepted] == [7, 6]


def test_a_refused_series_does_not_hide_the_good_one_beside_it(tmp_path: Path) -> None:
    build_ct_series(tmp_path / "a", small())
    build_ct_series(tmp_path / "b", small(series="bolus", positions_mm=[0, 0, 0], noise_hu=5.0))
    assert len(read_series(tmp_path).slices) == 6
    with pytest.raises(DuplicateSlices):
        read_series(tmp_path, uid("study", "bolus"))


def test_two_patients_in_one_folder_stop_everything(tmp_path: Path) -> None:
    build_ct_series(tmp_path / "a", small())
    build_ct_series(tmp_path / "b", small(study="second", patient_id="PHANTOM-2"))
    assert type(refusal(tmp_path)) is SeveralPatients
    with pytest.raises(SeveralPatients):
        read_series(tmp_path, uid("study", "series"))
    inventory = survey(files_in(tmp_path))
    assert (len(inventory.accepted), inventory.patients) == (2, 2)


def test_two_patients_in_one_series_stop_everything(tmp_path: Path) -> None:
    build_ct_series(tmp_path, small(), on_slice(5, PatientID="PHANTOM-2"))
    assert type(refusal(tmp_path)) is SeveralPatients
    (only,) = survey(files_in(tmp_path)).refused
    assert type(only.error) is SeveralPatients


def test_localizers_captures_and_other_objects_are_set_aside(tmp_path: Path) -> None:
    build_ct_series(tmp_path, small())
    others: list[tuple[str, dict[str, object]]] = [
        ("scout", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
        ("capture", {"SOPClassUID": SecondaryCaptureImageStorage}),
        ("mr", {"SOPClassUID": MRImageStorage, "Modality": "MR"}),
        ("rtstruct", {"SOPClassUID": RTStructureSetStorage, "Modality": "RTSTRUCT"}),
    ]
    for name, attributes in others:
        dataset = ct_datasets(small(series=name, slices=1, attributes=attributes))[0]
        save(dataset, tmp_path / f"{name}.dcm")
    nameless = Dataset()
    nameless.preamble = b"\0" * 128
    nameless.file_meta = FileMetaDataset()
    nameless.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    nameless.FileSetID = "DISC"
    nameless.save_as(tmp_path / "DICOMDIR", enforce_file_format=False)
    (tmp_path / "README").write_text("about these files")
    inventory = survey(files_in(tmp_path))
    assert inventory.set_aside == {
        Reason.LOCALIZER: 1,
        Reason.CAPTURE: 1,
        Reason.OTHER_MODALITY: 1,
        Reason.OTHER_OBJECT: 2,
        Reason.NOT_DICOM: 1,
    }
    assert len(inventory.accepted) == 1
    assert inventory.refused == ()
    assert accounted(inventory) == len(files_in(tmp_path)) == 12


@pytest.mark.parametrize(
    ("attributes", "error"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, NotImages),
        ({"SOPClassUID": MRImageStorage, "Modality": "MR"}, WrongModality),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, NotImages),
    ],
)
def test_a_folder_without_any_ct_slice_says_what_it_holds(
    tmp_path: Path, attributes: dict[str, object], error: type[InputError]
) -> None:
    build_ct_series(tmp_path, small(attributes=attributes))
    assert type(refusal(tmp_path)) is error


def test_a_folder_with_nothing_or_nothing_dicom_says_so(tmp_path: Path) -> None:
    assert type(refusal(tmp_path / "nowhere")) is NoSeries
    assert type(refusal(tmp_path)) is NoSeries
    (tmp_path / "notes.txt").write_text("nothing")
    assert type(refusal(tmp_path)) is NotDicom


def test_a_file_that_claims_to_be_dicom_and_is_not_refuses_the_folder(ct_folder: Path) -> None:
    (ct_folder / "slice_024.dcm").write_bytes(b"\xff" * 9000)
    assert type(refusal(ct_folder)) is NotDicom
    inventory = survey(files_in(ct_folder))
    assert (len(inventory.accepted), [r.series_instance_uid for r in inventory.refused]) == (1, [None])


def test_an_empty_file_refuses_the_folder(ct_folder: Path) -> None:
    (ct_folder / "CT.1.2.3").touch()
    assert type(refusal(ct_folder)) is TruncatedFile


def test_hidden_files_and_folders_are_not_looked_at(ct_folder: Path) -> None:
    (ct_folder / ".DS_Store").touch()
    (ct_folder / ".cache").mkdir()
    (ct_folder / ".cache" / "broken.dcm").touch()
    assert len(files_in(ct_folder)) == 24
    assert read_series(ct_folder)


def test_one_file_can_be_named_instead_of_a_folder(ct_folder: Path) -> None:
    assert type(refusal(ct_folder / "slice_000.dcm")) is TooFewSlices


def test_choosing_from_an_empty_inventory_is_an_empty_folder() -> None:
    with pytest.raises(NoSeries):
        choose(survey([]), "1.2.3")


# findings


def test_refusals_have_no_patient_data(tmp_path: Path) -> None:
    build_ct_series(tmp_path / "Doe^Jane", small(), on_slice(2, ImagePositionPatient=None))
    build_ct_series(tmp_path / "2", small(series="two", patient_id="PHANTOM-2", slices=2))
    for one in survey(files_in(tmp_path)).refused:
        for secret in ("Doe", "PHANTOM", "Ellipse"):
            assert secret not in str(one.error)


def test_the_content_hash_knows_the_bytes_and_not_the_names(ct_folder: Path) -> None:
    before = read_series(ct_folder).content_sha256
    (ct_folder / "slice_003.dcm").rename(ct_folder / "zzz")
    assert read_series(ct_folder).content_sha256 == before
    dataset = dcmread(ct_folder / "slice_005.dcm")
    dataset.SeriesDescription = "Changed"
    dataset.save_as(ct_folder / "slice_005.dcm")
    assert read_series(ct_folder).content_sha256 != before


@pytest.mark.parametrize("vr", [b"FD", b"QQ"])
def test_an_identity_that_cannot_be_decoded_is_refused_before_any_object_is_written(
    tmp_path: Path, vr: bytes
) -> None:
    path = build_ct_series(tmp_path, small())[0]
    content = path.read_bytes()
    start = content.index(b"\x10\x00\x40\x00CS")
    path.write_bytes(content[: start + 4] + vr + content[start + 6 :])
    error = refusal(tmp_path)
    assert isinstance(error, InvalidAttribute)
    assert error.detail == "Patient's Sex cannot be decoded."
