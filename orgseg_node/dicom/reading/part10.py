"""Received datasets as DICOM part 10 files, unchanged, and the UIDs under which they are stored.

Only four UIDs are read from a received dataset, without building datasets; only UIDs that comply with PS3.5
9.1 become part of a path. A large dataset stays in its file and is read in pieces.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from orgseg_node import durable
from orgseg_node.dicom.encoded_values import find_values
from orgseg_node.dicom.objects.uids import IMPLEMENTATION_UID
from orgseg_node.dicom.reading.files import value_text
from orgseg_node.dicom.reading.limits import lacking_head
from orgseg_node.errors import (
    MissingAttribute,
    NotDicom,
    NotMatching,
)

# PS3.5 9.1: components of digits joined by dots, 64 characters at most. Leading zeros are forbidden there
# but occur; they are harmless in a path
_UID: Final = re.compile(r"\d+(\.\d+)*", re.ASCII)
_STUDY_INSTANCE_UID: Final = 0x0020000D
_SERIES_INSTANCE_UID: Final = 0x0020000E
_SOP_CLASS_UID: Final = 0x00080016
_SOP_INSTANCE_UID: Final = 0x00080018
_HEAD_BYTES: Final = 1 << 20
"""Bytes of a deflated dataset that are inflated to find the UIDs, which are at its beginning."""
_META_BYTES: Final = 65536
"""Longest file meta information; it usually has some 300 bytes."""
_PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedFile:
    """An encoded dataset in a file.

    Attributes
    ----------
    path : the file
    start : bytes before the dataset, such as file meta information
    """

    path: Path
    start: int

    @property
    def size(self) -> int:
        """Bytes of the dataset."""
        return max(0, self.path.stat().st_size - self.start)


Encoded = bytes | EncodedFile
"""A dataset without file meta information, in memory or in a file."""


def size_of(encoded: Encoded) -> int:
    """Bytes of an encoded dataset."""
    return encoded.size if isinstance(encoded, EncodedFile) else len(encoded)


@contextmanager
def _opened(encoded: Encoded) -> Iterator[BinaryIO]:
    """An encoded dataset as a file that is positioned at its beginning."""
    if not isinstance(encoded, EncodedFile):
        yield BytesIO(encoded)
        return
    with encoded.path.open("rb") as file:
        file.seek(encoded.start)
        yield file


def pieces(encoded: Encoded) -> Iterator[bytes]:
    """The bytes of an encoded dataset, in pieces."""
    if not isinstance(encoded, EncodedFile):
        yield encoded
        return
    with _opened(encoded) as file:
        while piece := file.read(_PIECE):
            yield piece


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The UIDs under which an instance is stored."""

    sop_class_uid: str
    sop_uid: str
    series_uid: str
    study_uid: str = ""


