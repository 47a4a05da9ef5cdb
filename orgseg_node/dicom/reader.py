"""From the files of a series to Hounsfield units, slice by slice into one array."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGLossless, JPEGLosslessSV1

from orgseg_node.core.volume import HuArray, Volume
from orgseg_node.dicom.files import quietly
from orgseg_node.dicom.jpeg import check_jpeg_2000, check_lossless_jpeg
from orgseg_node.dicom.series import CtSeries, CtSlice
from orgseg_node.errors import HuOutOfRange, InputError, UndecodablePixels

PADDING_HU: Final = -1024
"""What lies outside the scanned field, and the lowest value of a volume."""

MAX_HU: Final = 65535  # 16 bits from -1024 on: the extended scales used beside metal end below
_BELOW_AIR_HU: Final = -1100
_MAX_BELOW_AIR: Final = 0.6

_PLUGINS = ("pyjpegls", "pylibjpeg", "gdcm")
"""Decoders in order of trust: GDCM may end the process on damaged data, so it comes last."""

_CHECKS: Final[Mapping[str, Callable[[bytes, int, int], None]]] = {
    JPEGLossless: check_lossless_jpeg,
    JPEGLosslessSV1: check_lossless_jpeg,
    JPEG2000: check_jpeg_2000,
    JPEG2000Lossless: check_jpeg_2000,
}

_Stored = NDArray[np.int32]
_INT16_MAX: Final = np.iinfo(np.int16).max


def read_volume(series: CtSeries) -> Volume:
    """The CT in Hounsfield units.

    Padding and everything below become -1024 HU. The array is int16 where every slice has slope 1 and a
    whole-numbered intercept and all values fit, else float32: no value is ever clipped or rounded.

    Parameters
    ----------
    series : as `survey` accepts it

    Returns
    -------
    (K, J, I) volume on ``series.grid``

    Raises
    ------
    UndecodablePixels
        If the pixel data of a slice cannot be decoded, or are not of the size the header tells.
    LossyCompression
        If a JPEG 2000 stream is irreversible although the header does not say so.
    HuOutOfRange
        If the values cannot be Hounsfield units.
    """
    whole = all(s.slope == 1 and s.intercept.is_integer() for s in series.slices)
    hu: HuArray = (
        np.empty(series.grid.shape, dtype=np.int16) if whole else np.empty(series.grid.shape, np.float32)
    )
    lowest, below_air = np.inf, 0
    for k, image in enumerate(series.slices):
        words = _words(image, (series.rows, series.columns))
        stored, padded = _stored(words, image)
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
    return Volume(grid=series.grid, hu=hu)


def _words(image: CtSlice, shape: tuple[int, int]) -> NDArray[np.uint16]:
    """The 16-bit words of a slice as they are stored, bits beyond Bits Stored included."""
    try:
        with quietly():
            dataset = dcmread(image.path)  # whole: pixel_array(path) cannot read deflated files
            pixels = _decode(dataset, image.transfer_syntax_uid, shape)
    except (MemoryError, InputError):
        raise
    except Exception:  # noqa: BLE001  # decoders raise whatever they please on damaged data
        raise UndecodablePixels from None
    if pixels.shape != shape or pixels.dtype.itemsize != 2:
        raise UndecodablePixels(f"They are not {shape[0]} x {shape[1]} values of 16 bits.")
    native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    words: NDArray[np.uint16] = native.view(np.uint16)
    return words


def _decode(dataset: FileDataset, syntax: str, shape: tuple[int, int]) -> NDArray[Any]:
    decoder = get_decoder(syntax)
    plugin = next((name for name in _PLUGINS if name in decoder.available_plugins), "")
    check = _CHECKS.get(syntax)
    if check is not None:
        check(get_frame(dataset.PixelData, 0, number_of_frames=1), *shape)
    unused_bits: Any = {"correct_unused_bits": False}  # pydicom's stubs know its options only as one dict
    pixels: NDArray[Any] = decoder.as_array(
        dataset, index=0, raw=True, decoding_plugin=plugin, **unused_bits
    )[0]
    return pixels


def _stored(words: NDArray[np.uint16], image: CtSlice) -> tuple[_Stored, NDArray[np.bool_]]:
    """Stored values (PS3.3, C.7.6.3.1), and which of them are padding (C.7.5.1.1.2).

    Padding is looked for in the whole words first: some scanners store a padding value that does not fit
    into Bits Stored.
    """
    stored = _interpreted(words, image)
    padded = np.zeros(words.shape, dtype=np.bool_)
    if image.padding is not None:
        padded |= words == image.padding & 0xFFFF
        if image.padding_limit is not None:
            ends = [_signed_or_not(v, image) for v in (image.padding, image.padding_limit)]
            padded |= (stored >= min(ends)) & (stored <= max(ends))
    return stored, padded


def _interpreted(words: NDArray[np.uint16], image: CtSlice) -> _Stored:
    stored: _Stored = (words & ((1 << image.bits_stored) - 1)).astype(np.int32)
    if image.signed:
        stored[stored >= 1 << (image.bits_stored - 1)] -= 1 << image.bits_stored
    return stored


def _signed_or_not(value: int, image: CtSlice) -> int:
    # the value representation of the padding attributes follows Pixel Representation; writers get it wrong
    word = value & 0xFFFF
    return word - 0x10000 if image.signed and word >= 0x8000 else word


def _rescale(stored: _Stored, image: CtSlice) -> NDArray[np.int32] | NDArray[np.float64]:
    if image.slope == 1 and image.intercept.is_integer():
        return stored + np.int32(image.intercept)
    values: NDArray[np.float64] = stored.astype(np.float64) * image.slope + image.intercept
    return values
