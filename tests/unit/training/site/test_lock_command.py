"""``orgseg-train site lock`` ends with the command that follows, with organs that can be trained."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from orgseg_training.cli.app import app
from tests.support.models.judged_site import site_of


def _output(folder: Path, patients: int) -> str:
    site = site_of(folder, patients=patients)
    done = CliRunner().invoke(app, ["site", "lock", str(site.root)])
    assert done.exit_code == 0
    return done.output


def test_the_next_command_names_the_organs_that_can_be_trained(tmp_path: Path) -> None:
    lines = _output(tmp_path / "site", patients=12).splitlines()
    assert lines[-2].endswith("--from BUNDLE --organs liver,spleen")
    assert "orgseg models list" in lines[-1]
    assert "too rarely" not in lines[-1]


def test_it_says_how_many_patients_the_gate_will_have_and_how_often_an_equal_candidate_would_pass(
    tmp_path: Path,
) -> None:
    site = site_of(tmp_path / "site", patients=12)
    lines = CliRunner().invoke(app, ["site", "lock", str(site.root)]).output.splitlines()
    test = len({site.lock().patients[key] for key in site.locked_test_keys()})
    said = next(line for line in lines if line.startswith("The gate will have"))
    assert f"about {test + (12 - test) // 5} patients" in said
    assert "with 'tune --folds 5' all 12." in said
    assert "in 12 and 44 of 100 gates" in said


def test_organs_that_are_drawn_too_rarely_are_said(tmp_path: Path) -> None:
    assert "too rarely to be trained: liver, spleen." in _output(tmp_path / "site", patients=8)
