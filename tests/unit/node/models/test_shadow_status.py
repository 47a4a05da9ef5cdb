"""A version in the shadow that waits for its first scan is not one that runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orgseg_node.core.organs import OrganTable
from orgseg_node.node.models.shadow_rows import ShadowRuns
from orgseg_node.node.models.shadow_status import ShadowPhase, ShadowStatus, all_shadows
from orgseg_node.web.pages.texts import LANGUAGES, texts
from tests.support.node.command_line import orgseg
from tests.support.node.model_bench import FAMILY, ModelBench
from tests.support.node.shadow_bench import Shadowed


def _status(node: ModelBench) -> ShadowStatus:
    (one,) = all_shadows(node.store.database, 2)
    return one


def test_it_waits_for_the_first_scan_and_every_view_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = ModelBench(tmp_path)
    node.make_first_live()
    node.registry.begin_shadow(FAMILY, node.installed("2"), "by A")
    assert _status(node).phase is ShadowPhase.FIRST
    assert _status(node).summary == "It waits for the first scan that the live version contours."
    node.store.close()
    config = tmp_path / "node.toml"
    config.write_text('[node]\ndata_dir = "data"\n[[peers]]\nae_title = "CT"\n')
    assert "head-neck@2" in (said := orgseg(capsys, "node", "status", "--config", config).out)
    assert "waits for the first scan" in said
    (shadow,) = json.loads(orgseg(capsys, "node", "status", "--config", config, "--json").out)["shadows"]
    assert (shadow["family"], shadow["phase"], shadow["scans"]) == (FAMILY, "first", 0)
    assert "waits for the first scan" in orgseg(capsys, "models", "shadow", "--config", config).out


def test_the_pages_have_words_for_each_phase() -> None:
    for language in LANGUAGES:
        assert all(texts(language)(f"shadow.{phase.value}") for phase in ShadowPhase)
    assert {texts("en")(f"shadow.{phase.value}") for phase in ShadowPhase} == {
        p.sentence for p in ShadowPhase
    }


def test_it_is_queued_begun_and_done(tmp_path: Path, organ_table: OrganTable) -> None:
    node = Shadowed(tmp_path, organ_table)
    assert _status(node).phase is ShadowPhase.QUEUED
    runs, (shadow, _) = ShadowRuns(node.store.database), node.versions()
    runs.begin(shadow, node.job.job_id)
    assert _status(node).summary == "0 scans; too few, 2 are wanted. It has begun a scan."
    runs.take_back(shadow, node.job.job_id)
    assert _status(node).phase is ShadowPhase.QUEUED
    runs.begin(shadow, node.job.job_id)
    runs.failed(shadow, node.job.job_id, "damaged")
    assert (_status(node).phase, _status(node).failed) == (ShadowPhase.IDLE, 1)
    assert _status(node).summary.startswith(
        "0 scans, 1 failed; too few, 2 are wanted. It has contoured every"
    )
    node.store.close()
