"""A protocol tried on a case of the node, by the command line and by a process of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from orgseg_node.contouring.protocol import Protocol
from orgseg_node.contouring.revision.found_result import FOUND
from orgseg_node.errors import JobRefuses, ResultDeleted, TrialFailed
from orgseg_node.node.review.dropping import OrganDropper
from orgseg_node.node.review.trying import ProtocolTrier
from orgseg_node.node.store.model import Job
from tests.support.node.command_line import orgseg
from tests.support.node.job_bench import JobBench
from tests.support.web.reviewed import review_case

PROTOCOL = """
others = "drop"
[[structures]]
organ = "brainstem"
name = "Stem"
[[structures]]
organ = "parotid_left"
min_ml = 1000
[[structures]]
name = "PRV"
derive = "margin"
from = ["brainstem"]
margin_mm = 4
"""


@pytest.fixture
def bench(tmp_path: Path) -> JobBench:
    return JobBench(tmp_path / "data")


@pytest.fixture
def job(bench: JobBench, ct_folder: Path) -> Job:
    return review_case(bench.store, bench.config, ct_folder)


def trier(bench: JobBench, *lines: str) -> ProtocolTrier:
    """With a process that only does what the test says."""
    script = bench.data / "child.py"
    script.write_text("\n".join(["import json, os, pathlib, sys", *lines]))
    return ProtocolTrier(bench.store, bench.data, command=(sys.executable, str(script)))


def _files(bench: JobBench) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (bench.data / "jobs").rglob("*") if path.name != "child.log"
            and path.is_file()}  # fmt: skip


@pytest.mark.endurance
def test_the_command_shows_what_would_change_and_changes_nothing(
    bench: JobBench, job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, protocol = tmp_path / "node.toml", tmp_path / "ours.toml"
    config.write_text('[node]\ndata_dir = "data"\n[[peers]]\nae_title = "CT"\n', encoding="utf-8")
    protocol.write_text(PROTOCOL, encoding="utf-8")
    before, events = _files(bench), bench.store.events(job.job_id)
    words = ("protocols", "try", protocol, "--job", job.job_id[:10], "--config", config)
    done = orgseg(capsys, *words, "--json")
    assert done.status == 0, done
    document = json.loads(done.out)
    changes = {row["key"]: row["change"] for row in document["structures"]}
    assert changes["brainstem"] == "renamed"
    assert changes["derived prv"] == "added"
    assert changes["parotid_left"] == changes["spinal_cord"] == "removed"
    assert document["drifted"] == []
    assert document["models_missing"], "the thresholds are no bundle"
    assert _files(bench) == before
    assert bench.store.events(job.job_id) == events
    shown = orgseg(capsys, *words)
    assert shown.status == 0
    assert "Brainstem → Stem" in shown.out
    assert "left out: not listed" in shown.out
    protocol.write_text('[[structures]]\norgan = "hart"\n', encoding="utf-8")
    wrong = orgseg(capsys, *words)
    assert (wrong.status, "did you mean 'heart'" in wrong.err) == (3, True), wrong


def test_contours_and_the_result_of_a_person_are_those_of_the_present_objects(
    bench: JobBench, job: Job
) -> None:
    OrganDropper(bench.store, bench.data).drop(job.job_id, "brainstem", "by anna: cut off")
    done = ProtocolTrier(bench.store, bench.data).try_on(job.job_id, Protocol())
    row = next(one for one in done.document["structures"] if one["key"] == "brainstem")
    assert (row["change"], row["why"]) == ("added", "left out by a person, before sending")
    lines = {one["key"]: one for one in done.document["lines"]}
    assert set(lines) == {"brainstem"}
    assert len(np.frombuffer(done.points, "<f4")) == 2 * sum(lines["brainstem"]["counts"])
    assert done.document["drifted"] == []


def test_a_case_without_what_was_found_is_refused_and_not_offered(bench: JobBench, job: Job) -> None:
    mine = trier(bench, "print(1)")
    assert [one.job_id for one in mine.cases()] == [job.job_id]
    found = bench.data / "jobs" / job.job_id / "out" / FOUND
    content = found.read_bytes()
    found.write_bytes(content[:-1])
    with pytest.raises(TrialFailed, match="changed after it was written"):
        ProtocolTrier(bench.store, bench.data).try_on(job.job_id, Protocol())
    found.unlink()
    assert mine.cases() == []
    with pytest.raises(JobRefuses, match="what the networks found"):
        mine.try_on(job.job_id, Protocol())
    found.write_bytes(content)
    with bench.store.database.write() as tx:
        tx.run("UPDATE job SET purged_at = '2026-01-01T00:00:00+00:00' WHERE job_id = ?", (job.job_id,))
    assert mine.cases() == []
    with pytest.raises(ResultDeleted):
        mine.try_on(job.job_id, Protocol())


def test_a_process_that_fails_leaves_nothing_behind(bench: JobBench, job: Job) -> None:
    before = _files(bench)
    error = json.dumps({"event": "error", "code": "X", "sentence": "It broke."})
    for lines, said in (((f"print({error!r})",), "It broke"), (("sys.exit(0)",), "without an answer")):
        with pytest.raises(TrialFailed, match=said):
            trier(bench, *lines).try_on(job.job_id, Protocol())
    assert _files(bench) == before
    assert not list((bench.data / "jobs" / job.job_id).glob("trial-*"))
