"""Decodes the stored pixel values of one slice, reading no other frame of its file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
)

from orgseg_node.dicom.reading.files import integer, without_pydicom_warnings
from orgseg_node.dicom.reading.jpeg import check_jpeg_2000, check_lossless_jpeg
from orgseg_node.dicom.reading.limits import open_bounded
from orgseg_node.dicom.reading.slices import CtSlice
from orgseg_node.errors import InputError, UndecodablePixels

_PLUGINS = ("pyjpegls", "pylibjpeg", "gdcm")
"""Decoders in order of preference: GDCM may end the process on damaged data, so it comes last."""

_CHECKS: Final[Mapping[str, Callable[[bytes, int, int], None]]] = {
    JPEGLossless: check_lossless_jpeg,
    JPEGLosslessSV1: check_lossless_jpeg,
    JPEG2000: check_jpeg_2000,
    JPEG2000Lossless: check_jpeg_2000,
}
_WORD: Final = 2  # bytes
_MOST_PADDED: Final = 1.25  # some scanners write some bytes more; another size of the image is much more


class PixelReader:
    """Decodes slices one by one; caches the header of the last multi-frame file for its other frames."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._header = FileDataset("", {})
        self._start = 0

    def words(self, image: CtSlice, shape: tuple[int, int]) -> NDArray[np.uint16]:
        """The 16-bit words of a slice as stored, including bits beyond Bits Stored.

        Parameters
        ----------
        image : the slice
        shape : (rows, columns) of the header

        Raises
        ------
        UndecodablePixels
            If the pixel data cannot be decoded, or do not have this size.
        LossyCompression
            If a JPEG 2000 stream is irreversible although the header does not state it.
        """
        try:
            with open_bounded(image.path) as file, without_pydicom_warnings():
                # a single-frame file at once: pixel_array(path) cannot read deflated files
                dataset = dcmread(file) if image.frame is None else self._frame(file, image, shape)
                pixels = _decode(dataset, image.transfer_syntax_uid, shape)
        except (MemoryError, InputError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001  # decoders raise any exception; a panic in Rust is not an Exception
            raise UndecodablePixels from None
        if pixels.shape != shape or pixels.dtype.itemsize != _WORD:
            raise UndecodablePixels(f"They are not {shape[0]} x {shape[1]} values of 16 bits.")
        native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        words: NDArray[np.uint16] = native.view(np.uint16)
        return words

    def content_hash(self, image: CtSlice, shape: tuple[int, int]) -> str:
        """Hash of the pixel values and their meaning: equal for equal images, however they are encoded."""
        scale = (image.signed, image.bits_stored, image.slope, image.intercept)
        padding = (image.padding, image.padding_limit)
        digest = hashlib.sha256(repr((scale, padding)).encode())
        digest.update(self.words(image, shape).tobytes())
        return digest.hexdigest()

    def _frame(self, file: BinaryIO, image: CtSlice, shape: tuple[int, int]) -> FileDataset:
        """A single-frame dataset of one frame; the other frames are not read."""
        deflated = image.transfer_syntax_uid == DeflatedExplicitVRLittleEndian
        if self._path != image.path:
            self._header = dcmread(file, stop_before_pixels=not deflated)
            for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
                self._header.pop(keyword, None)
            self._start, self._path = file.tell(), image.path
        header, index = self._header, (image.frame or 1) - 1
        count = integer(header, "NumberOfFrames") or 1
        size = shape[0] * shape[1] * _WORD
        dataset = FileDataset("", {}, file_meta=header.file_meta)
        dataset.update(header)
        dataset.set_original_encoding(*header.original_encoding)
        # new elements: setting a value would change the element that header and dataset share
        dataset.add_new("NumberOfFrames", "IS", 1)
        if deflated:
            dataset.add_new("PixelData", "OW", header.PixelData[index * size : (index + 1) * size])
            return dataset
        short = image.transfer_syntax_uid == ImplicitVRLittleEndian
        file.seek(self._start + (8 if short else 12))
        if UID(image.transfer_syntax_uid).is_encapsulated:
            frame = get_frame(file, index, number_of_frames=count)
            dataset.add_new("PixelData", "OB", encapsulate([frame]))
        else:
            file.seek(index * size, 1)
            dataset.add_new("PixelData", "OW", file.read(size))
        return dataset


def _decode(dataset: FileDataset, syntax: str, shape: tuple[int, int]) -> NDArray[Any]:
    decoder = get_decoder(syntax)
    plugin = next((name for name in _PLUGINS if name in decoder.available_plugins), "")
    check = _CHECKS.get(syntax)
    if (
        not UID(syntax).is_encapsulated
        and len(dataset.PixelData) > _MOST_PADDED * shape[0] * shape[1] * _WORD
    ):
        raise UndecodablePixels("There are many more of them than the rows and columns of the header.")
    if check is not None:
        check(get_frame(dataset.PixelData, 0, number_of_frames=1), *shape)
    unused_bits: Any = {"correct_unused_bits": False}  # pydicom's stubs type its options as one dict
    pixels: NDArray[Any] = decoder.as_array(
        dataset, index=0, raw=True, decoding_plugin=plugin, **unused_bits
    )[0]
    return pixels
