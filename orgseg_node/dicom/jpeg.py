"""Whether a lossless JPEG stream is sound enough to be handed to a decoder.

The one decoder of lossless JPEG under a permissive licence ends the whole process when the markers of a stream
are damaged. So the markers are walked here first (ISO/IEC 10918-1, B; PS3.5, 8.2.1).
"""

from __future__ import annotations

from orgseg_node.errors import UndecodablePixels

_START, _END, _SCAN, _TABLES, _LOSSLESS = 0xD8, 0xD9, 0xDA, 0xC4, 0xC3
_OTHER_FRAMES = frozenset(range(0xC0, 0xD0)) - {_LOSSLESS, _TABLES, 0xC8, 0xCC}


def check_lossless_jpeg(stream: bytes, rows: int, columns: int) -> None:
    """Walk the markers of one frame up to its scan.

    Raises
    ------
    UndecodablePixels
        If they are damaged, tell another size, or the stream has no end.
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
        raise UndecodablePixels("A JPEG stream is not of the size or depth the header tells.")


def _check_tables(body: bytes) -> None:
    while body:
        count = sum(body[1:17])
        if len(body) < 17 + count or count > 256:
            raise UndecodablePixels("The tables of a JPEG stream are damaged.")
        body = body[17 + count :]
