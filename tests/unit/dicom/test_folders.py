"""Which files a folder has."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from orgseg_node.dicom.folders import files_or_unreadable
from orgseg_node.dicom.reading.series import files_in, survey


def _touch(root: Path, *names: str) -> list[Path]:
    paths = [root / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


def test_all_files_by_name_without_hidden_ones_pipes_and_broken_links(tmp_path: Path) -> None:
    wanted = _touch(tmp_path, "a/2", "a/b/1", "c")
    _touch(tmp_path, ".hidden/1", "a/.2")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    assert files_in(tmp_path) == wanted
    assert files_in(tmp_path / "c") == [tmp_path / "c"]


def test_a_folder_that_cannot_be_listed_is_refused_and_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _touch(tmp_path, "a/1", "b/1")
    scandir = os.scandir

    def guarded(path: Any) -> Any:
        if Path(path) == tmp_path / "a":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert files_in(tmp_path) == [tmp_path / "a", tmp_path / "b" / "1"]
    (refusal, _) = survey(files_in(tmp_path)).refused
    assert (refusal.error.code, refusal.paths) == ("INPUT_UNREADABLE", (tmp_path / "a",))
    assert "cannot be listed" in refusal.error.sentence


def test_a_folder_whose_files_may_only_be_named_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the right to enter a folder, asking what a file is fails; opening it says why."""
    (path,) = _touch(tmp_path, "a/1")

    def refused(_: Path) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "is_file", refused)
    assert list(files_or_unreadable(tmp_path)) == [path]
