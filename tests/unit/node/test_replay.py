"""A job that is made again gives the same bytes, and what differs is listed."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from orgseg_node.core.organs import OrganTable
from orgseg_node.errors import ReplayFailed, ResultDeleted, ResultMissing
from orgseg_node.node.replay import OrganDifference, Replay, compare_results, replay
from tests.support.node.feedback_bench import FeedbackBench

COMMAND = (sys.executable, "-m", "tests.support.node.node_child", "0")


@pytest.fixture
def bench(tmp_path: Path, organ_table: OrganTable) -> FeedbackBench:
    return FeedbackBench(tmp_path, organ_table)


def test_the_same_job_gives_the_same_bytes_and_another_time_only_other_files(
    bench: FeedbackBench, tmp_path: Path
) -> None:
    """The bench's result has another time in it than the job; the second replay is of a real one."""
    before = bench.data / "jobs" / bench.job.job_id / "out"
    first = replay(bench.config, bench.store, bench.job, command=COMMAND, keep=tmp_path / "kept")
    assert first.labels_equal
    assert not first.files["RTSTRUCT.dcm"]
    assert not first.is_equal
    shutil.rmtree(before)
    shutil.copytree(tmp_path / "kept", before)
    second = replay(bench.config, bench.store, bench.job, command=COMMAND)
    assert second.is_equal
    assert second.files == {"RTSTRUCT.dcm": True, "SEG.dcm": True, "labels.nii.gz": True}
    assert second.changed == {}
    assert not (bench.data / "replay" / bench.job.job_id).exists(), "nothing is left behind"

    other = tmp_path / "other"
    shutil.copytree(before, other)
    _change(other)
    found = compare_results("j", before, other)
    assert [one.organ for one in found.organs] == ["brainstem"]
    assert found.organs[0] == OrganDifference(organ="brainstem", before=168, after=158, differing=10)
    assert found.changed["torch"][1] == "99.0"
    assert not found.files["labels.nii.gz"]
    assert found.files["SEG.dcm"]


def _change(folder: Path) -> None:
    """Take ten voxels of the brainstem away, and claim another version of torch."""
    path, report_path = folder / "labels.nii.gz", folder / "report.json"
    report = json.loads(report_path.read_text(encoding="utf-8"))
    number = next(row["label"] for row in report["organs"] if row["key"] == "brainstem")
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(path.read_bytes()))
    labels = np.asarray(image.dataobj).copy()
    labels.flat[np.flatnonzero(labels == number)[:10]] = 0
    path.write_bytes(gzip.compress(nibabel.Nifti1Image(labels, image.affine, image.header).to_bytes()))
    report["versions"]["torch"] = "99.0"
    report["sha256"]["labels.nii.gz"] = hashlib.sha256(path.read_bytes()).hexdigest()
    report_path.write_text(json.dumps(report), encoding="utf-8")


@pytest.mark.endurance
def test_another_version_and_number_of_threads_are_listed(bench: FeedbackBench, tmp_path: Path) -> None:
    def again(version: str, threads: int, keep: Path | None = None) -> Replay:
        command = (sys.executable, "-m", "tests.support.node.changed_child", version, str(threads))
        return replay(bench.config, bench.store, bench.job, command=command, keep=keep)

    before = bench.data / "jobs" / bench.job.job_id / "out"
    again("1.0", 2, tmp_path / "kept")
    shutil.rmtree(before)
    shutil.copytree(tmp_path / "kept", before)
    threads = again("1.0", 4)
    assert threads.changed == {"device": ("cpu (2 threads)", "cpu (4 threads)")}
    assert threads.is_equal, "the same bytes with more threads"
    version = again("2.0", 2)
    assert version.changed == {"orgseg_node": ("1.0", "2.0")}
    assert version.labels_equal
    assert not version.files["RTSTRUCT.dcm"], "objects state the version of the program"
    report = before / "report.json"
    content = json.loads(report.read_text(encoding="utf-8"))
    report.write_text(json.dumps({**content, "processor": "another processor"}), encoding="utf-8")
    assert again("1.0", 2).changed == {"processor": ("another processor", content["processor"])}
    del content["processor"]  # a result of an earlier version
    report.write_text(json.dumps(content), encoding="utf-8")
    assert again("1.0", 2).changed == {}


def test_without_a_result_or_models_it_is_refused(bench: FeedbackBench) -> None:
    with pytest.raises(ReplayFailed, match="BUNDLE"):  # its bundle is not installed
        replay(bench.config, bench.store, bench.job)
    shutil.rmtree(bench.data / "jobs")
    with pytest.raises(ResultMissing):
        replay(bench.config, bench.store, bench.job)
    with bench.store.database.write() as tx:
        tx.run("UPDATE job SET purged_at = '2026-11-29T07:00:00.000000+00:00'")
    with pytest.raises(ResultDeleted):
        replay(bench.config, bench.store, bench.store.job(bench.job.job_id))
