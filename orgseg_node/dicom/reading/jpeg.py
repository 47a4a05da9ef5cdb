"""Checks the markers of a compressed stream before it is given to a decoder.

The decoders of lossless JPEG and JPEG 2000 may end or stall the whole process if the markers of a stream
are damaged. So the markers are parsed here first (ISO/IEC 10918-1, B; ISO/IEC 15444-1, A; PS3.5, 8.2).
"""

from __future__ import annotations

from orgseg_node.errors import LossyCompression, UndecodablePixels

_START, _END, _SCAN, _TABLES, _LOSSLESS = 0xD8, 0xD9, 0xDA, 0xC4, 0xC3
_CODESTREAM, _SIZE, _CODING, _TILE = 0x4F, 0x51, 0x52, 0x90
_OTHER_FRAMES = frozenset(range(0xC0, 0xD0)) - {_LOSSLESS, _TABLES, 0xC8, 0xCC}


def check_lossless_jpeg(stream: bytes, rows: int, columns: int) -> None:
    """Check the markers of a lossless JPEG stream up to its scan.

    Parameters
    ----------
    stream : one frame, from the Start of Image to the End of Image marker
    rows, columns : size in pixels as in the DICOM header

    Raises
    ------
    UndecodablePixels
        If the markers are damaged, state another size, or the stream has no end.
    """
    if stream[:2] != bytes((0xFF, _START)) or stream.rstrip(b"\0")[-2:] != bytes((0xFF, _END)):
        raise UndecodablePixels("A JPEG stream has no start or no end.")
    has_frame = has_tables = False
    at = 2
    while True:
        marker, body, at = _segment(stream, at)
        if marker == _LOSSLESS:
            _check_frame(body, rows, columns)
            has_frame = True
        elif marker == _TABLES:
            _check_tables(body)
            has_tables = True
        elif marker == _SCAN:
            break
        elif marker in _OTHER_FRAMES or marker < 0xC0:
            raise UndecodablePixels("A JPEG stream is not a lossless one.")
    if not (has_frame and has_tables) or len(body) != 6 or body[0] != 1:
        raise UndecodablePixels("A JPEG stream has no complete header.")


def _segment(stream: bytes, at: int) -> tuple[int, bytes, int]:
    length = int.from_bytes(stream[at + 2 : at + 4], "big")
    end = at + 2 + length
    if stream[at : at + 1] != b"\xff" or length < 2 or end > len(stream):
        raise UndecodablePixels("The markers of a JPEG stream are damaged.")
    return stream[at + 1], stream[at + 4 : end], end


def _check_frame(body: bytes, rows: int, columns: int) -> None:
    size = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    if len(body) != 9 or size != (rows, columns) or body[5] != 1 or not 2 <= body[0] <= 16:
        raise UndecodablePixels("A JPEG stream does not have the size or bit depth of the header.")


def _check_tables(body: bytes) -> None:
    while body:
        count = sum(body[1:17])
        if len(body) < 17 + count or count > 256:
            raise UndecodablePixels("The tables of a JPEG stream are damaged.")
        body = body[17 + count :]


def check_jpeg_2000(stream: bytes, rows: int, columns: int) -> None:
    """Check the markers of a JPEG 2000 codestream up to its first tile.

    Parameters
    ----------
    stream : one frame, from the Start of Codestream to the End of Codestream marker
    rows, columns : size in pixels as in the DICOM header

    Raises
    ------
    UndecodablePixels
        If the markers are damaged, state another size, or the stream has no end.
    LossyCompression
        If the wavelet transform is the irreversible one, which is lossy whatever the header states.
    """
    if stream[:2] != bytes((0xFF, _CODESTREAM)) or stream.rstrip(b"\0")[-2:] != bytes((0xFF, _END)):
        raise UndecodablePixels("A JPEG 2000 stream has no start or no end.")
    found: dict[int, bytes] = {}
    marker, at = 0, 2
    while marker != _TILE:
        marker, body, at = _segment(stream, at)
        found[marker] = body
    if len(found.get(_SIZE, b"")) != 39 or len(found.get(_CODING, b"")) < 10:
        raise UndecodablePixels("A JPEG 2000 stream has no complete header.")
    _check_size(found[_SIZE], rows, columns)
    if found[_CODING][9] == 0:
        raise LossyCompression


def _check_size(body: bytes, rows: int, columns: int) -> None:
    width, height, left, top, tile_width, tile_height = (
        int.from_bytes(body[n : n + 4], "big") for n in range(2, 26, 4)
    )
    components, depth = int.from_bytes(body[34:36], "big"), (body[36] & 0x7F) + 1
    tiles = (width / tile_width) * (height / tile_height) if tile_width and tile_height else 0
    if (height - top, width - left) != (rows, columns) or components != 1 or depth > 16:
        raise UndecodablePixels("A JPEG 2000 stream does not have the size or bit depth of the header.")
    if not 0 < tiles <= rows * columns or body[37:39] != b"\1\1":
        raise UndecodablePixels("The tiles of a JPEG 2000 stream are damaged.")
