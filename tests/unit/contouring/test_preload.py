"""What was read in the quiet time counts for the very same files and content, for no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orgseg_node.contouring.preload import Ahead
from orgseg_node.core.body import find_body
from orgseg_node.dicom.reading.reader import read_volume
from orgseg_node.dicom.reading.series import read_series
from tests.support.ct.phantom import PhantomOptions, build_ct_series


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build_ct_series(tmp_path / "ct", PhantomOptions(slices=12))
    return tmp_path / "ct"


def test_it_finds_what_the_job_would_find_and_hands_it_over_once(folder: Path) -> None:
    ahead, series = Ahead(), read_series(folder)
    ahead.look(folder)
    seen = ahead.seen(list(folder.iterdir()), series.content_sha256)
    assert seen is not None
    volume = read_volume(series)
    np.testing.assert_array_equal(seen.volume.hu, volume.hu)
    np.testing.assert_array_equal(seen.body.mask, find_body(volume).mask)
    assert seen.series.content_sha256 == series.content_sha256
    assert ahead.seen(folder.iterdir(), series.content_sha256) is None


@pytest.mark.parametrize("change", ["a slice less", "another content", "forgotten", "too large"])
def test_other_files_or_another_content_are_read_anew(folder: Path, change: str) -> None:
    content = read_series(folder).content_sha256
    files = sorted(folder.iterdir())
    ahead = Ahead(most_voxels=1000) if change == "too large" else Ahead()
    ahead.look(folder)
    if change == "forgotten":
        ahead.forget()
    asked = files[1:] if change == "a slice less" else files
    assert ahead.seen(asked, "0" * 64 if change == "another content" else content) is None


def test_a_file_that_changed_while_it_was_read_does_not_count(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = read_series(folder).content_sha256
    first = min(folder.iterdir())

    def slow(volume: object) -> object:
        *rest, last = first.read_bytes()
        first.write_bytes(bytes([*rest, last ^ 1]))
        return find_body(volume)  # type: ignore[arg-type]  # as it was given

    monkeypatch.setattr("orgseg_node.contouring.preload.find_body", slow)
    ahead = Ahead()
    ahead.look(folder)
    assert ahead.seen(folder.iterdir(), content) is None


@pytest.mark.parametrize("content", [None, b"", b"no DICOM at all"])
def test_what_cannot_be_read_is_left_to_the_job(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "ct").mkdir()
        (tmp_path / "ct" / "1.dcm").write_bytes(content)
    ahead = Ahead()
    ahead.look(tmp_path / "ct")
    assert ahead.seen(tmp_path.glob("ct/*"), "") is None
