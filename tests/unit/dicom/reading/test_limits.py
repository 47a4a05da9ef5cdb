"""No file takes more memory than it has reason to."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from orgseg_node.dicom.reading.limits import MAX_SIDE, MAX_VOXELS, check_size, open_bounded
from orgseg_node.errors import TooLarge, TruncatedFile
from tests.support.ct.phantom import PhantomOptions, build_ct_series

DEFLATED = PhantomOptions(slices=1, transfer_syntax=DeflatedExplicitVRLittleEndian)


def _repacked(path: Path, more: bytes) -> None:
    """Put more in front of the pixel data of a deflated file."""
    data = path.read_bytes()
    start = 144 + int(dcmread(path).file_meta.FileMetaInformationGroupLength)
    honest = zlib.decompress(data[start:], -zlib.MAX_WBITS)
    at = honest.rindex(b"\xe0\x7f\x10\x00")
    element = b"\x09\x00\x10\x10OB\0\0" + len(more).to_bytes(4, "little") + more
    pack = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    path.write_bytes(data[:start] + pack.compress(honest[:at] + element + honest[at:]) + pack.flush())


def test_a_file_never_gives_more_than_it_has(tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(b"12345")
    with open_bounded(path) as file:
        assert file.read(2) == b"12"
        assert file.read(2**62) == b"345", "a file object would try to get so much memory"
        assert file.tell() == 5


def test_an_honest_deflated_file_is_read(tmp_path: Path) -> None:
    (path,) = build_ct_series(tmp_path, DEFLATED)
    with open_bounded(path) as file:
        assert dcmread(file).Rows == DEFLATED.rows


def test_moderate_growth_is_no_reason_to_refuse(tmp_path: Path) -> None:
    (path,) = build_ct_series(tmp_path, DEFLATED)
    _repacked(path, bytes(8_000_000))
    with open_bounded(path) as file:
        assert len(dcmread(file)[0x00091010].value) == 8_000_000


def test_a_deflate_bomb_is_refused(tmp_path: Path) -> None:
    (path,) = build_ct_series(tmp_path, DEFLATED)
    _repacked(path, bytes(80_000_000))
    assert path.stat().st_size < 200_000
    with pytest.raises(TooLarge), open_bounded(path):
        pass


@pytest.mark.parametrize("end", [-1, -100])
def test_deflated_data_without_an_end_are_refused(end: int, tmp_path: Path) -> None:
    (path,) = build_ct_series(tmp_path, DEFLATED)
    path.write_bytes(path.read_bytes()[: end * 2])
    with pytest.raises(TruncatedFile), open_bounded(path):
        pass


def test_damaged_deflated_data_are_refused(tmp_path: Path) -> None:
    (path,) = build_ct_series(tmp_path, DEFLATED)
    data = path.read_bytes()
    path.write_bytes(data[:-600] + b"\xff" * 600)
    with pytest.raises(TruncatedFile), open_bounded(path):
        pass


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    with pytest.raises(TruncatedFile), open_bounded(path):
        pass


def test_sizes_of_real_scanners_are_let_through_and_absurd_ones_are_not() -> None:
    check_size(1000, 512, 512)
    check_size(MAX_VOXELS // MAX_SIDE**2, MAX_SIDE, MAX_SIDE)
    for slices, rows, columns in ((1, MAX_SIDE + 1, 1), (1, 1, 65535), (20_000, 512, 512)):
        with pytest.raises(TooLarge):
            check_size(slices, rows, columns)
