"""Both strategies on a small scale, from data to report: killed, continued, nothing done twice."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orgseg_training.durable import read_json
from orgseg_training.evaluation.results import read_cases
from orgseg_training.experiment.config import load_experiment
from orgseg_training.experiment.estimate import estimate_assumed
from orgseg_training.shipped import training_config

pytestmark = [pytest.mark.endurance, pytest.mark.timeout(1500)]

RUN = [sys.executable, "-m", "orgseg_training.cli", "run"]


def test_an_experiment_that_is_killed_continues_and_ends_in_a_report(tmp_path: Path) -> None:
    command = [*RUN, "--profile", "smoke", "--out", str(tmp_path), "--threads", "2"]
    first = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 900
    latest = "nnunet/nnUNet_results/*/*/fold_*/checkpoint_latest.pth"
    # killed while a network is being trained, after another one was done
    while time.monotonic() < deadline and first.poll() is None:
        if list(tmp_path.glob("steps/train-*.done")) and list(tmp_path.glob(latest)):
            break
        time.sleep(0.1)
    assert first.poll() is None, first.stderr.read().decode()[-2000:] if first.stderr else ""
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    if first.stderr is not None:
        first.stderr.close()
    assert not (tmp_path / "report" / "index.html").exists()
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("nnunet/**/checkpoint_final.pth")}

    second = subprocess.run(command, check=False, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr[-3000:]
    assert (tmp_path / "report" / "index.html").is_file()
    assert all(path.stat().st_mtime_ns == before for path, before in done.items()), "trained once"

    scores = read_cases(tmp_path / "cases.parquet")
    tested = {(score.model, score.organ) for score in scores if score.subset == "2"}
    assert tested == {(f"strategy-{n}", organ) for n in (1, 2) for organ in ("mandible", "larynx")}
    ranks = read_json(tmp_path / "rank.json")
    assert ranks["mandible"] > 0.5, "a bright ellipsoid is learnt in seconds"
    completed = {path.parent.name for path in tmp_path.glob("completed/*/larynx.nii.gz")}
    assert completed == {f"synthetic__SYN_{n:03d}" for n in (1, 3, 5)}, "only where it was not drawn"
    assert not list(tmp_path.glob("completed/*/mandible.nii.gz"))


def test_the_whole_study_is_planned_without_its_data(tmp_path: Path) -> None:
    config = training_config("experiments/study.toml")
    command = [*RUN, "--config", str(config), "--out", str(tmp_path), "--dry-run"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    plan = estimate_assumed(load_experiment(config))
    assert f"{plan.trainings} trainings" in done.stdout
    assert plan.trainings == 27 * 5
    assert re.search(r"^train +135$", done.stdout + done.stderr, re.MULTILINE)


def test_another_experiment_is_refused_in_the_same_folder(tmp_path: Path) -> None:
    config = training_config("experiments/study.toml")
    other = tmp_path / "other.toml"
    other.write_text(config.read_text(encoding="utf-8").replace("seed = 4082", "seed = 1"), encoding="utf-8")
    plan = ["--out", str(tmp_path / "work"), "--dry-run"]
    assert (
        subprocess.run([*RUN, "--config", str(config), *plan], check=False, capture_output=True).returncode
        == 0
    )
    refused = subprocess.run(
        [*RUN, "--config", str(other), *plan], check=False, capture_output=True, text=True
    )
    assert refused.returncode == 1
    assert "TRAINING_EXPERIMENT_CHANGED" in refused.stderr
