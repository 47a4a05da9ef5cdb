"""Opens files, with limits on the memory that they may use, whatever their header states.

Lengths in a damaged or hostile file can request gigabytes that the file does not hold, a few kilobytes of
compressed data can inflate to any size, and a parser builds an object of several hundred bytes for an empty
item of eight. So reads are limited to the size of the file and in their number, and the inflated size is
measured before a dataset is inflated.

Some planning systems write datasets without preamble, prefix and file meta information, although PS3.10
requires them (7.1). They are read as if they had them.
"""

from __future__ import annotations

import errno
import io
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, VR

from orgseg_node.dicom.encoded_values import unknown_vrs
from orgseg_node.errors import TooLarge, TooManyItems, TruncatedFile

MAX_SIDE: Final = 4096
"""Rows or columns of one image; the largest CT matrix in use is 2048."""

MAX_VOXELS: Final = 2**32
"""Voxels of a series: 1024 slices of 2048 x 2048, or 16384 of 512 x 512."""

_INFLATED_BYTES: Final = 16 * 2**20  # a slice may be all air, which zlib compresses 1000 times
_INFLATED_TIMES: Final = 32  # a whole CT is compressed 4 to 10 times
_MOST_ITEMS: Final = 50_000  # a header has some 500 elements; 4,000 references to images need 30,000 reads
_BYTES_A_READ: Final = 1000  # a frame of 512 x 512 needs some 200 reads of its functional groups
_BYTES_AN_ITEM: Final = 100  # the functional groups of a frame have some 150 bytes for each item
_ITEMS: Final = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")  # in both byte orders
_LONGEST_SHORT: Final = 0xFFFF  # bytes of a value whose VR has a length of 16 bits in explicit VR
_PIECE: Final = 2**20
_DEFLATED: Final = DeflatedExplicitVRLittleEndian.encode()
_HEAD: Final = 65536  # bytes within which the file meta information ends
_PREAMBLE: Final = bytes(128)
_DICM: Final = b"DICM"
_PREFIX: Final = 132  # bytes of preamble and prefix
_GROUP_2, _GROUP_8, _GROUP_8_BIG_ENDIAN = b"\2\0", b"\x08\0", b"\0\x08"
_SOP_CLASS_UID: Final = 0x00080016
_VR: Final = frozenset(vr.value.encode() for vr in VR if len(vr.value) == 2)
_DELIMITERS: Final = (b"\xfe\xff", b"\xff\xfe")
_PIXEL_GROUP: Final = {"little": b"\xe0\x7f", "big": b"\x7f\xe0"}
_UNDEFINED: Final = 0xFFFFFFFF
_UNKNOWN_VR: Final = b"ZZ"  # a parser reads it with a length of two bytes and leaves its value alone
_LONG_VR: Final = frozenset((b"OB", b"OW", b"UN", b"UT", b"SQ", b"OF", b"OD", b"OL", b"OV", b"UC", b"UR"))


class _Completed(io.RawIOBase):
    """A file, with the bytes before it that it lacks, and with VRs where it has none.

    Parameters
    ----------
    path : the file
    lacking : the bytes that are read before those of the file
    unknown_vrs : positions, with `lacking`, of two bytes in place of which `_UNKNOWN_VR` is read
    """

    def __init__(self, path: Path, lacking: bytes, unknown_vrs: Sequence[int] = ()) -> None:
        super().__init__()
        self.name = str(path)
        self._file = io.FileIO(path)
        self._lacking = lacking
        self._unknown_vrs = unknown_vrs
        self._at = 0
        self._size = len(lacking) + os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def seekable(self) -> bool:
        """Whether it can be positioned."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to a position from the start, from the current one or from the end."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer; the number of bytes."""
        view = memoryview(buffer).cast("B")
        if self._at < len(self._lacking):
            part = self._lacking[self._at : self._at + len(view)]
            view[: len(part)] = part
            count = len(part)
        else:
            self._file.seek(self._at - len(self._lacking))
            count = self._file.readinto(view) or 0
        for position in self._unknown_vrs:
            for at, letter in enumerate(_UNKNOWN_VR, start=position - self._at):
                if 0 <= at < count:
                    view[at] = letter
        self._at += count
        return count


