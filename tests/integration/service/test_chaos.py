"""The kill test in its short form, and that its checker sees what it is there to see."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.chaos.checker import check
from tests.chaos.run import run
from tests.chaos.spoils import SECOND_UID, SPOILS
from tests.chaos.versions import run_versions
from tests.chaos.world import Size, world
from tests.support.peers.postgres import cluster

pytestmark = [pytest.mark.peer, pytest.mark.timeout(1200)]


@pytest.mark.endurance
def test_nothing_is_lost_and_nothing_is_left_behind(tmp_path: Path) -> None:
    """Eight series from four senders while everything is killed; then every promise is broken on purpose."""
    with world(tmp_path / "world", Size(series=8, pause_s=8.0)) as made:
        report = run(made, kills=20, seed=3, limit_s=480)
        assert report.findings.problems == [], report.text()
        assert report.killer.kills.total() >= 20
        shutil.copytree(made.data, tmp_path / "sound")
        for name, spoil in SPOILS.items():
            spoil(made)
            assert check(made).problems, f"the checker does not see {name}"
            if name == "duplicate":
                made.orthanc.delete(SECOND_UID)
            shutil.rmtree(made.data)
            shutil.copytree(tmp_path / "sound", made.data)
        assert check(made).problems == []


@pytest.mark.slow
def test_several_processes_on_postgresql_lose_nothing_when_one_never_comes_back(tmp_path: Path) -> None:
    """A receiver and two workers; the second is killed for good, and the database falls again and again."""
    with cluster() as server, world(tmp_path / "world", Size(series=8, pause_s=8.0), server) as made:
        report = run(made, kills=24, seed=1, limit_s=480)
        assert report.findings.problems == [], report.text()
        assert report.killer.kills["worker, for good"] == 1


@pytest.mark.endurance
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_exactly_one_version_of_a_model_is_live_whoever_is_killed(tmp_path: Path, database: str) -> None:
    """Two persons promote, roll back and run versions in the shadow, and are killed again and again."""
    if database == "sqlite":
        report = run_versions(tmp_path, kills=25, seed=5)
    else:
        with cluster() as server:
            report = run_versions(tmp_path, kills=25, seed=5, server=server.new_database())
    assert report.problems == [], report.text()
    assert report.commands["promoted"] > 3
    assert report.commands["rolled back to"] > 3
