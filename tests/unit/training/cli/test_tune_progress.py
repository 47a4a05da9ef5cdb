"""What a person sees while a network is fine-tuned."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from orgseg_node.errors import OptionInvalid
from orgseg_training.cli.app import app
from orgseg_training.cli.progress import progress_display
from orgseg_training.site.settings import SiteSettings
from orgseg_training.site.site import Site


def test_progress_is_shown_while_it_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_display() as display:
        display.stage("network 1 of 1: steps", 100)
        assert "network 1 of 1: steps, 0 of 100" in capsys.readouterr().out
        display.event({"event": "timed", "seconds_per_step": 2.0, "seconds_left": 600, "steps": 100})
        assert "about 10 min" in capsys.readouterr().out
        display.event({"event": "validated", "done": 50, "total": 100, "best": True, "dice": {"cord": 0.5}})
        assert "cord 0.50" in capsys.readouterr().out


def test_in_a_file_every_tenth_of_a_stage_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_display() as display:
        display.stage("scans contoured", 40)
        for _ in range(40):
            display.advance()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("scans contoured, ")]
    assert lines == [f"scans contoured, {number} of 40" for number in range(0, 41, 4)]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--organs", "larynx,mandibel"], "'mandibel' is no key of the organ table; similar ones: mandible"),
        (["--organs", "mandible", "--recipe", "quick"], "--recipe quick: there are cpu"),
    ],
)
def test_a_slip_in_an_option_is_said_before_anything_is_read(
    words: list[str], why: str, tmp_path: Path
) -> None:
    site = Site.create(tmp_path / "site", SiteSettings())
    refused = CliRunner().invoke(app, ["site", "tune", str(site.root), "--from", "nobody", *words]).exception
    assert isinstance(refused, OptionInvalid)
    assert why in refused.sentence


def test_what_each_scan_needs_does_not_hide_the_results(capsys: pytest.CaptureFixture[str]) -> None:
    before = structlog.get_config()
    try:
        assert CliRunner().invoke(app, ["who", "a__b", "--site", "nowhere"]).exit_code
        log = structlog.get_logger()
        log.info("segmenting")
        log.warning("memory is short")
    finally:
        structlog.configure(**before)
    shown = capsys.readouterr()
    assert "segmenting" not in shown.out + shown.err
    assert "memory is short" in shown.err