class BoundedFile(io.BufferedReader):
    """A file that never allocates more than it holds, and is not read too often.

    A parser reads at least once for each element and item, so this limits how many it can build.

    Parameters
    ----------
    path : the file
    lacking : bytes that the file should begin with and does not have; see `lacking_head`
    unknown_vrs : positions of two bytes that stand for a VR and are none; a parser gets a VR that is unknown
    """

    def __init__(self, path: Path, lacking: bytes = b"", unknown_vrs: Sequence[int] = ()) -> None:
        raw = _Completed(path, lacking, unknown_vrs) if lacking or unknown_vrs else io.FileIO(path)
        super().__init__(raw)
        self.size = len(lacking) + path.stat().st_size
        self._reads_left = _MOST_ITEMS + self.size // _BYTES_A_READ

    def read(self, size: int | None = -1, /) -> bytes:
        """The requested number of bytes, or what is left. Raises TooManyItems after too many reads."""
        self._reads_left -= 1
        if self._reads_left < 0:
            raise TooManyItems
        if size is not None and size > _PIECE:
            size = min(size, max(0, self.size - self.tell()))
        return super().read(size)


@contextmanager
def open_bounded(path: Path) -> Iterator[BoundedFile]:
    """Open a file for reading; no length in it can allocate more memory than the file has bytes.

    A dataset without preamble, prefix or file meta information is read as if it had them.

    Raises
    ------
    TruncatedFile
        If the file is empty, or its deflated data are damaged or have no end.
    TooLarge
        If its deflated data would inflate to an implausible size.
    OSError
        If it cannot be opened.
    """
    with path.open("rb") as start:
        head = start.read(_HEAD)
        if not head:
            raise TruncatedFile("A file is empty.")
        lacking = lacking_head(head)
        head = lacking + head
        dataset_at = _dataset_at(head)
        unknown = _unknown_vrs(start, head, dataset_at, len(lacking))
    with BoundedFile(path, lacking, unknown) as file:
        if dataset_at > max(len(head), _PREFIX):
            raise TruncatedFile("Its file meta information has no end.")
        if _DEFLATED in head[:dataset_at]:
            file.seek(dataset_at)
            _check_inflated(file.read())
        file.seek(0)
        yield file


def _unknown_vrs(file: BinaryIO, head: bytes, dataset_at: int, lacking: int) -> list[int]:
    """Positions of VRs that are none in a file with explicit VR.

    Parameters
    ----------
    file : the file
    head : its first bytes, behind those that it lacks
    dataset_at : where in these the dataset begins
    lacking : number of bytes that it lacks
    """
    if head[dataset_at + 4 : dataset_at + 6] not in _VR or _DEFLATED in head[:dataset_at]:
        return []
    if _has_only_vrs(head, dataset_at):
        return []
    file.seek(dataset_at - lacking)
    is_little_endian = head[dataset_at : dataset_at + 2] != _GROUP_8_BIG_ENDIAN[:2]
    return [at + lacking for at in unknown_vrs(file, is_little_endian=is_little_endian)]


def _has_only_vrs(head: bytes, at: int) -> bool:
    """Whether all elements up to the pixel data have a VR; False if the pixel data begin behind these bytes.

    Parameters
    ----------
    head : the first bytes of a file with explicit VR
    at : where its dataset begins
    """
    order: Literal["little", "big"] = "little" if head[at : at + 2] == _GROUP_8 else "big"
    pixels = _PIXEL_GROUP[order]
    while (group := head[at : at + 2]) != pixels:
        vr = head[at + 4 : at + 6]
        if group in _DELIMITERS:
            at += 8  # into the item
        elif vr in _LONG_VR:
            length = int.from_bytes(head[at + 8 : at + 12], order)
            at += 12 + (length if length != _UNDEFINED else 0)
        elif vr in _VR:
            at += 8 + int.from_bytes(head[at + 6 : at + 8], order)
        else:
            return False
    return True


def lacking_head(head: bytes) -> bytes:
    """The preamble, prefix and file meta information (PS3.10, 7.1) that a dataset lacks.

    Parameters
    ----------
    head : the first bytes of the file, some thousand if it has them

    Returns
    -------
    the bytes to be put before it; none if it lacks nothing, or if it does not begin like a DICOM dataset
    """
    if head[len(_PREAMBLE) : _PREFIX] == _DICM:
        return b""
    if head.startswith(_DICM):
        return _PREAMBLE
    if head.startswith(_GROUP_2) and head[4:6] in _VR:
        return _PREAMBLE + _DICM
    syntax = _syntax_of(head)
    if syntax is None or not _names_class(head, syntax):
        return b""
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    element = b"\2\0\x10\0UI" + len(value).to_bytes(2, "little") + value
    return _PREAMBLE + _DICM + b"\2\0\0\0UL\4\0" + len(element).to_bytes(4, "little") + element


