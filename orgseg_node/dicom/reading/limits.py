"""Limits on the memory that a file may use, whatever its header states.

Lengths in a damaged or hostile file can request gigabytes that the file does not hold, and a few kilobytes of
compressed data can inflate to any size. So reads are limited to the size of the file, and the inflated size
is measured before a dataset is inflated.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydicom.uid import DeflatedExplicitVRLittleEndian

from orgseg_node.errors import TooLarge, TruncatedFile

MAX_SIDE: Final = 4096
"""Rows or columns of one image; the largest CT matrix in use is 2048."""

MAX_VOXELS: Final = 2**32
"""Voxels of a series: 1024 slices of 2048 x 2048, or 16384 of 512 x 512."""

_INFLATED_BYTES: Final = 16 * 2**20  # a slice may be all air, which zlib compresses 1000 times
_INFLATED_TIMES: Final = 32  # a whole CT is compressed 4 to 10 times
_PIECE: Final = 2**20
_DEFLATED: Final = DeflatedExplicitVRLittleEndian.encode()
_HEAD: Final = 65536  # bytes within which the file meta information ends
_PREFIX: Final = 132  # bytes of preamble and prefix
_LONG_VR: Final = frozenset((b"OB", b"OW", b"UN", b"UT", b"SQ", b"OF", b"OD", b"OL", b"OV", b"UC", b"UR"))


class _Bounded(io.BufferedReader):
    """A file that never allocates more than it holds, however many bytes are requested."""

    def read(self, size: int | None = -1, /) -> bytes:
        """The requested number of bytes, or what is left."""
        if size is not None and size > _PIECE:
            size = min(size, max(0, os.fstat(self.fileno()).st_size - self.tell()))
        return super().read(size)


@contextmanager
def open_bounded(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file for reading; no length in it can allocate more memory than the file has bytes.

    Raises
    ------
    TruncatedFile
        If the file is empty, or its deflated data are damaged or have no end.
    TooLarge
        If its deflated data would inflate to an implausible size.
    OSError
        If it cannot be opened.
    """
    with _Bounded(io.FileIO(path)) as file:
        head = file.read(_HEAD)
        if not head:
            raise TruncatedFile("A file is empty.")
        dataset_at = _dataset_at(head)
        if dataset_at > max(len(head), _PREFIX):
            raise TruncatedFile("Its file meta information has no end.")
        if _DEFLATED in head[:dataset_at]:
            file.seek(dataset_at)
            _check_inflated(file.read())
        file.seek(0)
        yield file


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
    """Refuse a deflated dataset (PS3.5, A.5) that inflates to more than 16 MB and 32 times its size."""
    most = max(_INFLATED_BYTES, _INFLATED_TIMES * len(packed))
    inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    size, rest, piece = 0, packed, b"more"
    try:
        while piece and not inflate.eof:
            piece = inflate.decompress(rest, _PIECE)
            rest = inflate.unconsumed_tail
            size += len(piece)
            if size > most:
                raise TooLarge("The deflated data of a file inflate to an implausible size.")
    except zlib.error:
        raise TruncatedFile("Its deflated data are damaged.") from None
    if not inflate.eof:
        raise TruncatedFile("Its deflated data have no end.")
