"""The same image in another encoding or with other administrative values is the same; another is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from orgseg_node.dicom.reading.same_image import Difference, differences
from tests.support.ct.header_writing import put
from tests.support.ct.phantom import PhantomOptions, build_ct_series

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom.*")

Change = Callable[[Dataset], object]


def compared(folder: Path, first: Change, second: Change, **options: object) -> tuple[Difference, ...]:
    """In what two files of one image differ that were changed in these ways; the same in both orders."""
    paths = []
    for name, change in (("a", first), ("b", second)):
        settings = PhantomOptions(slices=1, rows=16, columns=16, noise_hu=20.0, **options)  # type: ignore[arg-type]
        (path,) = build_ct_series(folder / name, settings)
        dataset = pydicom.dcmread(path)
        change(dataset)
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    found = differences(*paths)
    assert differences(*reversed(paths)) == found
    return found


def nothing(_: Dataset) -> None:
    return None


def given(keyword: str, value: str) -> Change:
    """A change of an element to these very characters."""
    return lambda dataset: put(dataset, keyword, value)


def without(keyword: str) -> Change:
    return lambda dataset: dataset.pop(keyword, None)


def more_bits(dataset: Dataset) -> None:
    dataset.BitsStored, dataset.HighBit = 16, 15


def stored_as_hu(dataset: Dataset) -> None:
    hu = dataset.pixel_array.astype(int) + int(dataset.RescaleIntercept)
    dataset.PixelData = hu.astype("<i2").tobytes()
    dataset.PixelRepresentation, dataset.RescaleIntercept = 1, 0


def with_overlay_in_unused_bits(dataset: Dataset) -> None:
    dataset.PixelData = (np.frombuffer(dataset.PixelData, "<u2") | 0x8000).astype("<u2").tobytes()


def with_trailing_padding(dataset: Dataset) -> None:
    dataset.add_new(0xFFFCFFFC, "OB", bytes(100))


@pytest.mark.parametrize(
    ("second", "options"),
    [
        pytest.param(more_bits, {"bits_stored": 12}, id="16 bits stored for 12"),
        pytest.param(stored_as_hu, {}, id="signed with intercept 0 for unsigned"),
        pytest.param(without("SliceThickness"), {}, id="no slice thickness"),
        pytest.param(given("SliceThickness", "5"), {}, id="another slice thickness"),
        pytest.param(given("GantryDetectorTilt", "0.0"), {}, id="a tilt of 0 is said"),
        pytest.param(given("PatientPosition", "hfs"), {}, id="patient position in small letters"),
        pytest.param(given("RescaleIntercept", "-1.024E+03"), {}, id="an exponent"),
        pytest.param(given("ImageOrientationPatient", "1\\-0\\0\\0\\1\\-0.0"), {}, id="minus zero"),
        pytest.param(given("PatientID", " PHANTOM-1 "), {}, id="a padded patient ID"),
        pytest.param(given("PhotometricInterpretation", "MONOCHROME2 "), {}, id="a padded code"),
        pytest.param(with_overlay_in_unused_bits, {"bits_stored": 12}, id="an overlay in unused bits"),
        pytest.param(with_trailing_padding, {}, id="trailing padding"),
    ],
)
def test_what_changes_neither_hu_nor_place_nor_patient_is_the_same_image(
    second: Change, options: dict[str, object], tmp_path: Path
) -> None:
    assert compared(tmp_path, nothing, second, **options) == ()


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLosslessSV1,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
    ids=lambda uid: uid.name[:24],
)
def test_the_encoding_is_no_difference(
    syntax: str,
    signed: bool,  # noqa: FBT001  # a table
    tmp_path: Path,
) -> None:
    options = PhantomOptions(
        slices=1, rows=16, columns=16, signed=signed, intercept=0.0 if signed else -1024.0
    )
    (plain,) = build_ct_series(tmp_path / "plain", options)
    (other,) = build_ct_series(tmp_path / "other", replace(options, transfer_syntax=syntax))
    assert pydicom.dcmread(other).file_meta.TransferSyntaxUID == syntax
    assert differences(plain, other) == ()


def one_hu(dataset: Dataset) -> None:
    pixels = dataset.pixel_array.copy()
    pixels[8, 8] += 1
    dataset.PixelData = pixels.tobytes()


def cut(dataset: Dataset) -> None:
    dataset.PixelData = dataset.PixelData[:-200]


@pytest.mark.parametrize(
    ("second", "found"),
    [
        (one_hu, [Difference.PIXELS]),
        (given("RescaleIntercept", "-1023"), [Difference.PIXELS]),
        (given("RescaleSlope", "1.001"), [Difference.PIXELS]),
        (given("PatientID", "phantom-1"), [Difference.PATIENT]),
        (given("PatientName", ""), [Difference.PATIENT]),
        (given("StudyInstanceUID", "1.2.3"), [Difference.UIDS]),
        (without("FrameOfReferenceUID"), [Difference.GEOMETRY]),
        (given("PatientPosition", "HFP"), [Difference.GEOMETRY]),
        (cut, [Difference.UNREADABLE]),
    ],
)
def test_another_image_patient_or_place_is_a_difference(
    second: Change, found: Sequence[Difference], tmp_path: Path
) -> None:
    assert compared(tmp_path, nothing, second) == tuple(found)
