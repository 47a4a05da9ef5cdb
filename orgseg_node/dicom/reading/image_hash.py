"""The hash of the content of one image, independent of its encoding.

A CT that is sent by C-STORE keeps its attributes and pixels, but rarely its bytes: senders write other file
meta information, change explicit into implicit VR, change the length encoding of sequences and drop padding
after the dataset. None of these is part of the hash. So an image has the same hash as a file in a folder and
as received from a PACS.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final, Literal

from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from orgseg_node.dicom.reading.files import whole_text, without_pydicom_warnings
from orgseg_node.dicom.reading.limits import open_bounded

_TEXT_VR: Final = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
)
_LONG_VR: Final = {b"OB", b"OW", b"UN"}  # those of pixel data with a length of four bytes in explicit VR
_PIECE: Final = 1 << 20  # bytes of pixel data read at once
_UNDEFINED: Final = 0xFFFFFFFF
_ITEM: Final = b"\xfe\xff\x00\xe0"
_PIXEL_DATA: Final = 0x7FE00010

_Element = DataElement | RawDataElement


def image_hash(path: Path) -> str:
    """SHA-256 of the attributes and the pixel data of an image.

    An uncompressed image has the same hash in implicit VR, in explicit VR little endian and deflated.
    Compressed pixel data are hashed as they are: the same image has another hash in another compression.
    Private attributes, group lengths and padding are left out; the objects hold nothing of them.

    Parameters
    ----------
    path : a DICOM part 10 file

    Returns
    -------
    64 hexadecimal digits

    Raises
    ------
    OSError, InputError
        If the file cannot be read.
    """
    with open_bounded(path) as file, without_pydicom_warnings():
        dataset = dcmread(file, stop_before_pixels=True)
        syntax = UID(whole_text(dataset.file_meta, "TransferSyntaxUID"))
        is_deflated = syntax == DeflatedExplicitVRLittleEndian
        is_plain = is_deflated or (syntax.is_little_endian and not syntax.is_compressed)
        digest = hashlib.sha256(b"" if is_plain else syntax.encode())
        if is_deflated:
            file.seek(0)
            dataset = dcmread(file)
        for part in chain(_dataset(dataset), () if is_deflated else _pixels(file, syntax)):
            digest.update(part)
    return digest.hexdigest()


def _dataset(dataset: Dataset) -> Iterator[bytes]:
    """The content of a dataset: of each attribute the tag, then the items or the length and the value."""
    for tag, element in sorted(dataset.items()):
        if tag.is_private or tag.element == 0 or tag > _PIXEL_DATA:
            continue
        yield int(tag).to_bytes(4, "big")
        vr = _vr(tag, element)
        items = _items(dataset, tag) if vr == "SQ" else None
        if items is None:
            yield from _value(element, is_text=vr in _TEXT_VR)
            continue
        yield len(items).to_bytes(8, "big")
        for item in items:
            yield from _dataset(item)
            yield b"item"


def _vr(tag: BaseTag, element: _Element) -> str | None:
    """The VR of an element; that of the data dictionary where the file does not give one."""
    if element.VR not in {None, "UN"}:
        return element.VR
    try:
        return dictionary_VR(tag)
    except KeyError:
        return element.VR


def _items(dataset: Dataset, tag: BaseTag) -> list[Dataset] | None:
    """The items of a sequence; None if they cannot be decoded."""
    try:
        return list(dataset[tag].value or ())
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  # pydicom raises many things for damaged bytes
        return None


def _value(element: _Element, *, is_text: bool) -> Iterator[bytes]:
    """Length and bytes of a value, of a text without the padding at its end."""
    value = element.value or b""
    if not isinstance(value, bytes):  # decoded already
        value = repr(value).encode()
    if is_text:
        value = value.rstrip(b" \0")
    yield len(value).to_bytes(8, "big")
    yield value


def _pixels(file: BinaryIO, syntax: UID) -> Iterator[bytes]:
    """Tag, length and bytes of the pixel data at which a file is positioned, piece by piece."""
    head = file.read(8)
    if len(head) < 8:
        return
    order: Literal["little", "big"] = "little" if syntax.is_little_endian else "big"
    has_vr = not syntax.is_implicit_VR and head[4:6] in _LONG_VR
    length = int.from_bytes(file.read(4) if has_vr else head[4:], order)
    yield _PIXEL_DATA.to_bytes(4, "big")
    if length != _UNDEFINED:
        yield length.to_bytes(8, "big")
        yield from _pieces(file, length)
        return
    while (item := file.read(8))[:4] == _ITEM and len(item) == 8:  # fragments, PS3.5 A.4
        length = int.from_bytes(item[4:], "little")
        yield length.to_bytes(8, "big")
        yield from _pieces(file, length)


def _pieces(file: BinaryIO, length: int) -> Iterator[bytes]:
    while length > 0 and (piece := file.read(min(length, _PIECE))):
        yield piece
        length -= len(piece)
