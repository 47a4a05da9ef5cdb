"""The last line of a gate names the commands that follow, or what to change."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from orgseg_node.inference import loading
from orgseg_node.signing import make_key
from orgseg_training.cli.app import app
from orgseg_training.site.site import Site
from tests.support.models.bundles import write_bundle
from tests.support.models.judged_site import Habit, Networks, site_of


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return site_of(tmp_path_factory.mktemp("site") / "site")


@pytest.fixture
def judge(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judge:
    return Judge(site, tmp_path, monkeypatch)


class Judge:
    """``orgseg-train site judge`` with networks that find organs by their HU."""

    def __init__(self, site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._site, self.folder = site, folder
        self.installed = folder / "installed"
        self.networks = Networks(habits={"hn@3": Habit(shift={"liver": 2})})
        monkeypatch.setenv("ORGSEG_BUNDLES", str(self.installed))
        monkeypatch.setattr(loading, "load_predictor", lambda b, _organs, s: self.networks.open(b, s))
        self._live = write_bundle(self.installed / "hn@1", name="hn@1").path

    def __call__(
        self, candidate: str, *more: object, at: Path | None = None, site: Site | None = None
    ) -> str:
        """The last line that the command prints."""
        write_bundle((at or self.installed) / candidate, name=candidate, title=candidate, tile_step_size=0.4)
        named = str(at / candidate) if at else candidate
        words = ["site", "judge", str((site or self._site).root), str(self._live), named, *map(str, more)]
        return CliRunner().invoke(app, words).output.strip().splitlines()[-1]


def test_a_candidate_that_passed_goes_into_the_shadow(judge: Judge) -> None:
    make_key(judge.folder / "anna.pem")
    signed = judge("hn@2", "--key", judge.folder / "anna.pem")
    assert signed.startswith("Then: orgseg models shadow hn@2")
    assert "orgseg models promote hn@2 --gate" in signed
    assert "gate.json" in signed
    elsewhere = judge("hn@4", "--key", judge.folder / "anna.pem", at=judge.folder / "elsewhere")
    assert elsewhere.startswith(f"Then: orgseg models add {judge.folder}/elsewhere/hn@4")


def test_a_gate_that_nobody_signed_is_repeated_with_a_key(judge: Judge) -> None:
    assert "--key" in judge("hn@2")


def test_a_candidate_that_failed_is_trained_again_or_leaves_the_organ_alone(judge: Judge) -> None:
    failed = judge("hn@3")
    assert "The live model stays" in failed
    assert "in liver in" in failed, "the organ that failed, and only it"
    assert "gate.html" in failed
    assert "--separate" in failed


def test_an_organ_in_too_few_patients_asks_for_more(judge: Judge, tmp_path: Path) -> None:
    unclear = judge("hn@2", site=site_of(tmp_path / "few", patients=8))
    assert "add patients" in unclear
    assert "spleen, liver" in unclear
