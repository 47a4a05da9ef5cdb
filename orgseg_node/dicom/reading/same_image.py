"""Whether two files are the same image: same pixels, geometry and patient, whatever their encoding.

Scanner and PACS send the same image in different transfer syntaxes, and a PACS may change (coerce) what it
administers: accession number, station, dates, description, character set, the spelling of a name. Some store
the same HU with another offset or number of bits. None of this changes what is contoured, nor for whom. So an
image that comes again under its UID is compared by meaning. The UIDs of study and series, to which the
contours refer, have to be the same as well.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator
from enum import StrEnum
from itertools import zip_longest
from pathlib import Path
from typing import Final

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID, ExplicitVRBigEndian

from orgseg_node.dicom.decimal_commas import with_decimal_points
from orgseg_node.dicom.reading.files import (
    open_header,
    texts,
    whole_text,
    without_pydicom_warnings,
)
from orgseg_node.dicom.reading.image_hash import image_hash
from orgseg_node.dicom.reading.limits import open_bounded
from orgseg_node.dicom.reading.multiframe import frame_headers
from orgseg_node.dicom.reading.pixels import PixelReader
from orgseg_node.dicom.reading.reader import read_plane
from orgseg_node.dicom.reading.slices import PlacedSlice, classify_file


class Difference(StrEnum):
    """In what two images differ; never a value of a header."""

    UIDS = "the UIDs of study, series or class"
    PATIENT = "the patient"
    GEOMETRY = "the geometry"
    PIXELS = "the pixels"
    UNREADABLE = "one cannot be read"


_UIDS: Final = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_GEOMETRY: Final = (
    "FrameOfReferenceUID",
    "PatientPosition",
    "Rows",
    "Columns",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
)
_CAPITALS: Final = {"PatientPosition"}
_VALUES: Final = (
    "RescaleSlope",
    "RescaleIntercept",
    "PhotometricInterpretation",
    "SamplesPerPixel",
    "PixelRepresentation",
    "BitsStored",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
)
_TOLERANCE: Final = 1e-5
"""Decimal texts may be rounded: mm, HU, or parts of a unit vector (0.005 mm in a field of 50 cm)."""
_TOLERANCE_HU: Final = 1e-3
_ENCODED: Final = {"PixelPaddingValue", "PixelPaddingRangeLimit"}  # the same 16 bits, signed or not
_SPELLINGS: Final = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "å": "aa", "ø": "oe", "æ": "ae"}
)
_SEPARATORS: Final = str.maketrans("^,.-_", "     ")


def differences(one: Path, other: Path) -> tuple[Difference, ...]:
    """In what two files with the same SOP Instance UID differ; empty if they are the same image.

    Pixels are compared only if nothing else differs, and compressed ones by decoding them.
    """
    try:
        header, header_of_other = open_header(one)[0], open_header(other)[0]
        frames, others = list(_frames(header)), list(_frames(header_of_other))
        found = tuple(
            kind
            for kind, differs in (
                (Difference.UIDS, _differ(header, header_of_other, _UIDS)),
                (Difference.PATIENT, _patients_differ(header, header_of_other)),
                (Difference.GEOMETRY, _any_differ(frames, others, _GEOMETRY)),
            )
            if differs
        )
        if not found and _pixels_differ((one, frames), (other, others)):
            return (Difference.PIXELS,)
    except Exception:  # noqa: BLE001  # damaged bytes make parsers and decoders raise any exception
        return (Difference.UNREADABLE,)
    return found


def _frames(header: FileDataset) -> Iterator[Dataset]:
    if "PerFrameFunctionalGroupsSequence" in header:
        yield from (frame for _, frame in frame_headers(header))
    else:
        yield header


def _any_differ(frames: list[Dataset], others: list[Dataset], keywords: tuple[str, ...]) -> bool:
    return len(frames) != len(others) or any(
        _differ(one, other, keywords) for one, other in zip(frames, others, strict=True)
    )


def _differ(one: Dataset, other: Dataset, keywords: tuple[str, ...]) -> bool:
    return not all(
        _equal(*_in_capitals(keyword, a, b), encoded=keyword in _ENCODED)
        for keyword in keywords
        for a, b in zip_longest(texts(one, keyword), texts(other, keyword), fillvalue="")
    )


def _in_capitals(keyword: str, *values: str) -> tuple[str, ...]:
    return tuple(value.upper() for value in values) if keyword in _CAPITALS else values


def _equal(one: str, other: str, *, encoded: bool) -> bool:
    """Whether two texts are equal, or the same number in other digits."""
    if one == other:
        return True
    try:
        a, b = map(float, with_decimal_points((one, other)))
    except ValueError:
        return False
    if encoded:
        return int(a) & 0xFFFF == int(b) & 0xFFFF if math.isfinite(a) and math.isfinite(b) else False
    return math.isclose(a, b, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def _patients_differ(one: Dataset, other: Dataset) -> bool:
    """Whether the IDs differ, or the names, apart from spelling, order, titles and empty components."""
    if whole_text(one, "PatientID") != whole_text(other, "PatientID"):
        return True
    names, others = (_spellings(whole_text(header, "PatientName")) for header in (one, other))
    return names.isdisjoint(others)


def _spellings(name: str) -> set[tuple[str, ...]]:
    """The words of a person's name (PS3.5 6.2.1.2) without prefix and suffix, in the spellings in use.

    The first of its groups counts, which is the alphabetic one; the others only where that is empty.
    """
    alphabetic, _, rest = name.partition("=")
    components = (alphabetic if alphabetic.strip("^ ") else rest).split("^")[:3]
    folded = unicodedata.normalize("NFC", " ".join(components)).casefold()
    plain = "".join(c for c in unicodedata.normalize("NFKD", folded) if not unicodedata.combining(c))
    return {
        tuple(sorted(spelling.translate(_SEPARATORS).split()))
        for spelling in (plain, folded, unicodedata.normalize("NFKC", folded).translate(_SPELLINGS))
    }


def _pixels_differ(one: tuple[Path, list[Dataset]], other: tuple[Path, list[Dataset]]) -> bool:
    """Whether two files differ in their HU or, if they are no CT slices, in their pixel data as stored."""
    slices, others = (classify_file(path) for path, _ in (one, other))
    reader, reader_of_other = PixelReader(), PixelReader()
    if not all(isinstance(each, PlacedSlice) for each in (*slices, *others)):
        return _any_differ(one[1], other[1], _VALUES) or _raw_pixels(one[0]) != _raw_pixels(other[0])
    for a, b in zip(slices, others, strict=True):
        if not (isinstance(a, PlacedSlice) and isinstance(b, PlacedSlice)):
            return True
        shape = (a.rows, a.columns)
        hu, hu_of_other = read_plane(reader, a.image, shape), read_plane(reader_of_other, b.image, shape)
        if not np.allclose(hu, hu_of_other, rtol=_TOLERANCE, atol=_TOLERANCE_HU):
            return True
    return False


def _raw_pixels(path: Path) -> tuple[str, bytes]:
    """What cannot be decoded as a CT slice: its compression, or else "", and its bytes in little endian."""
    with open_bounded(path) as file, without_pydicom_warnings():
        dataset = dcmread(file)
    syntax = UID(whole_text(dataset.file_meta, "TransferSyntaxUID"))
    pixels = dataset.get("PixelData")
    if pixels is None:
        return "", image_hash(path).encode()
    if syntax.is_compressed and syntax.is_encapsulated:
        return str(syntax), bytes(pixels)
    if syntax == ExplicitVRBigEndian and dataset.get("BitsAllocated") == 16:
        pixels = np.frombuffer(pixels[: len(pixels) // 2 * 2], ">u2").astype("<u2").tobytes()
    return "", bytes(pixels)
