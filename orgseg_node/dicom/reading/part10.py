"""Received datasets as DICOM part 10 files, unchanged, and the UIDs under which they are stored.

Only four UIDs are read from a received dataset, by a parser that stops after them; only UIDs that comply with
PS3.5 9.1 become part of a path.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_file_meta_info
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from orgseg_node.dicom.objects.uids import IMPLEMENTATION_UID
from orgseg_node.dicom.reading.files import value_text
from orgseg_node.dicom.reading.limits import lacking_head
from orgseg_node.errors import (
    MissingAttribute,
    NotDicom,
    NotMatching,
    TruncatedFile,
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


def read_header(encoded: bytes, transfer_syntax: str) -> Header:
    """The UIDs of an encoded dataset; nothing after Series Instance UID (0020,000E) is read.

    Parameters
    ----------
    encoded : the dataset without file meta information
    transfer_syntax : UID of the encoding

    Raises
    ------
    NotDicom, TruncatedFile
        If the bytes cannot be parsed up to there, or end before.
    MissingAttribute
        If a UID is missing or is no UID.
    """
    complete = False
    tags = (_SOP_CLASS_UID, _SOP_INSTANCE_UID, _SERIES_INSTANCE_UID, _STUDY_INSTANCE_UID)

    def past_series_uid(tag: BaseTag, vr: str | None, length: int) -> bool:
        nonlocal complete
        del vr, length
        complete = int(tag) > _SERIES_INSTANCE_UID
        return complete

    try:
        if transfer_syntax == DeflatedExplicitVRLittleEndian:
            encoded = zlib.decompressobj(-zlib.MAX_WBITS).decompress(encoded, _HEAD_BYTES)
        dataset = read_dataset(
            BytesIO(encoded),
            is_implicit_VR=transfer_syntax == ImplicitVRLittleEndian,
            is_little_endian=transfer_syntax != ExplicitVRBigEndian,
            stop_when=past_series_uid,
            specific_tags=[BaseTag(tag) for tag in tags],
        )
        *values, study = [value_text(dataset[tag].value) if tag in dataset else "" for tag in tags]
    except Exception as error:
        raise NotDicom("The dataset cannot be parsed up to its Series Instance UID.") from error
    if not complete:
        # pydicom reads a truncated value as a shorter value: the UIDs cannot be trusted
        raise TruncatedFile("It ends before or in its Series Instance UID.")
    if not all(valid_uid(value) for value in values):
        raise MissingAttribute("SOP Class, SOP Instance or Series Instance UID is missing or not a UID.")
    return Header(sop_class_uid=values[0], sop_uid=values[1], series_uid=values[2], study_uid=study)


def part10(encoded: bytes, header: Header, transfer_syntax: str) -> bytes:
    """A part 10 file: preamble, file meta information (PS3.10 7.1) and the dataset as received.

    Parameters
    ----------
    encoded : the dataset without file meta information; it is not changed
    header : its UIDs
    transfer_syntax : UID of the encoding
    """
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(header.sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(header.sop_uid)
    meta.TransferSyntaxUID = UID(transfer_syntax)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = "ORGSEG_NODE"
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta, enforce_standard=True)
    return b"".join((b"\x00" * 128, b"DICM", buffer.getvalue(), encoded))


def split_part10(content: bytes) -> tuple[bytes, str]:
    """The encoded dataset of a file and its transfer syntax; it may lack the preamble. Raises NotDicom."""
    content = lacking_head(content[:_HEAD_BYTES]) + content
    if content[128:132] != b"DICM":
        raise NotDicom("The file is not DICOM part 10.")
    try:
        start = 144 + int.from_bytes(content[140:144], "little")
        # the group of file meta information is explicit little endian, PS3.10 7.1
        meta = read_dataset(BytesIO(content[132:start]), is_implicit_VR=False, is_little_endian=True)
        return content[start:], value_text(meta[0x00020010].value)
    except Exception as error:
        raise NotDicom("The file has no readable file meta information.") from error


def content_hash(encoded: bytes, transfer_syntax: str) -> str:
    """SHA-256 of a dataset as received, without the file meta information that the node adds."""
    digest = hashlib.sha256(transfer_syntax.encode())
    digest.update(encoded)
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
