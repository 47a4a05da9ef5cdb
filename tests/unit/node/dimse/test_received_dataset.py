"""A large dataset goes to a file while it arrives; the file is renamed or deleted."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from orgseg_node.dicom.reading import part10
from orgseg_node.dicom.reading.part10 import EncodedFile
from orgseg_node.errors import DiskFull
from orgseg_node.node.dimse.received_dataset import ReceivedDataset

PIECE = bytes(range(256)) * 256  # 64 KB


def received(folder: Path, pieces: int, head: bytes = b"head") -> ReceivedDataset:
    dataset = ReceivedDataset(folder, head=lambda: head)
    for _ in range(pieces):
        assert dataset.write(PIECE) == len(PIECE)
    return dataset


def test_a_small_dataset_stays_in_memory(tmp_path: Path) -> None:
    assert received(tmp_path, 3).encoded == PIECE * 3
    assert not list(tmp_path.iterdir())


def test_a_large_one_is_in_a_file_behind_its_head_and_no_longer_in_memory(tmp_path: Path) -> None:
    dataset = received(tmp_path, 20)
    encoded = dataset.encoded
    assert isinstance(encoded, EncodedFile)
    assert encoded.path.read_bytes() == b"head" + PIECE * 20
    assert (encoded.start, encoded.size) == (4, 20 * len(PIECE))
    assert len(dataset.getbuffer()) == 0
    assert b"".join(part10.pieces(encoded)) == PIECE * 20
    assert part10.content_hash(encoded, "1.2") == part10.content_hash(PIECE * 20, "1.2")
    dataset.discard()
    assert not list(tmp_path.iterdir())


def test_the_file_is_renamed_if_it_has_the_right_head_and_else_copied(tmp_path: Path) -> None:
    for head, renamed in ((b"head", True), (b"else", False)):
        dataset = received(tmp_path, 20, head)
        encoded = dataset.encoded
        assert isinstance(encoded, EncodedFile)
        part10.write_part10(tmp_path / "stored.dcm", encoded, b"head")
        assert (tmp_path / "stored.dcm").read_bytes() == b"head" + PIECE * 20
        assert encoded.path.exists() is not renamed
        dataset.discard()
        assert [path.name for path in tmp_path.iterdir()] == ["stored.dcm"]


def test_a_disk_that_fills_up_while_it_arrives_is_reported_and_leaves_nothing(tmp_path: Path) -> None:
    def full() -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    dataset = ReceivedDataset(tmp_path, head=full)
    for _ in range(20):
        dataset.write(PIECE)
    with pytest.raises(DiskFull):
        _ = dataset.encoded
    assert not list(tmp_path.iterdir())
