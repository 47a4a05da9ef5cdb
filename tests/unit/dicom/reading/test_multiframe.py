"""Enhanced CT: every frame is read as the image it is."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from orgseg_node.dicom.reading.reader import read_slices, read_volume
from orgseg_node.dicom.reading.series import CtSeries, Reason, files_in, read_series, source_header, survey
from orgseg_node.errors import (
    HuOutOfRange,
    InputError,
    InvalidAttribute,
    MissingAttribute,
    SeveralParts,
    UndecodablePixels,
)
from tests.support.ct.phantom import save
from tests.support.ct.zoo import CORONAL, FFS, Field, Scan, Stack, regular
from tests.support.ct.zoo_multiframe import write_concatenation, write_enhanced, write_legacy_converted

SMALL = Scan(heights_mm=regular(5, 12.0), rows=8, columns=10, spacing_mm=(12.0, 12.0))
SYNTAXES = {
    "implicit": ImplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "RLE": RLELossless,
    "JPEG-LS": JPEGLSLossless,
    "JPEG lossless": JPEGLosslessSV1,
    "JPEG 2000": JPEG2000Lossless,
}


def assert_true(series: CtSeries, stack: Stack) -> None:
    """Every frame has the HU and the position of its own plane."""
    hu = read_slices(series)
    assert len(series.slices) == len(stack.planes)
    for k, one in enumerate(series.slices):
        plane = stack.plane((one.sop_instance_uid, one.frame))
        assert plane is not None
        assert np.array_equal(hu[k], plane.hu)
        corner = (plane.hu.shape[0] - 1, plane.hu.shape[1] - 1)
        assert np.allclose(series.stack.to_lps([(k, *corner)])[0], plane.points_mm[corner], atol=1e-3)


def edited(folder: Path, change: object) -> None:
    """Read the one file of a folder, change it, and write it again."""
    (path,) = folder.iterdir()
    dataset = dcmread(path)
    assert callable(change)
    change(dataset)
    dataset.save_as(path, enforce_file_format=True)


def refusal(folder: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        read_volume(read_series(folder))
    return caught.value


@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=SYNTAXES.keys())
def test_frames_of_every_syntax_are_read_one_by_one(tmp_path: Path, syntax: str) -> None:
    order = (3, 0, 4, 1, 2)
    (stack,) = write_enhanced(tmp_path, [SMALL], order)
    written = dcmread(tmp_path / "enhanced.dcm")
    plain = Dataset(written)  # pydicom does not turn the byte order of what it has read
    plain.file_meta = written.file_meta
    save(plain, tmp_path / "enhanced.dcm", syntax)
    series = read_series(tmp_path)
    assert {one.transfer_syntax_uid for one in series.slices} == {syntax}
    assert [one.frame for one in series.slices] == [2, 4, 5, 1, 3]
    assert series.is_regular
    assert series.findings == ()
    assert_true(series, stack)


def test_each_frame_has_its_own_slope_and_intercept(tmp_path: Path) -> None:
    slopes = {k: (1.0 + k, -1024.0 - 3 * k) for k in range(5)}
    (stack,) = write_enhanced(tmp_path, [replace(SMALL, slopes=slopes)])
    series = read_series(tmp_path)
    assert {one.slope for one in series.slices} == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert_true(series, stack)


@pytest.mark.parametrize(
    "settings", [{"signed": True, "intercept": 0.0, "padding": -2000}, {"padding": 63000}]
)
def test_padding_is_replaced_before_the_rescale(tmp_path: Path, settings: dict[str, object]) -> None:
    scan = replace(SMALL, shows=Field(padded=True), **settings)  # type: ignore[arg-type]  # keywords of Scan
    (stack,) = write_enhanced(tmp_path, [scan])
    series = read_series(tmp_path)
    assert (read_slices(series) == -1024).any()
    assert_true(series, stack)


def test_tilt_gaps_and_feet_first_are_found_in_frames(tmp_path: Path) -> None:
    scan = replace(SMALL, heights_mm=(0.0, 3.0, 6.0, 12.0, 15.0), shear=(0.0, 0.3), orientation=FFS)
    (stack,) = write_enhanced(tmp_path, [scan])
    series = read_series(tmp_path)
    assert [f.code for f in series.findings] == ["SERIES_GANTRY_TILT", "SERIES_MISSING_SLICES"]
    assert_true(series, stack)


def test_a_converted_series_is_read_like_the_images_it_was_made_from(tmp_path: Path) -> None:
    scan = replace(SMALL, values={"SpacingBetweenSlices": "3"})
    stack = write_legacy_converted(tmp_path, scan)
    series = read_series(tmp_path)
    assert_true(series, stack)
    assert series.header.PatientName == "Zoo^Animal"


def test_phases_in_one_file_are_parts(tmp_path: Path) -> None:
    stacks = write_enhanced(tmp_path, [SMALL, replace(SMALL, shows=Field(breath_mm=9.0))])
    with pytest.raises(SeveralParts, match="temporal position 1; temporal position 2"):
        read_series(tmp_path)
    parts = survey(files_in(tmp_path)).accepted
    for part, stack in zip(parts, stacks, strict=True):
        assert_true(part, stack)
    assert parts[0].content_sha256 != parts[1].content_sha256


def test_frames_of_another_stack_or_direction_are_separated(tmp_path: Path) -> None:
    write_enhanced(tmp_path, [SMALL])

    def turn(dataset: FileDataset) -> None:
        shared = dataset.SharedFunctionalGroupsSequence[0]
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            orientation = Dataset()
            orientation.ImageOrientationPatient = shared.PlaneOrientationSequence[0].ImageOrientationPatient
            frame.PlaneOrientationSequence = Sequence([orientation])
        orientation.ImageOrientationPatient = list(CORONAL)  # of the last frame
        del shared.PlaneOrientationSequence

    edited(tmp_path, turn)
    series = read_series(tmp_path)
    assert [one.frame for one in series.slices] == [1, 2, 3, 4]
    assert [f.code for f in series.findings] == ["SERIES_IMAGES_LEFT_ASIDE"]


def test_localizer_frames_are_left_out_and_a_file_of_them_is_set_aside(tmp_path: Path) -> None:
    write_enhanced(tmp_path, [SMALL])

    def mark(numbers: set[int]) -> object:
        def change(dataset: FileDataset) -> None:
            for n in numbers:
                kind = Dataset()
                kind.FrameType = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]
                dataset.PerFrameFunctionalGroupsSequence[n].CTImageFrameTypeSequence = Sequence([kind])

        return change

    edited(tmp_path, mark({0}))
    assert [one.frame for one in read_series(tmp_path).slices] == [2, 3, 4, 5]
    edited(tmp_path, mark({0, 1, 2, 3, 4}))
    assert survey(files_in(tmp_path)).set_aside == {Reason.LOCALIZER: 1}


def test_the_header_of_a_frame_is_that_of_an_image_of_its_own(tmp_path: Path) -> None:
    write_enhanced(tmp_path, [SMALL])
    series = read_series(tmp_path)
    for k, one in enumerate(series.slices):
        header = source_header(series, k)
        assert tuple(float(v) for v in header.ImagePositionPatient) == one.position_mm
        assert (header.Rows, header.SliceThickness, header.RescaleSlope) == (8, 12, 1)
        assert header.SOPInstanceUID == one.sop_instance_uid
        assert header.PatientName == "Zoo^Animal"
        assert "PerFrameFunctionalGroupsSequence" not in header
        assert "PixelData" not in header


def _without(keyword: str) -> object:
    def change(dataset: FileDataset) -> None:
        for groups in (*dataset.SharedFunctionalGroupsSequence, *dataset.PerFrameFunctionalGroupsSequence):
            if keyword in groups:
                del groups[keyword]

    return change


@pytest.mark.parametrize(
    "keyword",
    [
        "PlanePositionSequence",
        "PlaneOrientationSequence",
        "PixelMeasuresSequence",
        "PixelValueTransformationSequence",
    ],
)
def test_what_frames_do_not_tell_is_never_invented(tmp_path: Path, keyword: str) -> None:
    write_enhanced(tmp_path, [SMALL])
    edited(tmp_path, _without(keyword))
    assert isinstance(refusal(tmp_path), MissingAttribute)


def test_frames_that_are_no_hu_are_refused(tmp_path: Path) -> None:
    write_enhanced(tmp_path, [SMALL])

    def change(dataset: FileDataset) -> None:
        dataset.PerFrameFunctionalGroupsSequence[3].PixelValueTransformationSequence[0].RescaleType = "US"

    edited(tmp_path, change)
    assert isinstance(refusal(tmp_path), HuOutOfRange)


@pytest.mark.parametrize("count", [4, 6, 100_000])
def test_a_number_of_frames_that_is_not_that_of_their_groups_is_refused(tmp_path: Path, count: int) -> None:
    write_enhanced(tmp_path, [SMALL])
    edited(tmp_path, lambda dataset: setattr(dataset, "NumberOfFrames", count))
    assert isinstance(refusal(tmp_path), InvalidAttribute)


def test_functional_groups_of_garbage_are_refused(tmp_path: Path) -> None:
    write_enhanced(tmp_path, [SMALL])

    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    start = content.index(b"\x00\x52\x30\x92SQ") + 40
    path.write_bytes(content[:start] + b"garbage!" * 8 + content[start + 64 :])
    assert isinstance(refusal(tmp_path), InputError)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_fewer_pixels_than_frames_are_refused(tmp_path: Path, syntax: str) -> None:
    write_enhanced(tmp_path, [SMALL])

    def shorten(dataset: FileDataset) -> None:
        dataset.PixelData = dataset.PixelData[: 3 * 160]
        dataset.NumberOfFrames = 3
        if syntax == RLELossless:
            dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.NumberOfFrames = 5

    edited(tmp_path, shorten)
    assert isinstance(refusal(tmp_path), UndecodablePixels)


def test_a_series_split_into_several_files_is_one(tmp_path: Path) -> None:
    stack = write_concatenation(tmp_path, SMALL, 2)
    series = read_series(tmp_path)
    assert [one.frame for one in series.slices] == [1, 2, 1, 2, 3]
    assert_true(series, stack)


def test_a_file_given_twice_counts_once(tmp_path: Path) -> None:
    (stack,) = write_enhanced(tmp_path, [SMALL])
    shutil.copy(tmp_path / "enhanced.dcm", tmp_path / "again.dcm")
    assert_true(read_series(tmp_path), stack)
    assert survey(files_in(tmp_path)).set_aside == {Reason.COPY: 1}