def valid_uid(text: str) -> bool:
    """Whether a text is a UID by PS3.5 9.1, and so safe in a file name."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def read_header(encoded: Encoded, transfer_syntax: str) -> Header:
    """The UIDs of an encoded dataset; nothing after Series Instance UID (0020,000E) is read.

    Parameters
    ----------
    encoded : the dataset without file meta information
    transfer_syntax : UID of the encoding

    Raises
    ------
    NotDicom, TruncatedFile, TooManyItems
        If the bytes cannot be parsed up to there, end before, or hold too many items before.
    MissingAttribute
        If a UID is missing or is no UID.
    OSError
        If the file cannot be read.
    """
    tags = (_SOP_CLASS_UID, _SOP_INSTANCE_UID, _SERIES_INSTANCE_UID, _STUDY_INSTANCE_UID)
    with _opened(encoded) as file:
        found = find_values(
            _inflated(file) if transfer_syntax == DeflatedExplicitVRLittleEndian else file,
            tags,
            is_implicit_vr=transfer_syntax == ImplicitVRLittleEndian,
            is_little_endian=transfer_syntax != ExplicitVRBigEndian,
        )
    *values, study = (
        "\\".join(part.strip(" \0") for part in found.get(tag, b"").decode("latin-1").split("\\"))
        for tag in tags
    )
    if not all(valid_uid(value) for value in values):
        raise MissingAttribute("SOP Class, SOP Instance or Series Instance UID is missing or not a UID.")
    return Header(sop_class_uid=values[0], sop_uid=values[1], series_uid=values[2], study_uid=study)


def _inflated(file: BinaryIO) -> BinaryIO:
    """The beginning of a deflated dataset (PS3.5, A.5), inflated. Raises NotDicom."""
    try:
        return BytesIO(zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(_HEAD_BYTES), _HEAD_BYTES))
    except zlib.error:
        raise NotDicom("Its deflated data are damaged.") from None


def part10(encoded: bytes, header: Header, transfer_syntax: str) -> bytes:
    """A part 10 file: preamble, file meta information (PS3.10 7.1) and the dataset as received.

    Parameters
    ----------
    encoded : the dataset without file meta information; it is not changed
    header : its UIDs
    transfer_syntax : UID of the encoding
    """
    return part10_head(header.sop_class_uid, header.sop_uid, transfer_syntax) + encoded


def part10_head(sop_class_uid: str, sop_uid: str, transfer_syntax: str) -> bytes:
    """Preamble and file meta information (PS3.10 7.1), which come before the dataset in a file.

    Parameters
    ----------
    sop_class_uid, sop_uid : SOP Class UID and SOP Instance UID of the dataset
    transfer_syntax : UID of its encoding
    """
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(sop_uid)
    meta.TransferSyntaxUID = UID(transfer_syntax)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = "ORGSEG_NODE"
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta, enforce_standard=True)
    return b"".join((b"\x00" * 128, b"DICM", buffer.getvalue()))


def write_part10(path: Path, encoded: Encoded, head: bytes) -> None:
    """Write a dataset durably as a part 10 file; one that is such a file already is renamed.

    Parameters
    ----------
    path : the new file
    encoded : the dataset
    head : what comes before it, see `part10_head`

    Raises
    ------
    DiskFull, NotDurable
        If any of it fails.
    """
    try:
        if isinstance(encoded, EncodedFile) and has_head(encoded, head):
            durable.rename_durably(encoded.path, path)
        else:
            durable.write_durably(path, chain((head,), pieces(encoded)))
    except OSError as error:  # the file with the dataset cannot be read
        raise durable.storage_error(error) from error


def has_head(encoded: Encoded, head: bytes) -> bool:
    """Whether a dataset is in a file that begins with this head, and so is a complete part 10 file."""
    if not isinstance(encoded, EncodedFile) or encoded.start != len(head):
        return False
    with encoded.path.open("rb") as file:
        return file.read(len(head)) == head


def split_part10(content: bytes) -> tuple[bytes, str]:
    """The encoded dataset of a file and its transfer syntax; it may lack the preamble. Raises NotDicom."""
    lacking, start, syntax = _split(content[:_HEAD_BYTES])
    return content[start - lacking :], syntax


def content_of(received: Encoded) -> tuple[Encoded, str]:
    """The encoded dataset of a file as received, and its transfer syntax. Raises NotDicom or OSError."""
    return open_part10(received.path) if isinstance(received, EncodedFile) else split_part10(received)


def open_part10(path: Path) -> tuple[EncodedFile, str]:
    """As `split_part10`, for a file of any size. Raises NotDicom, or OSError if it cannot be read."""
    with path.open("rb") as file:
        lacking, start, syntax = _split(file.read(_HEAD_BYTES))
    return EncodedFile(path=path, start=start - lacking), syntax


def _split(head: bytes) -> tuple[int, int, str]:
    """Of the beginning of a file how many bytes it lacks, where with these the dataset begins, its syntax."""
    lacking = lacking_head(head)
    head = lacking + head
    if head[128:132] != b"DICM":
        raise NotDicom("The file is not DICOM part 10.")
    start = 144 + int.from_bytes(head[140:144], "little")
    if start > _META_BYTES:
        raise NotDicom("Its file meta information is too long.")
    try:
        # the group of file meta information is explicit little endian, PS3.10 7.1
        meta = read_dataset(BytesIO(head[132:start]), is_implicit_VR=False, is_little_endian=True)
        return len(lacking), start, value_text(meta[0x00020010].value)
    except Exception as error:
        raise NotDicom("The file has no readable file meta information.") from error


def content_hash(encoded: Encoded, transfer_syntax: str) -> str:
    """SHA-256 of a dataset as received, without the file meta information that the node adds."""
    digest = hashlib.sha256(transfer_syntax.encode())
    for piece in pieces(encoded):
        digest.update(piece)
    return digest.hexdigest()


def require_match(header: Header, sop_class_uid: str, sop_uid: str) -> None:
    """Check that a dataset is the instance that its C-STORE request announces (PS3.4 B.2.3).

    Parameters
    ----------
    header : UIDs of the dataset
    sop_class_uid, sop_uid : Affected SOP Class and Instance UID of the request

    Raises
    ------
    NotMatching
        If it is another one.
    """
    if (header.sop_class_uid, header.sop_uid) != (sop_class_uid, sop_uid):
        raise NotMatching("The UIDs of the dataset are not those of the request.")