def _syntax_of(head: bytes) -> str | None:
    """The transfer syntax of a dataset that begins with group 0008; None if it does not."""
    has_vr = head[4:6] in _VR
    if head.startswith(_GROUP_8):
        return ExplicitVRLittleEndian if has_vr else ImplicitVRLittleEndian
    return ExplicitVRBigEndian if has_vr and head.startswith(_GROUP_8_BIG_ENDIAN) else None


def _names_class(head: bytes, syntax: str) -> bool:
    """Whether a dataset names a SOP class, in the order of tags; no other file does by chance."""
    try:
        dataset = read_dataset(
            io.BytesIO(head),
            is_implicit_VR=syntax == ImplicitVRLittleEndian,
            is_little_endian=syntax != ExplicitVRBigEndian,
            stop_when=lambda tag, _vr, _length: tag > _SOP_CLASS_UID,
        )
        uid = str(dataset[_SOP_CLASS_UID].value)
    except Exception:  # noqa: BLE001  # bytes of another format make the parser raise any exception
        return False
    return uid.replace(".", "").isdecimal()


def check_size(slices: int, rows: int, columns: int) -> None:
    """Refuse a volume, or with one slice an image, that is larger than any CT scanner makes.

    Parameters
    ----------
    slices : number of slices
    rows, columns : pixels of a slice

    Raises
    ------
    TooLarge
        If a side is longer than `MAX_SIDE`, or there are more than `MAX_VOXELS`.
    """
    if max(rows, columns) > MAX_SIDE:
        raise TooLarge(f"The header states images of {rows} x {columns} pixels.")
    if slices * rows * columns > MAX_VOXELS:
        raise TooLarge(f"The headers give {slices} slices of {rows} x {columns} pixels.")


def _dataset_at(head: bytes) -> int:
    """Offset of the dataset after the file meta information, which is explicit VR (PS3.10, 7.1)."""
    at = _PREFIX
    while head[at : at + 2] == b"\2\0":
        if head[at + 4 : at + 6] in _LONG_VR:
            at += 12 + int.from_bytes(head[at + 8 : at + 12], "little")
        else:
            at += 8 + int.from_bytes(head[at + 6 : at + 8], "little")
    return at


def _check_inflated(packed: bytes) -> None:
    """Refuse a deflated dataset (PS3.5, A.5) that inflates to too much or has too many items.

    At most 16 MB or 32 times its size are plausible.
    """
    most = max(_INFLATED_BYTES, _INFLATED_TIMES * len(packed))
    inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    size, items, rest, piece = 0, 0, packed, b"more"
    try:
        while piece and not inflate.eof:
            piece = inflate.decompress(rest, _PIECE)
            rest = inflate.unconsumed_tail
            size += len(piece)
            items += _items_in(piece)
            _limit_items(items, size)
            if size > most:
                raise TooLarge("The deflated data of a file inflate to an implausible size.")
    except zlib.error:
        raise TruncatedFile("Its deflated data are damaged.") from None
    if not inflate.eof:
        raise TruncatedFile("Its deflated data have no end.")


def limit_values(dataset: Dataset) -> None:
    """Remove values of more than 64 KB whose VR allows less, and refuse sequences with too many items.

    Neither is decoded yet; decoded, a million numbers or items fill the memory.

    Raises
    ------
    TooManyItems
        If there are more than in any header that a scanner writes.
    """
    for tag, element in list(dataset.items()):
        if not isinstance(element, RawDataElement) or len(element.value or b"") <= _LONGEST_SHORT:
            continue
        known = element.VR in {None, "UN"} and dictionary_has_tag(tag)
        vr, value = dictionary_VR(tag) if known else element.VR, element.value or b""
        if vr in EXPLICIT_VR_LENGTH_16:
            del dataset[tag]
        elif vr == "SQ":
            _limit_items(_items_in(value), len(value))


def _items_in(data: bytes) -> int:
    return sum(map(data.count, _ITEMS))


def _limit_items(items: int, size: int) -> None:
    if items > _MOST_ITEMS + size // _BYTES_AN_ITEM:
        raise TooManyItems
