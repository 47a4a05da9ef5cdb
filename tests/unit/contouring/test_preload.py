"""A preloaded series is used for the same files with the same content only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orgseg_node.contouring.preload import SeriesPreloader
from orgseg_node.core.body import find_body
from orgseg_node.dicom.reading.reader import read_volume
from orgseg_node.dicom.reading.series import read_series
from tests.support.ct.phantom import PhantomOptions, build_ct_series


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build_ct_series(tmp_path / "ct", PhantomOptions(slices=12))
    return tmp_path / "ct"


def test_it_reads_what_the_job_would_read_and_returns_it_once(folder: Path) -> None:
    preloader, series = SeriesPreloader(), read_series(folder)
    preloader.preload(folder)
    preloaded = preloader.take(list(folder.iterdir()), series.content_sha256)
    assert preloaded is not None
    volume = read_volume(series)
    np.testing.assert_array_equal(preloaded.volume.hu, volume.hu)
    np.testing.assert_array_equal(preloaded.body.mask, find_body(volume).mask)
    assert preloaded.series.content_sha256 == series.content_sha256
    assert preloader.take(folder.iterdir(), series.content_sha256) is None


@pytest.mark.parametrize("change", ["a slice less", "another content", "cleared", "too large"])
def test_other_files_or_another_content_are_not_returned(folder: Path, change: str) -> None:
    content = read_series(folder).content_sha256
    files = sorted(folder.iterdir())
    preloader = SeriesPreloader(max_voxels=1000) if change == "too large" else SeriesPreloader()
    preloader.preload(folder)
    if change == "cleared":
        preloader.clear()
    asked = files[1:] if change == "a slice less" else files
    assert preloader.take(asked, "0" * 64 if change == "another content" else content) is None


def test_a_series_that_changed_while_it_was_read_is_not_returned(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = read_series(folder).content_sha256
    first = min(folder.iterdir())

    def slow(volume: object) -> object:
        *rest, last = first.read_bytes()
        first.write_bytes(bytes([*rest, last ^ 1]))
        return find_body(volume)  # type: ignore[arg-type]  # as it was given

    monkeypatch.setattr("orgseg_node.contouring.preload.find_body", slow)
    preloader = SeriesPreloader()
    preloader.preload(folder)
    assert preloader.take(folder.iterdir(), content) is None


@pytest.mark.parametrize("content", [None, b"", b"no DICOM at all"])
def test_an_unreadable_series_is_left_to_the_job(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "ct").mkdir()
        (tmp_path / "ct" / "1.dcm").write_bytes(content)
    preloader = SeriesPreloader()
    preloader.preload(tmp_path / "ct")
    assert preloader.take(tmp_path.glob("ct/*"), "") is None
