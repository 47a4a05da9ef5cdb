"""Values of single attributes of an encoded dataset, found without building datasets.

A dataset of a few megabytes may hold a million empty items, for which a parser would build a million objects.
Here items and values that are not wanted are passed over, and the number of steps is limited.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from typing import BinaryIO, Final

from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

from orgseg_node.errors import NotDicom, TooManyItems, TruncatedFile

MAX_STEPS: Final = 1_000_000  # takes one or two seconds

_ENDS: Final = frozenset((0xFFFEE00D, 0xFFFEE0DD))  # of an item and of a sequence
_DELIMITERS: Final = 0xFFFE
_UNDEFINED: Final = 0xFFFFFFFF
_LONG_VR: Final = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_32)
_KNOWN_VR: Final = _LONG_VR | {vr.encode() for vr in EXPLICIT_VR_LENGTH_16}
_PIXEL_DATA: Final = 0x7FE00010
_HEADER_STEPS: Final = 5_000  # a header has some hundred elements
_LONGEST: Final = 1024  # bytes of a value that is read; a UID has 64


def find_values(
    file: BinaryIO,
    tags: Collection[int],
    *,
    is_implicit_vr: bool,
    is_little_endian: bool,
    max_steps: int = MAX_STEPS,
) -> dict[int, bytes]:
    """The values of some attributes at the top level of a dataset; nothing after the last of them is read.

    Parameters
    ----------
    file : positioned at the beginning of the dataset
    tags : of the attributes
    is_implicit_vr, is_little_endian : encoding of the dataset; a dataset in the other kind of VR is found out
    max_steps : so many elements and items are passed over at most

    Returns
    -------
    the encoded values of those that are there, by tag

    Raises
    ------
    NotDicom
        If the dataset cannot be parsed up to the last of them.
    TruncatedFile
        If it ends before an attribute that follows all of them.
    TooManyItems
        If too many elements and items come before.
    """
    last, found, depth = max(tags), dict[int, bytes](), 0
    start = file.tell()
    is_explicit = _has_vr(file.read(6)[4:], is_implicit_vr=is_implicit_vr)
    file.seek(start)
    head_of = _Heads(file, is_explicit=is_explicit, is_little_endian=is_little_endian).next
    for _ in range(max_steps):
        tag, length = head_of()
        if tag in _ENDS:
            depth -= 1
            if depth < 0:
                raise NotDicom("An item or a sequence ends that did not begin.")
            continue
        if depth == 0 and tag > last:
            return found
        if length == _UNDEFINED:
            depth += 1
        elif depth == 0 and tag in tags:
            if length > _LONGEST:
                raise NotDicom("A UID is too long.")
            found[tag] = file.read(length)
        else:
            file.seek(length, 1)
    raise TooManyItems(f"There are more than {max_steps:,} before its UIDs.")


def unknown_vrs(file: BinaryIO, *, is_little_endian: bool) -> list[int]:
    """Where in a header with explicit VR two bytes stand for a VR that are no letters, such as ``??``.

    Some systems write them for attributes that they do not know. A parser takes such an element for one with
    implicit VR, and reads a wrong length.

    Parameters
    ----------
    file : positioned at the beginning of the dataset
    is_little_endian : encoding of the dataset

    Returns
    -------
    positions of the two bytes in the file; none from where the dataset cannot be parsed
    """
    heads = _Heads(file, is_explicit=True, is_little_endian=is_little_endian)
    try:
        for _ in range(_HEADER_STEPS):
            tag, length = heads.next()
            if tag >= _PIXEL_DATA and tag >> 16 != _DELIMITERS:
                break
            if length != _UNDEFINED:
                file.seek(length, 1)
    except (TruncatedFile, ValueError):
        pass
    return heads.unknown


class _Heads:
    """Reads tag and length of one element or item after the other.

    Attributes
    ----------
    unknown : positions of two bytes that stand for a VR and are none
    """

    def __init__(self, file: BinaryIO, *, is_explicit: bool, is_little_endian: bool) -> None:
        order = "<" if is_little_endian else ">"
        self.unknown: list[int] = []
        self._file = file
        self._read = file.read
        self._is_explicit = is_explicit
        self._implicit = struct.Struct(f"{order}HHL").unpack
        self._explicit = struct.Struct(f"{order}HH2sH").unpack
        self._length = struct.Struct(f"{order}L").unpack

    def next(self) -> tuple[int, int]:
        """The next tag and length; the file is at its value then. Raises TruncatedFile at the end."""
        if len(head := self._read(8)) < 8:
            raise TruncatedFile("It ends before or in its UIDs.")
        group, element, length = self._implicit(head)
        if not self._is_explicit or group == _DELIMITERS:
            return group << 16 | element, length
        if not _has_vr(head[4:6], is_implicit_vr=False):
            if self._is_unknown_vr(group << 16 | element, head):
                self.unknown.append(self._file.tell() - 4)
                length = self._explicit(head)[3]
        else:
            length = self._explicit(head)[3]
            if head[4:6] in _LONG_VR:
                if len(rest := self._read(4)) < 4:
                    raise TruncatedFile("It ends before or in its UIDs.")
                (length,) = self._length(rest)
        return group << 16 | element, length

    def _is_unknown_vr(self, tag: int, head: bytes) -> bool:
        """Whether the length after two bytes that are no VR leads to another element with a VR."""
        length = self._explicit(head)[3]
        if not length:
            return False
        at = self._file.tell()
        self._file.seek(length, 1)
        following = self._read(8)
        self._file.seek(at)
        if len(following) < 8:
            return False
        group, element, _ = self._implicit(following)
        if group == _DELIMITERS:
            return True
        return tag < (group << 16 | element) <= _PIXEL_DATA and following[4:6] in {*_KNOWN_VR, head[4:6]}


def _has_vr(vr: bytes, *, is_implicit_vr: bool) -> bool:
    """Whether two bytes are a VR: two capital letters; without them, what the transfer syntax says."""
    if len(vr) < 2:
        return not is_implicit_vr
    return all(0x41 <= byte <= 0x5A for byte in vr)
