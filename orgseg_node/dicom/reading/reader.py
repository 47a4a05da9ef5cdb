"""Reads the pixel data of a CT series as Hounsfield units."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.resample import OUTSIDE_HU, resample_hu_to_grid
from orgseg_node.core.volume import HuArray, Volume
from orgseg_node.dicom.reading.pixels import PixelReader
from orgseg_node.dicom.reading.series import CtSeries, CtSlice
from orgseg_node.dicom.reading.slices import signed_or_not
from orgseg_node.errors import HuOutOfRange

PADDING_HU: Final = OUTSIDE_HU
"""HU outside the scanned field, and the lowest value of a volume."""

MAX_HU: Final = 65535  # 16 bits from -1024 on: the extended HU scales for metal end below
_BELOW_AIR_HU: Final = -1100
_MAX_BELOW_AIR: Final = 0.6

_Stored = NDArray[np.int32]
_INT16_MAX: Final = np.iinfo(np.int16).max


def read_volume(series: CtSeries) -> Volume:
    """The CT in Hounsfield units on a regular grid.

    Slices on planes of the grid are copied, all other planes are interpolated; see `read_slices` for the
    values.

    Parameters
    ----------
    series : as accepted by `survey`

    Returns
    -------
    (K, J, I) HU on ``series.grid``

    Raises
    ------
    InputError
        As in `read_slices`.
    """
    hu = read_slices(series)
    if not series.is_regular:
        hu = resample_hu_to_grid(hu, series.stack, series.grid)
    return Volume(grid=series.grid, hu=hu)


def read_slices(series: CtSeries) -> HuArray:
    """The CT in Hounsfield units on its own slices.

    Padding and everything below -1024 HU become -1024 HU. The array is int16 if every slice has slope 1 and
    an integer intercept and all values fit, else float32: no other value is clipped or rounded.

    Parameters
    ----------
    series : as accepted by `survey`

    Returns
    -------
    (K, J, I) int16 or float32 HU on ``series.geometry``, one plane for each slice

    Raises
    ------
    UndecodablePixels
        If the pixel data of a slice cannot be decoded, or do not have the size of the header.
    LossyCompression
        If a JPEG 2000 stream is irreversible although the header does not state it.
    HuOutOfRange
        If the values cannot be Hounsfield units.
    """
    shape = (len(series.slices), series.rows, series.columns)
    whole = all(s.slope == 1 and s.intercept.is_integer() for s in series.slices)
    hu: HuArray = np.empty(shape, dtype=np.int16) if whole else np.empty(shape, np.float32)
    lowest, below_air = np.inf, 0
    pixels = PixelReader()
    for k, image in enumerate(series.slices):
        stored, padded = _stored(pixels.words(image, shape[1:]), image)
        values = _rescale(stored, image)
        inside = values[~padded] if padded.any() else values
        if inside.size:
            top = inside.max()
            lowest = min(lowest, inside.min())
            below_air += int((inside < _BELOW_AIR_HU).sum())
            if top > MAX_HU:
                raise HuOutOfRange(f"The highest is {top:.0f}.")
            if hu.dtype == np.int16 and top > _INT16_MAX:
                hu = hu.astype(np.float32)
        values[padded] = PADDING_HU
        hu[k] = np.maximum(values, PADDING_HU)
    if lowest >= 0:
        raise HuOutOfRange("None is below water: there is neither air nor fat.")
    if below_air > _MAX_BELOW_AIR * hu.size:
        raise HuOutOfRange("Most are far below air.")
    return hu


def read_plane(pixels: PixelReader, image: CtSlice, shape: tuple[int, int]) -> NDArray[np.float64]:
    """One slice in Hounsfield units, however its values are stored; padding is -1024 HU.

    Parameters
    ----------
    pixels : decodes it
    image : the slice
    shape : (rows, columns) of the header

    Raises
    ------
    UndecodablePixels, LossyCompression
        As in `read_slices`.
    """
    return _plane(pixels, image, shape).astype(np.float64)


def read_shown_plane(pixels: PixelReader, image: CtSlice, shape: tuple[int, int]) -> NDArray[np.int16]:
    """One slice in whole Hounsfield units from -1024 to 32767, for a screen.

    Parameters
    ----------
    pixels : decodes it
    image : the slice
    shape : (rows, columns) of the header

    Raises
    ------
    UndecodablePixels, LossyCompression
        As in `read_slices`.
    """
    values = _plane(pixels, image, shape)
    if values.dtype.kind == "f":
        np.rint(values, out=values)
    np.clip(values, PADDING_HU, _INT16_MAX, out=values)
    return values.astype(np.int16)


def _plane(
    pixels: PixelReader, image: CtSlice, shape: tuple[int, int]
) -> NDArray[np.int32] | NDArray[np.float64]:
    stored, padded = _stored(pixels.words(image, shape), image)
    values = _rescale(stored, image)
    values[padded] = PADDING_HU
    return values


def _stored(words: NDArray[np.uint16], image: CtSlice) -> tuple[_Stored, NDArray[np.bool_]]:
    """Stored values (PS3.3, C.7.6.3.1), and which of them are padding (C.7.5.1.1.2).

    Padding is compared with the 16-bit words first: some scanners store a padding value that does not fit
    into Bits Stored.
    """
    stored = _interpreted(words, image)
    padded = np.zeros(words.shape, dtype=np.bool_)
    if image.padding is not None:
        padded |= words == image.padding & 0xFFFF
        if image.padding_limit is not None:
            ends = [signed_or_not(v, image) for v in (image.padding, image.padding_limit)]
            padded |= (stored >= min(ends)) & (stored <= max(ends))
    return stored, padded


def _interpreted(words: NDArray[np.uint16], image: CtSlice) -> _Stored:
    stored: _Stored = (words & ((1 << image.bits_stored) - 1)).astype(np.int32)
    if image.signed:
        stored[stored >= 1 << (image.bits_stored - 1)] -= 1 << image.bits_stored
    return stored


def _rescale(stored: _Stored, image: CtSlice) -> NDArray[np.int32] | NDArray[np.float64]:
    if image.slope == 1 and image.intercept.is_integer():
        return stored + np.int32(image.intercept)
    values: NDArray[np.float64] = stored.astype(np.float64) * image.slope + image.intercept
    return values
