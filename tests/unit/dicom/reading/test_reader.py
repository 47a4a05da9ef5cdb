"""From files to Hounsfield units, in the right place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from orgseg_node.dicom.reading.reader import read_volume
from orgseg_node.dicom.reading.series import read_series
from orgseg_node.errors import HuOutOfRange, UndecodablePixels
from tests.support.ct.phantom import (
    AXIAL,
    FEET_FIRST,
    PRONE,
    Change,
    PhantomOptions,
    build_ct_series,
    grid_of,
    grid_points,
    hu_at,
)

LOSSLESS = {
    "implicit": "1.2.840.10008.1.2",
    "explicit": "1.2.840.10008.1.2.1",
    "big endian": "1.2.840.10008.1.2.2",
    "deflated": "1.2.840.10008.1.2.1.99",
    "RLE": "1.2.840.10008.1.2.5",
    "JPEG lossless": "1.2.840.10008.1.2.4.57",
    "JPEG lossless SV1": "1.2.840.10008.1.2.4.70",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
}


def options(**settings: object) -> PhantomOptions:
    """Five slices with a patient in them."""
    given = {"slices": 5, "rows": 32, "columns": 24, "pixel_spacing_mm": (8.0, 8.0)} | settings
    return PhantomOptions(**given)  # type: ignore[arg-type]  # the test's own keywords


def read(folder: Path, given: PhantomOptions, change: Change | None = None) -> np.ndarray:
    """HU of a series written just now."""
    build_ct_series(folder, given, change)
    return read_volume(read_series(folder)).hu


def expected(given: PhantomOptions) -> np.ndarray:
    """HU of the phantom where the voxels are."""
    return hu_at(grid_points(grid_of(given)), couch=given.couch)


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("syntax", LOSSLESS.values(), ids=LOSSLESS.keys())
def test_every_lossless_syntax_gives_the_scanners_values(
    tmp_path: Path, syntax: str, *, signed: bool
) -> None:
    given = options(transfer_syntax=syntax, signed=signed, noise_hu=20.0, seed=3)
    hu = read(tmp_path, given)
    plain = read(tmp_path / "plain", options(noise_hu=20.0, seed=3))
    assert hu.dtype == np.int16
    assert np.array_equal(hu, plain)
    assert len(np.unique(hu)) > 100


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"]
)
def test_twelve_bits_are_read_as_twelve_bits(tmp_path: Path, syntax: str, *, signed: bool) -> None:
    given = options(
        transfer_syntax=syntax, signed=signed, bits_stored=12, intercept=0.0 if signed else -1024.0
    )
    assert np.array_equal(read(tmp_path, given), expected(given))


@pytest.mark.parametrize(
    "orientation", [AXIAL, FEET_FIRST, PRONE, (0, 1, 0, -1, 0, 0), (1, 0, 0, 0, np.cos(0.3), np.sin(0.3))]
)
def test_every_voxel_is_where_the_grid_says(
    tmp_path: Path, orientation: tuple[float, float, float, float, float, float]
) -> None:
    given = options(orientation=orientation, centre_mm=(3.0, 5.0, -2.0), transfer_syntax=LOSSLESS["RLE"])
    build_ct_series(tmp_path, given)
    volume = read_volume(read_series(tmp_path))
    true = hu_at(grid_points(volume.grid))
    wrong = np.abs(volume.hu - np.maximum(true, -1024)) > 0.5
    assert wrong.mean() < 0.002  # rounded positions decide about a few voxels on the very surface


def test_each_slice_has_its_own_slope_and_intercept(tmp_path: Path) -> None:
    def change(k: int, dataset: Dataset) -> None:
        pixels = np.frombuffer(dataset.PixelData, "<u2").astype(np.int64) - 1024 + 1024 + 10 * k
        dataset.PixelData = pixels.astype("<u2").tobytes()
        dataset.RescaleIntercept = str(-1024 - 10 * k)

    given = options()
    assert np.array_equal(read(tmp_path, given, change), expected(given))


def test_fractional_slopes_give_floats_that_are_not_rounded(tmp_path: Path) -> None:
    given = options(slope=0.5, intercept=-1024.25)
    hu = read(tmp_path, given)
    assert hu.dtype == np.float32
    assert np.abs(hu - expected(given)).max() <= 0.25
    assert (hu % 1 != 0).any()


def test_one_fractional_intercept_makes_the_whole_volume_float(tmp_path: Path) -> None:
    def change(k: int, dataset: Dataset) -> None:
        if k == 2:
            dataset.RescaleIntercept = "-1023.5"

    hu = read(tmp_path, options(), change)
    assert hu.dtype == np.float32
    assert np.array_equal(hu[2], expected(options())[2] + 0.5)
    assert np.array_equal(hu[1], expected(options())[1])


def test_values_above_int16_are_kept_not_wrapped(tmp_path: Path) -> None:
    def change(k: int, dataset: Dataset) -> None:
        if k == 3:
            pixels = np.frombuffer(dataset.PixelData, "<u2").copy()
            pixels[100] = 60000
            dataset.PixelData = pixels.tobytes()

    hu = read(tmp_path, options(), change)
    assert hu.dtype == np.float32
    assert hu.max() == 60000 - 1024
    assert np.array_equal(hu[0], expected(options())[0])


@pytest.mark.parametrize(
    ("signed", "padding"), [(False, 63536), (True, -2000), (True, -32768), (False, 0), (False, 5000)]
)
def test_padding_becomes_air_whatever_its_value(tmp_path: Path, padding: int, *, signed: bool) -> None:
    given = options(signed=signed, padding=padding)
    hu = read(tmp_path, given)
    assert hu.dtype == np.int16
    assert hu[0, 0, 0] == hu[4, -1, -1] == -1024
    assert hu.min() == -1024
    assert hu[2, 16, 12] == expected(given)[2, 16, 12]


def test_padding_written_with_the_wrong_sign_is_still_found(tmp_path: Path) -> None:
    def change(_: int, dataset: Dataset) -> None:
        del dataset.PixelPaddingValue
        dataset.add_new("PixelPaddingValue", "US", 63536)  # -2000 as an unsigned number

    hu = read(tmp_path, options(signed=True, padding=-2000), change)
    assert hu[0, 0, 0] == -1024


def test_a_padding_range_is_padding_from_end_to_end(tmp_path: Path) -> None:
    def change(_: int, dataset: Dataset) -> None:
        pixels = np.frombuffer(dataset.PixelData, "<i2").copy()
        pixels[:3] = [-2000, -1990, -1980]
        dataset.PixelData = pixels.tobytes()
        dataset.add_new("PixelPaddingRangeLimit", "SS", -1980)

    hu = read(tmp_path, options(signed=True, padding=-2000, intercept=0.0, slope=1.0), change)
    assert (hu[:, 0, :3] == -1024).all()


def test_a_padding_value_beyond_bits_stored_is_padding(tmp_path: Path) -> None:
    def change(_: int, dataset: Dataset) -> None:
        pixels = np.frombuffer(dataset.PixelData, "<u2").copy()
        pixels[0] = 63536
        dataset.PixelData = pixels.tobytes()
        dataset.add_new("PixelPaddingValue", "US", 63536)

    hu = read(tmp_path, options(bits_stored=12), change)
    assert (hu[:, 0, 0] == -1024).all()


def test_overlay_bits_above_bits_stored_are_not_part_of_the_value(tmp_path: Path) -> None:
    def change(_: int, dataset: Dataset) -> None:
        dataset.PixelData = (np.frombuffer(dataset.PixelData, "<u2") | 0x8000).astype("<u2").tobytes()

    given = options(bits_stored=12)
    assert np.array_equal(read(tmp_path, given, change), expected(given))


def test_what_is_below_minus_1024_is_raised_to_it(tmp_path: Path) -> None:
    def change(_: int, dataset: Dataset) -> None:
        pixels = np.frombuffer(dataset.PixelData, "<i2").copy()
        pixels[:10] = -3000
        dataset.PixelData = pixels.tobytes()

    hu = read(tmp_path, options(signed=True, intercept=0.0), change)
    assert (hu[:, 0, :10] == -1024).all()
    assert hu[0, 0, 10] == -1000


@pytest.mark.parametrize(
    "attributes",
    [
        {"RescaleIntercept": "0"},  # the intercept lost: air at 24, water at 1024
        {"RescaleIntercept": "-9192"},  # everything far below air
        {"RescaleSlope": "100"},
    ],
)
def test_values_that_cannot_be_hu_are_refused(tmp_path: Path, attributes: dict[str, object]) -> None:
    build_ct_series(tmp_path, options(attributes=attributes))
    with pytest.raises(HuOutOfRange):
        read_volume(read_series(tmp_path))


def test_a_volume_of_nothing_but_padding_is_refused(tmp_path: Path) -> None:
    def change(_: int, dataset: Dataset) -> None:
        dataset.PixelData = b"\0" * len(dataset.PixelData)

    build_ct_series(tmp_path, options(padding=0), change)
    with pytest.raises(HuOutOfRange):
        read_volume(read_series(tmp_path))


@pytest.mark.parametrize("name", ["RLE", "JPEG lossless SV1", "JPEG-LS", "JPEG 2000"])
def test_damaged_compressed_pixels_are_refused(tmp_path: Path, name: str) -> None:
    paths = build_ct_series(tmp_path, options(transfer_syntax=LOSSLESS[name]))
    data = bytearray(paths[2].read_bytes())
    start = data.rindex(b"\xfe\xff\x00\xe0") + 8
    data[start : start + 64] = b"\xa5" * 64
    paths[2].write_bytes(data)
    with pytest.raises(UndecodablePixels) as caught:
        read_volume(read_series(tmp_path))
    assert str(tmp_path) not in str(caught.value)


def test_too_few_pixels_are_refused(tmp_path: Path) -> None:
    def change(k: int, dataset: Dataset) -> None:
        if k == 1:
            dataset.PixelData = dataset.PixelData[:-64]

    build_ct_series(tmp_path, options(), change)
    with pytest.raises(UndecodablePixels):
        read_volume(read_series(tmp_path))


def test_a_file_that_went_away_or_changed_its_size_is_refused(tmp_path: Path) -> None:
    paths = build_ct_series(tmp_path, options())
    series = read_series(tmp_path)
    dataset = dcmread(paths[1])
    dataset.Rows = 16
    dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]
    dataset.save_as(paths[1])
    with pytest.raises(UndecodablePixels, match="32 x 24"):
        read_volume(series)
    paths[1].unlink()
    with pytest.raises(UndecodablePixels):
        read_volume(series)
