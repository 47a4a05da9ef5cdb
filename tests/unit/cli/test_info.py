"""``orgseg info`` on irregular series."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.ct.phantom import PhantomOptions, build_ct_series, uid
from tests.support.node.command_line import orgseg


def small(**settings: object) -> PhantomOptions:
    """A series of a few kilobytes."""
    given = {"slices": 6, "rows": 16, "columns": 16, "pixel_spacing_mm": (16.0, 16.0)} | settings
    return PhantomOptions(**given)  # type: ignore[arg-type]  # the test's own keywords


@pytest.fixture
def tilted(tmp_path: Path) -> Path:
    """A tilted series with a missing slice."""
    build_ct_series(tmp_path, small(positions_mm=[0, 3, 6, 12, 15, 18], shear=0.2))
    return tmp_path


def test_gaps_and_tilt_are_in_the_summary(capsys: pytest.CaptureFixture[str], tilted: Path) -> None:
    answer = orgseg(capsys, "info", tilted)
    assert answer.status == 0
    assert "gaps from 3 to 6 mm, slices missing: 1, gantry tilt 11.3" in answer.out
    assert "SERIES_MISSING_SLICES" in answer.out
    assert "height mm" not in answer.out


def test_slices_are_listed_one_by_one(capsys: pytest.CaptureFixture[str], tilted: Path) -> None:
    lines = orgseg(capsys, "info", tilted, "--slices").out.splitlines()
    head = next(n for n, line in enumerate(lines) if "height mm" in line)
    fourth = lines[head + 4].split()
    assert fourth[:6] == ["4", "4", "12.000", "6.000", "0.000", "2.400"]
    assert lines[head + 4].endswith("1 missing before")
    assert len(lines) == head + 7


def test_the_list_is_in_the_json_only_on_request(capsys: pytest.CaptureFixture[str], tilted: Path) -> None:
    (series,) = json.loads(orgseg(capsys, "info", tilted, "--slices", "--json").out)["accepted"]
    assert [row["gap_mm"] for row in series["slice_table"]] == [None, 3, 3, 6, 3, 3]
    (series,) = json.loads(orgseg(capsys, "info", tilted, "--json").out)["accepted"]
    assert "slice_table" not in series


def test_parts_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for n in (1, 2):
        attributes = {"SeriesInstanceUID": uid("study", "series"), "AcquisitionNumber": n}
        build_ct_series(tmp_path / str(n), small(series=str(n), attributes=attributes, noise_hu=5.0, seed=n))
    out = orgseg(capsys, "info", tmp_path).out
    assert "part: acquisition 1" in out
    assert "part: acquisition 2" in out


def test_no_patient_data_are_printed(capsys: pytest.CaptureFixture[str], tilted: Path) -> None:
    output = orgseg(capsys, "info", tilted, "--slices").out
    output += orgseg(capsys, "info", tilted, "--slices", "--json").out
    for secret in ("Phantom^Ellipse", "PHANTOM-1", "19500101"):
        assert secret not in output
