"""Headers with values that DICOM does not allow: what is not needed, and what is refused in time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from orgseg_node.core.organs import OrganTable
from orgseg_node.dicom.reading.files import open_header, slice_thickness
from orgseg_node.dicom.reading.image_kind import Reason
from orgseg_node.dicom.reading.part10 import open_part10, part10_head, read_header
from orgseg_node.dicom.reading.reader import read_slices
from orgseg_node.dicom.reading.series import CtSeries, files_in, read_series, survey
from orgseg_node.errors import (
    InvalidAttribute,
    MissingAttribute,
    NotDicom,
    SeveralPatients,
    UndecodablePixels,
    UnsupportedPixels,
    UnsupportedSyntax,
)
from tests.support.ct.header_writing import all_objects, patch_vr, put
from tests.support.ct.phantom import PhantomOptions, build_ct_series, uid

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom.*")  # of the writer of these files

SMALL = PhantomOptions(slices=6, rows=16, columns=16, pixel_spacing_mm=(16.0, 16.0), slice_spacing_mm=6.0)


def written(folder: Path, change: Callable[[Dataset], object]) -> CtSeries:
    """A series of which every slice is changed."""

    def changed(_: int, dataset: Dataset) -> None:
        change(dataset)

    build_ct_series(folder, SMALL, changed)
    return read_series(folder)


def codes(series: CtSeries) -> list[str]:
    return [finding.code for finding in series.findings]


@pytest.mark.parametrize(
    ("value", "thickness"),
    [
        ("2,5", 2.5),
        ("NX DE", None),
        ("2.5\\3", None),
        ("2.5\\2.5", 2.5),
        ("-3", None),
        ("0", None),
        ("1e9", None),
    ],
)
def test_any_slice_thickness_gives_objects(
    tmp_path: Path, organ_table: OrganTable, value: str, thickness: float | None
) -> None:
    series = written(tmp_path, lambda one: put(one, "SliceThickness", value))
    assert slice_thickness(series.header) == thickness
    seg = all_objects(series, organ_table)["SEG"]
    (shared,) = seg.SharedFunctionalGroupsSequence
    assert shared.PixelMeasuresSequence[0].SliceThickness == (thickness or 6.0)


@pytest.mark.parametrize(
    "keyword", ["StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"]
)
@pytest.mark.parametrize(
    ("value", "said"), [("1." + "2" * 64, "66 characters"), ("1.A.3", "not a UID"), ("1..3", "not a UID")]
)
def test_a_uid_that_no_object_may_hold_is_refused(
    tmp_path: Path, keyword: str, value: str, said: str
) -> None:
    with pytest.raises(InvalidAttribute, match=said):
        written(tmp_path, lambda one: put(one, keyword, value))


def test_leading_zeros_of_a_uid_are_a_warning(tmp_path: Path, organ_table: OrganTable) -> None:
    series = written(tmp_path, lambda one: put(one, "StudyInstanceUID", "1.2.007"))
    assert codes(series) == ["SERIES_UID_LEADING_ZERO"]
    assert all_objects(series, organ_table)["RTSTRUCT"].StudyInstanceUID == "1.2.007"


def code(**values: str) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("StudyDescription", "x" * 70),
        ("StudyDescription", "Thorax\\Abdomen"),
        ("PatientIdentityRemoved", "yes"),
        ("IssuerOfPatientID", "x" * 66),
        ("PositionReferenceIndicator", "x" * 66),
        ("DeidentificationMethodCodeSequence", Sequence([code(CodeValue="1", CodingSchemeDesignator="DCM")])),
        ("DeidentificationMethodCodeSequence", Sequence([code(CodeMeaning="Basic")])),
    ],
)
def test_an_optional_attribute_that_is_invalid_is_not_copied(
    tmp_path: Path, organ_table: OrganTable, keyword: str, value: object
) -> None:
    def change(one: Dataset) -> None:
        if isinstance(value, str):
            put(one, keyword, value)
        else:
            setattr(one, keyword, value)

    series = written(tmp_path, change)
    assert codes(series) == ["SERIES_ATTRIBUTES_NOT_COPIED"]
    for dataset in all_objects(series, organ_table).values():
        assert not dataset.get(keyword)


@pytest.mark.parametrize("keyword", ["Manufacturer", "SeriesDescription", "StudyDescription"])
@pytest.mark.parametrize("vr", [b"ZZ", b"??", b"\0\0", b"  "])
def test_an_unknown_vr_in_an_attribute_that_is_not_needed_does_not_refuse(
    tmp_path: Path, organ_table: OrganTable, keyword: str, vr: bytes
) -> None:
    paths = build_ct_series(tmp_path, SMALL, lambda _, one: setattr(one, keyword, "something"))
    for path in paths:
        patch_vr(path, keyword, vr)
    assert read_header(*open_part10(paths[0])).series_uid == uid("study", "series"), "as it is received"
    series = read_series(tmp_path)
    assert codes(series) == (["SERIES_ATTRIBUTES_NOT_COPIED"] if keyword == "StudyDescription" else [])
    all_objects(series, organ_table)


def test_a_name_with_another_vr_is_copied_with_its_own(tmp_path: Path, organ_table: OrganTable) -> None:
    for path in build_ct_series(tmp_path, SMALL):
        patch_vr(path, "PatientName", b"LO")
    dataset = all_objects(read_series(tmp_path), organ_table)["SEG"]
    assert (dataset["PatientName"].VR, str(dataset.PatientName)) == ("PN", "Phantom^Ellipse")


@pytest.mark.parametrize(
    ("keyword", "value", "found"),
    [
        ("GantryDetectorTilt", "NX DE", ["SERIES_ATTRIBUTES_IGNORED"]),
        ("GantryDetectorTilt", "0\\5", ["SERIES_ATTRIBUTES_IGNORED"]),
        ("GantryDetectorTilt", "0,0", ["SERIES_DECIMAL_COMMA"]),
        ("PixelPaddingValue", b"\0\0\0\0", []),
        ("PixelPaddingValue", b"\0\0\1\0", ["SERIES_ATTRIBUTES_IGNORED"]),
        ("RescaleType", "US", ["SERIES_RESCALE_UNSPECIFIED"]),
    ],
)
def test_an_attribute_that_is_not_needed_does_not_refuse(
    tmp_path: Path, keyword: str, value: str | bytes, found: list[str]
) -> None:
    def change(one: Dataset) -> None:
        put(one, keyword, value, "US" if keyword == "PixelPaddingValue" else None)

    series = written(tmp_path, change)
    assert codes(series) == found
    assert read_slices(series).max() > 0


def page(keep: int) -> Callable[[int, Dataset], object]:
    """A dose page in the place of the last slice, as scanners add it to a series."""

    def change(k: int, dataset: Dataset) -> None:
        if k == keep:
            for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
                del dataset[keyword]
            del dataset.FrameOfReferenceUID
            dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER"]

    return change


def test_a_dose_page_is_left_aside_and_reported(tmp_path: Path) -> None:
    build_ct_series(tmp_path, SMALL, page(5))
    series = read_series(tmp_path)
    assert (len(series.slices), codes(series)) == (5, ["SERIES_PAGES_LEFT_ASIDE"])
    assert survey(files_in(tmp_path)).set_aside == {Reason.CAPTURE: 1}


def test_an_original_slice_without_position_is_no_page(tmp_path: Path) -> None:
    def change(k: int, dataset: Dataset) -> None:
        page(5)(k, dataset)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]

    build_ct_series(tmp_path, SMALL, change)
    with pytest.raises(MissingAttribute):
        read_series(tmp_path)


def test_slices_without_series_uid_between_others_refuse_the_series(tmp_path: Path) -> None:
    def change(k: int, dataset: Dataset) -> None:
        if k % 2:
            dataset.SeriesInstanceUID = ""

    build_ct_series(tmp_path, SMALL, change)
    with pytest.raises(MissingAttribute, match="have no Series Instance UID"):
        read_series(tmp_path)


def test_missing_samples_per_pixel_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedPixels, match="Samples per Pixel is missing"):
        written(tmp_path, lambda one: delattr(one, "SamplesPerPixel"))


def test_padding_is_judged_as_a_stored_value(tmp_path: Path) -> None:
    options = PhantomOptions(slices=6, rows=16, columns=16, signed=True, padding=-2000)
    build_ct_series(tmp_path, options, lambda _, one: one.add_new("PixelPaddingValue", "US", 63536))
    assert read_series(tmp_path).findings == ()


def with_commas(dataset: Dataset, *, digits: int = 1) -> None:
    """Write the numbers of a header as a program with decimal commas writes them."""
    for keyword in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "SliceThickness",
        "RescaleSlope",
        "RescaleIntercept",
    ):
        value = dataset[keyword].value
        words = [f"{float(v):.{digits}f}" for v in (value if isinstance(value, MultiValue) else [value])]
        put(dataset, keyword, "\\".join(words).replace(".", ","))


@pytest.mark.parametrize("digits", [1, 3])
def test_decimal_commas_everywhere_are_read_and_reported(
    tmp_path: Path, organ_table: OrganTable, digits: int
) -> None:
    plain = written(tmp_path / "plain", lambda _: None)
    series = written(tmp_path / "commas", lambda one: with_commas(one, digits=digits))
    assert codes(series) == ["SERIES_DECIMAL_COMMA"]
    assert series.grid == plain.grid
    assert np.array_equal(read_slices(series), read_slices(plain))
    roi = all_objects(series, organ_table)["RTSTRUCT"].ROIContourSequence[0]
    assert "," not in "\\".join(map(str, roi.ContourSequence[0].ContourData))


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("RescaleIntercept", "-1,024"), ("PixelSpacing", "1,250\\1,250"), ("RescaleSlope", "1,0,0")],
)
def test_a_comma_that_may_separate_thousands_refuses(tmp_path: Path, keyword: str, value: str) -> None:
    with pytest.raises(InvalidAttribute, match="not a number"):
        written(tmp_path, lambda one: put(one, keyword, value))


def test_an_intercept_of_one_comma_is_never_proven_by_other_numbers(tmp_path: Path) -> None:
    def change(one: Dataset) -> None:
        with_commas(one)
        put(one, "RescaleIntercept", "-1,024")

    with pytest.raises(InvalidAttribute, match="not a number"):
        written(tmp_path, change)


def test_patients_whose_ids_differ_after_a_backslash_are_not_mixed(tmp_path: Path) -> None:
    def change(k: int, dataset: Dataset) -> None:
        put(dataset, "PatientID", f"12\\{k % 2}")

    build_ct_series(tmp_path, SMALL, change)
    with pytest.raises(SeveralPatients):
        read_series(tmp_path)


@pytest.mark.parametrize(
    "transfer_syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
)
@pytest.mark.parametrize("start", [128, 132, None], ids=["no preamble", "no prefix", "bare dataset"])
def test_images_without_the_head_of_a_file_are_read(
    tmp_path: Path, transfer_syntax: UID, start: int | None
) -> None:
    options = replace(SMALL, transfer_syntax=transfer_syntax)
    paths = build_ct_series(tmp_path, options)
    whole = read_series(tmp_path)
    hu, sha256 = read_slices(whole), whole.content_sha256
    for path in paths:
        content = path.read_bytes()
        path.write_bytes(
            content[144 + int.from_bytes(content[140:144], "little") if start is None else start :]
        )
    series = read_series(tmp_path)
    assert np.array_equal(read_slices(series), hu)
    assert series.content_sha256 == sha256


COMPRESSED = (RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless)


def head_of(content: bytes) -> int:
    """Bytes of preamble, prefix and file meta information."""
    return 144 + int.from_bytes(content[140:144], "little")


@pytest.mark.parametrize("transfer_syntax", COMPRESSED)
@pytest.mark.parametrize("noise", [0.0, 3000.0], ids=["smooth", "more bytes than pixels"])
def test_compressed_images_without_the_head_of_a_file_are_refused_by_name(
    tmp_path: Path, transfer_syntax: UID, noise: float
) -> None:
    for path in build_ct_series(
        tmp_path, replace(SMALL, transfer_syntax=transfer_syntax, noise_hu=noise, intercept=-32768.0)
    ):
        content = path.read_bytes()
        path.write_bytes(content[head_of(content) :])
        with pytest.raises(UnsupportedSyntax, match="there is no file meta information"):
            open_header(path)
    refused = survey(sorted(tmp_path.iterdir())).refused
    assert {one.error.code for one in refused} == {"INPUT_UNSUPPORTED_SYNTAX"}


@pytest.mark.parametrize("transfer_syntax", COMPRESSED)
@pytest.mark.parametrize("is_compressed", [True, False])
def test_pixel_data_that_are_not_in_the_stated_syntax_are_refused_by_name(
    tmp_path: Path,
    transfer_syntax: UID,
    is_compressed: bool,  # noqa: FBT001  # a table
) -> None:
    syntaxes = (transfer_syntax, ExplicitVRLittleEndian)
    written, stated = syntaxes if is_compressed else reversed(syntaxes)
    (path, *_) = build_ct_series(tmp_path, replace(SMALL, transfer_syntax=written))
    content = path.read_bytes()
    header, _ = open_header(path)
    head = part10_head(header.SOPClassUID, header.SOPInstanceUID, stated)
    path.write_bytes(head + content[head_of(content) :])
    with pytest.raises(UnsupportedSyntax, match="compressed"):
        open_header(path)
    path.write_bytes(path.read_bytes().replace(b"CS\x02\x00CT", b"CS\x02\x00MR"))
    assert open_header(path)[1]  # an object that is set aside is not judged by its pixels


@pytest.mark.parametrize(("more", "is_read"), [(2, True), (16 * 2, True), (16 * 16 * 2, False)])
def test_a_part_of_a_larger_image_is_not_read_as_the_image(
    tmp_path: Path,
    more: int,
    is_read: bool,  # noqa: FBT001  # a table
) -> None:
    def longer(_: int, dataset: Dataset) -> None:
        dataset.PixelData += bytes(more)

    build_ct_series(tmp_path, SMALL, longer)
    if is_read:
        assert read_slices(read_series(tmp_path)).shape == (6, 16, 16)
    else:
        with pytest.raises(UndecodablePixels, match="more of them"):
            read_slices(read_series(tmp_path))


def test_a_file_that_only_begins_like_a_dataset_is_not_dicom(tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_bytes(b"\x08\0\x05\0CS\x02\0ab" + bytes(500))
    with pytest.raises(NotDicom):
        open_header(path)
