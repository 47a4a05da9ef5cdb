"""Processes that die under a job, and persons who act while the node runs."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil
import pydicom
import pytest

from orgseg_node.node.store.model import JobState
from tests.support.node.command_line import orgseg
from tests.support.node.leaks import LEAKS
from tests.support.node.node_process import NodeProcess, is_reading, running_node, wait_for
from tests.support.peers.dcmtk import free_port, storescp, storescu

pytestmark = [pytest.mark.endurance, pytest.mark.peer, *LEAKS]

DYING = "tests.support.node.dying_child"
TWO_DEATHS = "\n[worker]\ndeaths = 2"


def push(node: NodeProcess, ct_folder: Path) -> None:
    assert storescu(node.port, sorted(ct_folder.iterdir()), "-aec", "ORGSEG").returncode == 0


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs; one that has ended may wait for some time until its new parent reaps it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_in_inference(node: NodeProcess, attempt: int = 1) -> None:
    def infers() -> bool:
        with contextlib.closing(node.store()) as store:
            changes = [event.change for job in store.jobs() for event in store.events(job.job_id)]
        return changes.count("PREPARING -> INFERRING") == attempt

    wait_for(infers, 60, f"attempt {attempt} infers")
    children = node.children()
    node.kill()
    wait_for(lambda: not any(map(is_alive, children)), 10, "the child ends with the node")


@pytest.mark.slow
def test_a_child_that_keeps_dying_ends_in_the_dead_letter_and_a_person_starts_it_again(
    tmp_path: Path, ct_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    with (
        storescp(tmp_path / "tps", port, "-aet", "TPS") as tps,
        running_node(tmp_path, port, inference=TWO_DEATHS, child=(DYING, "kill", "2"), warm=True) as node,
    ):
        push(node, ct_folder)
        job = node.job_in(JobState.FAILED, seconds=90)
        assert (job.reason, job.deaths) == ("JOB_POISON", 2)
        config = tmp_path / "node.toml"
        dead = orgseg(capsys, "jobs", "dead", "--config", config)
        assert f"{job.job_id} JOB_POISON" in dead.out
        assert f"orgseg jobs retry {job.job_id}" in dead.out
        again = orgseg(
            capsys, "jobs", "retry", job.job_id, "--by", "anna", "--why", "more memory", "--config", config
        )
        assert again.status == 0, again.err
        job = node.job_in(JobState.DONE, seconds=60)
        assert (job.run, job.deaths) == (2, 0)
        with contextlib.closing(node.store()) as store:
            assert any("by anna: more memory" in event.note for event in store.events(job.job_id))
        assert len(list(tps.iterdir())) == 2
        assert node.stop() == 0


@pytest.mark.slow
def test_memory_that_ran_out_once_is_no_obstacle(tmp_path: Path, ct_folder: Path) -> None:
    port = free_port()
    with (
        storescp(tmp_path / "tps", port, "-aet", "TPS") as tps,
        running_node(tmp_path, port, child=(DYING, "memory", "1"), warm=True) as node,
    ):
        push(node, ct_folder)
        job = node.job_in(JobState.DONE, seconds=90)
        assert job.memory_budget_mb is not None
        assert job.memory_budget_mb > 0
        assert job.deaths == 0
        assert len(list(tps.iterdir())) == 2


@pytest.mark.slow
def test_a_node_killed_again_and_again_in_a_job_gives_it_up_and_not_the_others(
    tmp_path: Path, ct_folder: Path
) -> None:
    with running_node(tmp_path, free_port(), seconds=60, inference=TWO_DEATHS, warm=True) as node:
        push(node, ct_folder)
        kill_in_inference(node)
        node.start()
        kill_in_inference(node, attempt=2)
        node.start()
        job = node.job_in(JobState.FAILED, seconds=60)
        assert (job.reason, job.deaths) == ("JOB_POISON", 2)
        assert node.stop() == 0


def test_an_engine_that_has_forgotten_everything_loses_no_job_and_no_death(
    tmp_path: Path, ct_folder: Path
) -> None:
    port = free_port()
    with (
        storescp(tmp_path / "tps", port, "-aet", "TPS") as tps,
        running_node(tmp_path, port, 60, warm=True) as node,
    ):
        push(node, ct_folder)
        kill_in_inference(node)
        for path in (node.data / "db").glob("engine.sqlite*"):
            path.unlink()
        node.seconds = 0.0
        node.start()
        job = node.job_in(JobState.DONE, seconds=60)
        assert job.deaths == 1
        assert len(list(tps.iterdir())) == 2


def test_a_person_cancels_a_running_job_forces_a_held_series_and_sends_again(
    tmp_path: Path, ct_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(ct_folder.iterdir())
    port, config = free_port(), tmp_path / "node.toml"
    with (
        storescp(tmp_path / "tps", port, "-aet", "TPS") as tps,
        running_node(tmp_path, port, 60, warm=True) as node,
    ):
        assert storescu(node.port, [*files[:9], *files[10:]], "-aec", "ORGSEG").returncode == 0
        uid = str(pydicom.dcmread(files[0]).SeriesInstanceUID)

        def held() -> bool:
            with contextlib.closing(node.store()) as store:
                return [s.reason for s in store.series()] == ["INPUT_MISSING_SLICES"]

        wait_for(held, 30, "the series is held")
        forced = orgseg(capsys, "series", "force", uid, "--config", config)
        assert forced.status == 0, forced.err
        job = node.job_in(JobState.INFERRING, seconds=60)
        children = [child for child in node.children() if not is_reading(child)]
        assert children
        assert orgseg(capsys, "jobs", "cancel", job.job_id, "--config", config).status == 0
        wait_for(lambda: not any(c.is_running() for c in children), 10, "the child is stopped")
        refused = orgseg(capsys, "jobs", "approve", job.job_id, "--config", config)
        assert (refused.status, refused.code) == (1, "JOB_REFUSES")
        node.kill()
        node.seconds = 0.0
        node.start()
        assert orgseg(capsys, "jobs", "retry", job.job_id, "--config", config).status == 0
        node.job_in(JobState.DONE, seconds=60)
        first = {path.name for path in tps.iterdir()}
        made = [pydicom.dcmread(path, stop_before_pixels=True) for path in tps.iterdir()]
        assert {one.SeriesDescription for one in made} == {"AUTO CONTOURS UNREVIEWED INCOMPLETE"}
        for path in tps.iterdir():
            path.unlink()
        assert orgseg(capsys, "jobs", "resend", job.job_id, "--config", config).status == 0
        wait_for(lambda: {path.name for path in tps.iterdir()} == first, 30, "the same objects again")
