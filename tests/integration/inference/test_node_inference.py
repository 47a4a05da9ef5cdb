"""The node with a real, tiny network behind it: how far it is, what a kill leaves, and too little memory."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

import pydicom
import pytest

from orgseg_node.cli import main
from orgseg_node.node.store.model import Job, JobState
from tests.support.models.tiny_nnunet import TinyModel, write_tiny
from tests.support.node.command_line import orgseg
from tests.support.node.leaks import LEAKS
from tests.support.node.node_process import NodeProcess, running_node, wait_for
from tests.support.peers.dcmtk import free_port, storescp, storescu
from tests.support.processes.once import once

pytestmark = [pytest.mark.endurance, pytest.mark.peer, *LEAKS]

_ESTIMATE = re.compile(r"segmenting: tiny \S+, about \d+ (s|min) left")


@pytest.fixture(scope="module")
def bundles() -> Path:
    """A folder with one bundle, ``tiny``, whose many small tiles take several seconds."""
    return once("many-tiles", _bundles)


def _bundles(folder: Path) -> Path:
    model = TinyModel(
        labels={"brainstem": 1, "spinal_cord": 2, "mandible": 3}, spacing_mm=(1.5, 1.5, 1.5), gain=3.0
    )
    trained, bundles = write_tiny(folder / "trained", model), folder / "bundles"
    with contextlib.suppress(SystemExit):
        main(["models", "add", str(trained), "--name", "tiny", "--outside-to-air", "--to", str(bundles)])
    return bundles


def section(bundles: Path, *more: str) -> str:
    return "\n".join(['bundles = ["tiny"]', f'bundle_folders = ["{bundles}"]', *more])


def computing(node: NodeProcess) -> Job:
    """The node's job, once tiles are being computed."""
    return wait_for(
        lambda: (job := node.job_in(JobState.INFERRING)) and _ESTIMATE.fullmatch(job.stage) and job,
        60,
        "tiles are being computed",
    )


def changes_of(node: NodeProcess, job: Job) -> list[str]:
    with contextlib.closing(node.store()) as store:
        return [event.change for event in store.events(job.job_id) if event.kind == "job"]


def test_kill_in_mid_streaming_gives_one_rtstruct_and_until_then_it_is_told_how_long_it_takes(
    tmp_path: Path, ct_folder: Path, bundles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    with (
        storescp(tmp_path / "tps", port, "-aet", "TPS") as tps,
        running_node(tmp_path, port, None, section(bundles), warm=True) as node,
    ):
        assert storescu(node.port, sorted(ct_folder.iterdir()), "-aec", "ORGSEG").returncode == 0
        job = computing(node)
        shown = orgseg(capsys, "jobs", "show", job.job_id, "--config", tmp_path / "node.toml")
        first = shown.out.splitlines()[0]
        assert re.fullmatch(rf"{job.job_id} INFERRING \d+% {_ESTIMATE.pattern}", first)
        children = node.children()
        assert children
        node.kill()
        wait_for(lambda: not any(c.is_running() for c in children), 5, "the child dies with the node")
        assert not (node.data / "jobs" / job.job_id / "out").exists(), "no half-written object"

        node.start()
        wait_for(lambda: "INFERRING -> QUEUED" in changes_of(node, job), 30, "the job begins again")
        parts = [computing(node).progress]
        while (now := node.job_in(*JobState)).state is JobState.INFERRING:
            parts.append(now.progress)
        assert parts == sorted(parts), "progress never goes back"
        assert len(set(parts)) > 2
        node.job_in(JobState.DONE)
        objects = [pydicom.dcmread(path) for path in tps.iterdir()]
        assert sorted(each.Modality for each in objects) == ["RTSTRUCT", "SEG"]
        report = json.loads((node.data / "jobs" / job.job_id / "out" / "report.json").read_text())
        assert report["method"].startswith("streaming, exact")
        assert changes_of(node, job).count("PREPARING -> INFERRING") == 2


def test_a_job_that_needs_more_memory_than_allowed_fails_and_says_how_much_it_needs(
    tmp_path: Path, ct_folder: Path, bundles: Path
) -> None:
    inference = section(bundles, "memory_budget_mb = 20", "attempts = 1")
    with running_node(tmp_path, free_port(), None, inference) as node:
        assert storescu(node.port, sorted(ct_folder.iterdir()), "-aec", "ORGSEG").returncode == 0
        job = node.job_in(JobState.FAILED, seconds=60)
        assert job.reason == "INFERENCE_BUDGET"
        assert re.search(r"needs about \d+ MB of main memory; 20 MB are allowed", job.note)
        assert "memory_budget_mb" in job.note
