"""Files and folders are complete or not there, whatever goes wrong while they are written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from orgseg_node import durable
from orgseg_node.errors import DiskFull, NotDurable
from tests.support.small_disk import small_disk


def test_a_file_is_complete_readable_as_the_umask_allows_and_leaves_no_part(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        durable.write_durably(tmp_path / "a.dcm", b"x" * 100_000)
    finally:
        os.umask(before)
    assert (tmp_path / "a.dcm").read_bytes() == b"x" * 100_000
    assert (tmp_path / "a.dcm").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["a.dcm"]


def test_a_folder_that_is_not_there_is_not_durable(tmp_path: Path) -> None:
    with pytest.raises(NotDurable):
        durable.write_durably(tmp_path / "absent" / "a.dcm", b"x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_no_space_is_reported_as_a_full_disk() -> None:
    with (
        pytest.raises(OSError, match="No space") as caught,
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")
    assert isinstance(durable.storage_error(caught.value), DiskFull)


def test_too_little_space_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    durable.require_space(tmp_path, 0)
    with pytest.raises(DiskFull, match="the limit is"):
        durable.require_space(tmp_path, 10**9)
    with pytest.raises(NotDurable):
        durable.require_space(tmp_path / "absent", 0)


def test_a_streamed_file_replaces_the_old_one_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "labels.nii.gz"
    for content in ("first", "second"):
        with durable.atomic_file(path) as part:
            assert part.name.endswith(".labels.nii.gz"), "libraries choose the format by the ending"
            part.write_text(content)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == content
    assert [found.name for found in path.parent.iterdir()] == ["labels.nii.gz"]


def stop_half_way(path: Path, error: BaseException) -> None:
    with durable.atomic_file(path) as part:
        part.write_text("half")
        raise error


def stop_in_folder(path: Path, error: BaseException) -> None:
    with durable.atomic_folder(path) as part:
        (part / "inner").mkdir()
        (part / "inner" / "file").write_text("half")
        raise error


FAULTS = [
    (OSError(errno.ENOSPC, "No space left on device"), DiskFull),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), DiskFull),
    (PermissionError(errno.EACCES, "Permission denied"), NotDurable),
    (KeyboardInterrupt(), KeyboardInterrupt),
]


@pytest.mark.parametrize(("error", "raised"), FAULTS)
def test_a_streamed_file_that_fails_leaves_the_old_one_and_no_part(
    tmp_path: Path, error: BaseException, raised: type[BaseException]
) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(raised):
        stop_half_way(path, error)
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("file", "old")]


def test_a_library_that_gives_no_reason_on_a_full_disk_has_met_the_full_disk(tmp_path: Path) -> None:
    fault = RuntimeError("wrote only 0 of 8000000 bytes")
    with pytest.raises(RuntimeError):
        stop_half_way(tmp_path / "file", fault)
    with small_disk(tmp_path / "disk", 64) as disk:
        for stop in (stop_half_way, stop_in_folder):
            with pytest.raises(DiskFull):
                stop(disk / "file", fault)
            assert list(disk.iterdir()) == []


@pytest.mark.parametrize(("error", "raised"), FAULTS)
def test_a_folder_that_fails_leaves_nothing(
    tmp_path: Path, error: BaseException, raised: type[BaseException]
) -> None:
    with pytest.raises(raised):
        stop_in_folder(tmp_path / "folder", error)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_complete_with_its_mode_and_takes_the_place_of_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder"
    path.mkdir(parents=True)
    with durable.atomic_folder(path, 0o700) as part:
        (part / "file").write_text("x")
        assert list(path.iterdir()) == []
    assert (path / "file").read_text() == "x"
    assert path.stat().st_mode & 0o777 == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_with_content_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "first").touch()
    with pytest.raises(NotDurable), durable.atomic_folder(path) as part:
        (part / "second").touch()
    assert [found.name for found in path.iterdir()] == ["first"]
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_moved_has_one_place_and_what_is_missing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "file").write_text("x")
    durable.move_durably(tmp_path / "a" / "file", tmp_path / "b" / "file")
    assert (tmp_path / "b" / "file").read_text() == "x"
    assert list((tmp_path / "a").iterdir()) == []
    with pytest.raises(NotDurable):
        durable.move_durably(tmp_path / "a" / "file", tmp_path / "b" / "file")
