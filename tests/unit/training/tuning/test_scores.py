"""Scores of the validation scans: only the networks that are needed, continued after an interruption."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.evaluation.delivery import LastScan
from orgseg_training.evaluation.results import CaseScore
from orgseg_training.nnunet.run import Machine
from orgseg_training.tuning.scores import NEW, OLD, BundleScorer, networks_for, score_scans
from tests.support.models.bundles import write_bundle
from tests.support.models.judged_site import Habit, Networks, site_of
from tests.support.models.three_networks import three_networks


def test_networks_that_know_none_of_the_organs_are_not_run() -> None:
    starter = three_networks()
    assert [part.folder for part in networks_for(starter, ["mandible"]).manifest.parts] == ["parts/common"]
    both = networks_for(starter, ["mandible", "larynx"]).manifest
    assert [part.folder for part in both.parts] == ["parts/common", "parts/larynx"]


def test_scoring_continues_after_an_interruption_on_organs_as_the_node_sends_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = site_of(tmp_path / "site", patients=6)
    networks = Networks(habits={"new": Habit(crumbs=frozenset({"liver"}))})
    monkeypatch.setattr("orgseg_training.tuning.scores.load_predictor", lambda b, _t, s: networks.open(b, s))

    def scorers() -> dict[str, BundleScorer]:
        return {
            model: BundleScorer(
                write_bundle(tmp_path / model, name=model),
                model,
                ["liver", "spleen"],
                site.organs,
                Machine(threads=1, device="cpu"),
            )
            for model in (NEW, OLD)
        }

    def killed() -> None:
        if len(networks.runs) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_scans(scorers(), site.cases(), tmp_path / "scores", killed)
    scores = score_scans(scorers(), site.cases(), tmp_path / "scores")
    assert len(networks.runs) == 2 * 6
    assert len(scores) == 2 * 6 * 2
    assert {score.value("dsc") for score in scores if score.model == OLD} == {1.0}
    crumbs = [score.value("dsc") for score in scores if score.model == NEW and score.organ == "liver"]
    assert max(crumbs) < 1.0, "a liver is not tidied"


def test_a_scan_without_the_organs_is_not_run(tmp_path: Path) -> None:
    scorer = BundleScorer(
        write_bundle(tmp_path / "old", name="old"),
        OLD,
        ["larynx"],
        site_of(tmp_path / "site", patients=6).organs,
        Machine(threads=1, device="cpu"),
    )
    case: StoredCase = site_of(tmp_path / "other", patients=6).cases()[0]
    found: list[CaseScore] = scorer.score(case, LastScan())
    assert found == []
