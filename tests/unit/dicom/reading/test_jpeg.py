"""Whether a compressed stream may be handed to a decoder."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.encaps import get_frame
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1

from orgseg_node.dicom.reading.jpeg import check_jpeg_2000, check_lossless_jpeg
from orgseg_node.errors import LossyCompression, UndecodablePixels
from tests.support.ct.phantom import PhantomOptions, build_ct_series

Check = Callable[[bytes, int, int], None]
BOTH = pytest.mark.parametrize(
    ("check", "syntax"), [(check_lossless_jpeg, JPEGLosslessSV1), (check_jpeg_2000, JPEG2000Lossless)]
)


def stream(folder: Path, syntax: str) -> bytes:
    """The codestream of one slice of 20 rows and 24 columns."""
    options = PhantomOptions(slices=1, rows=20, columns=24, transfer_syntax=syntax)
    (path,) = build_ct_series(folder, options)
    return get_frame(dcmread(path).PixelData, 0, number_of_frames=1)


@BOTH
def test_a_sound_stream_passes(tmp_path: Path, check: Check, syntax: str) -> None:
    check(stream(tmp_path, syntax), 20, 24)


@BOTH
def test_another_size_is_refused(tmp_path: Path, check: Check, syntax: str) -> None:
    with pytest.raises(UndecodablePixels, match="size"):
        check(stream(tmp_path, syntax), 24, 20)


@BOTH
def test_a_stream_that_is_cut_anywhere_is_refused(tmp_path: Path, check: Check, syntax: str) -> None:
    sound = stream(tmp_path, syntax).rstrip(b"\0")
    for length in range(0, len(sound) - 1, 11):
        with pytest.raises(UndecodablePixels):
            check(sound[:length], 20, 24)


@BOTH
def test_damaged_markers_are_refused_and_never_stall(tmp_path: Path, check: Check, syntax: str) -> None:
    sound, chance = stream(tmp_path, syntax), random.Random(4)
    for _ in range(500):
        damaged = bytearray(sound)
        damaged[chance.randrange(60)] = chance.randrange(256)
        try:
            check(bytes(damaged), 20, 24)
        except (UndecodablePixels, LossyCompression):
            continue


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\xff\xc3", b"\xff\xc0"),  # a baseline frame
        (b"\xff\xc3", b"\xff\xee"),  # no frame at all
        (b"\xff\xc4", b"\xff\xee"),  # no tables
        (b"\xff\xda\x00\x08\x01", b"\xff\xda\x00\x08\x02"),  # a scan of two components
    ],
)
def test_a_lossless_jpeg_needs_its_frame_tables_and_scan(tmp_path: Path, old: bytes, new: bytes) -> None:
    sound = stream(tmp_path, JPEGLosslessSV1)
    assert old in sound
    with pytest.raises(UndecodablePixels):
        check_lossless_jpeg(sound.replace(old, new), 20, 24)


def test_tables_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    sound = bytearray(stream(tmp_path, JPEGLosslessSV1))
    sound[sound.index(b"\xff\xc4") + 5] = 255
    with pytest.raises(UndecodablePixels, match="tables"):
        check_lossless_jpeg(bytes(sound), 20, 24)


def test_an_irreversible_jpeg_2000_is_lossy_whatever_the_header_says(tmp_path: Path) -> None:
    sound = bytearray(stream(tmp_path, JPEG2000Lossless))
    coding = sound.index(b"\xff\x52")
    assert sound[coding + 13] == 1
    sound[coding + 13] = 0
    with pytest.raises(LossyCompression):
        check_jpeg_2000(bytes(sound), 20, 24)


def test_a_jpeg_2000_stream_needs_its_size_and_sane_tiles(tmp_path: Path) -> None:
    sound = stream(tmp_path, JPEG2000Lossless)
    with pytest.raises(UndecodablePixels, match="header"):
        check_jpeg_2000(sound.replace(b"\xff\x52", b"\xff\x64", 1), 20, 24)
    tiles = bytearray(sound)
    tiles[24:32] = b"\0" * 8
    with pytest.raises(UndecodablePixels, match="tiles"):
        check_jpeg_2000(bytes(tiles), 20, 24)
