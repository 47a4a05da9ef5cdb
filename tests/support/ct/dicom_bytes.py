"""Where things are in the bytes and in the depths of a DICOM file, for those who want to damage them."""

from __future__ import annotations

import struct
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

PIXELS = b"\xe0\x7f\x10\x00"
PIXELS_BIG = b"\x7f\xe0\x00\x10"
VRS = [b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"FD", b"FL", b"IS", b"LO", b"OB", b"OW", b"PN"]
VRS += [b"SH", b"SL", b"SQ", b"SS", b"ST", b"TM", b"UI", b"UL", b"UN", b"US", b"UT", b"OF", b"??", b"\0\0"]


class DoesNotFit(Exception):
    """This damage cannot be done to this file."""


def pixels_at(data: bytes) -> int:
    at = data.rfind(PIXELS) if PIXELS in data else data.rfind(PIXELS_BIG)
    return len(data) if at < 0 else at


def stream_at(data: bytes) -> int:
    """Where the first fragment of compressed pixel data begins."""
    at = pixels_at(data)
    if at + 28 > len(data) or data[at + 4 : at + 12] != b"OB\0\0\xff\xff\xff\xff":
        raise DoesNotFit
    (table,) = struct.unpack_from("<I", data, at + 16)
    return at + 20 + table + 8


def is_vr(data: bytes, at: int) -> bool:
    return data[at : at + 2] in VRS[:-2]


def length_fields(data: bytes) -> list[tuple[int, bool]]:
    """Places of lengths: after each value representation, and of each item."""
    found = []
    for at in range(132, min(len(data) - 12, pixels_at(data) + 12)):
        if is_vr(data, at):
            is_long = data[at : at + 2] in {b"OB", b"OW", b"OF", b"SQ", b"UN", b"UT"}
            found.append((at + 4, False) if is_long else (at + 2, True))
        elif data[at : at + 4] in {b"\xfe\xff\x00\xe0", b"\x28\x00\x10\x00", b"\x20\x00\x32\x00"}:
            found.append((at + 4, False))
    at = pixels_at(data)
    found += [(at + 4, False), (at + 8, False), (at + 16, False), (at + 24, False)]
    return [(place, short) for place, short in found if place + 4 <= len(data)] or [(0, False)]


def places_in(dataset: Dataset) -> list[tuple[Dataset, int]]:
    """Every element, at every depth, as its holder and tag."""
    found: list[tuple[Dataset, int]] = []
    for element in dataset:
        found.append((dataset, int(element.tag)))
        if element.VR == "SQ":
            for item in element.value:
                found += places_in(item)
    return found


def small_object(path: Path, sop_class: str, sop_uid: str) -> Path:
    """Write an object of a class that has little more than its UIDs; its file."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, sop_uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.100", f"{sop_uid}.1"
    dataset.PatientID = "P"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path
