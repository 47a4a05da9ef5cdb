"""An organ is dropped from a job in REVIEW: new objects instead of those before, or nothing changes."""

from __future__ import annotations

import fcntl
import json
import sys
from pathlib import Path

import pydicom
import pytest

from orgseg_node.contouring.revision.kept_result import KEPT
from orgseg_node.errors import JobRefuses, ObjectsNotMade, OptionInvalid
from orgseg_node.node.processing.job_commands import JobCommands
from orgseg_node.node.review.dropping import OrganDropper, structures_of
from orgseg_node.node.store.model import Job, JobState
from tests.support.node.command_line import orgseg
from tests.support.node.job_bench import JobBench
from tests.support.web.reviewed import review_case

ANNA = "by anna: cut off"


@pytest.fixture
def bench(tmp_path: Path) -> JobBench:
    return JobBench(tmp_path / "data")


@pytest.fixture
def job(bench: JobBench, ct_folder: Path) -> Job:
    return review_case(bench.store, bench.config, ct_folder)


def dropper(bench: JobBench, *lines: str) -> OrganDropper:
    """With a process that only does what the test says."""
    script = bench.data / "child.py"
    script.write_text("\n".join(["import json, os, pathlib, sys", *lines]))
    return OrganDropper(bench.store, bench.data, command=(sys.executable, str(script)))


def test_the_new_objects_are_sent_and_the_history_says_who_why_and_which(
    bench: JobBench, job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, commands = bench.store, JobCommands(bench.store)
    old = {one.role: one for one in store.attempts.objects(job.job_id)}
    config = tmp_path / "node.toml"
    config.write_text(
        '[node]\ndata_dir = "data"\n[review]\npersons = 2\n[[peers]]\nae_title = "CT"\n', encoding="utf-8"
    )
    commands.approve(job.job_id, "by bert", "bert")
    words = ("jobs", "drop-organ", job.job_id, "Parotid_L", "--by", "anna", "--config", config)
    assert orgseg(capsys, *words).status == 2  # without a reason
    done = orgseg(capsys, *words, "--reason", "cut off")
    assert (done.status, "new objects without Parotid_L" in done.out) == (0, True), done
    assert store.job(job.job_id).state is JobState.REVIEW
    assert commands.approvals(job) == [], "the approval was for the objects before"
    new = {one.role: one for one in store.attempts.objects(job.job_id)}
    assert new.keys() == old.keys() == {"RTSTRUCT", "SEG"}
    event = store.events(job.job_id)[-1]
    assert event.change == "drop-organ"
    assert event.note.startswith("Parotid_L left out; objects 2: ")
    assert event.note.endswith("; by anna: cut off")
    for role, one in new.items():
        dataset = pydicom.dcmread(bench.data / one.path)
        assert one.sop_uid == dataset.SOPInstanceUID != old[role].sop_uid
        assert f"{role} sha256:{one.sha256[:12]} (was {old[role].sha256[:12]})" in event.note
        assert (bench.data / old[role].path).is_file(), "the objects before stay"
    report = json.loads((bench.data / store.attempts.result_folder(job.job_id) / "report.json").read_text())
    assert "Parotid_L" not in structures_of(report)
    again = orgseg(capsys, *words, "--why", "again")
    assert (again.status, "The structures of this job are" in again.err) == (2, True), again
    commands.approve(job.job_id, "by anna", "anna", seen=2)
    bench.dispatcher.dispatch()
    assert {one.path for one in store.deliveries(job.job_id)} == {one.path for one in new.values()}


def test_nothing_changes_if_the_objects_cannot_be_made(bench: JobBench, job: Job) -> None:
    before = bench.store.attempts.objects(job.job_id)
    folder = bench.data / "jobs" / job.job_id
    makes = "out = pathlib.Path(json.load(open(sys.argv[1]))['out']); out.mkdir(); (out / 'x').touch()"
    error = json.dumps({"event": "error", "code": "OUTPUT_PROOF", "sentence": "It differs."})
    with pytest.raises(ObjectsNotMade, match="It differs"):
        dropper(bench, makes, f"print({error!r})").drop(job.job_id, "Parotid_L", ANNA)
    with pytest.raises(ObjectsNotMade, match="without an answer"):
        dropper(bench, makes).drop(job.job_id, "Parotid_L", ANNA)
    refusal = json.dumps({"event": "error", "code": "USAGE", "sentence": "No such."})
    with pytest.raises(OptionInvalid):
        dropper(bench, f"print({refusal!r})").drop(job.job_id, "Liver", ANNA)
    assert not (folder / "objects-2").exists()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(JobRefuses, match="Another command"):
            dropper(bench).drop(job.job_id, "Parotid_L", ANNA)
    (folder / "out" / KEPT).unlink()
    with pytest.raises(JobRefuses, match="did not keep"):
        dropper(bench).drop(job.job_id, "Parotid_L", ANNA)
    assert bench.store.attempts.objects(job.job_id) == before
    assert not [one for one in bench.store.events(job.job_id) if one.change == "drop-organ"]


@pytest.mark.parametrize("what", ["approved", "rejected"])
def test_a_job_that_is_decided_meanwhile_keeps_its_objects(bench: JobBench, job: Job, what: str) -> None:
    before = bench.store.attempts.objects(job.job_id)
    meanwhile = JobCommands(bench.store)
    written = [
        {"role": o.role, "path": str(bench.data / o.path), "sop_uid": "2.25.9", "sha256": "e" * 64}
        for o in before
    ]
    answer = json.dumps({"event": "done", "objects": written, "names": ["Parotid_L"]})
    maker = dropper(bench, f"print({answer!r})")
    run = maker._run  # what happens while the process works

    def decide(request: Path, log: Path) -> object:
        if what == "approved":
            meanwhile.approve(job.job_id, "by bert", "bert")
        else:
            meanwhile.reject(job.job_id, "by bert")
        return run(request, log)

    maker._run = decide  # type: ignore[method-assign,assignment]
    with pytest.raises(JobRefuses):
        maker.drop(job.job_id, "Parotid_L", ANNA)
    assert bench.store.attempts.objects(job.job_id) == before
    with pytest.raises(JobRefuses):
        dropper(bench).drop(job.job_id, "Parotid_L", ANNA)
