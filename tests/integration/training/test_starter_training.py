"""An experiment like the starter's on a small scale: trained, killed, resumed, scored and loaded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orgseg_node.inference.bundles.bundle import open_bundle, verify_bundle
from orgseg_training.datasets.openkbp import LABELS
from orgseg_training.evaluation.results import read_cases
from tests.support.ct.openkbp_tree import write_openkbp_tree

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

EXPERIMENT = """
name = "tiny"
mode = "paper"                  # these patients are so similar that "strict" counts them as copies
seed = 1
folds = 2
trained_folds = 1
strategy_1 = ["brainstem", "mandible", "larynx"]
strategy_2 = []
body_margin_mm = 3.0
licence = "none"
intended_use = "Test only. Not for clinical use."

[[databases]]
name = "openkbp"
kind = "openkbp"
folder = "data"
test = "source"
subset = 2

[plan]
kind = "fixed"
spacing_mm = [4.0, 4.0, 4.0]
patch_size = [16, 16, 16]
features = [8, 16, 32, 32]
batch_size = 2

[training]
trainer = "short"
epochs = 6
iterations_per_epoch = 4
learning_rate = 0.001

[[networks]]
name = "common"
organs = ["brainstem", "mandible"]

[[networks]]
name = "larynx"
organs = ["larynx"]
features = [8, 16, 32]
epochs = 2
iterations_per_epoch = 2
warm_start = "common"

[bundle]
name = "tiny"
version = "0.0.1"
title = "Tiny"
trained_on = "Synthetic patients."
limits = ["Synthetic patients only."]

[costs]
hours_per_network = 0.01
seconds_per_prediction = 1.0
gigabytes_per_dataset = 0.01
"""


def test_a_killed_training_continues_and_ends_in_a_bundle_the_node_runs(tmp_path: Path) -> None:
    organs = tuple(LABELS)
    drawn = {f"OKBP_{n:03d}": organs if n != 2 else ("brainstem", "mandible") for n in range(1, 7)}
    write_openkbp_tree(tmp_path / "data", drawn, locked=["OKBP_006"])
    (tmp_path / "tiny.toml").write_text(EXPERIMENT)
    work = tmp_path / "work"
    out = work / "models" / "tiny"
    command = [sys.executable, "-m", "orgseg_training.cli", "run", "--config", str(tmp_path / "tiny.toml")]
    command += ["--out", str(work), "--threads", "1"]

    first = subprocess.Popen(command, start_new_session=True)
    latest = "nnunet/nnUNet_results/Dataset101_common/*/fold_0/checkpoint_latest.pth"
    deadline = time.monotonic() + 600
    while not list(work.glob(latest)) and time.monotonic() < deadline and first.poll() is None:
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not out.exists()

    second = subprocess.run(command, check=False, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr[-2000:]
    bundle = open_bundle(out)
    verify_bundle(bundle)
    assert "| larynx | 1 |" in bundle.card, "the locked patient was scored"
    assert set(bundle.manifest.organs) == {"brainstem", "mandible", "larynx"}
    logs = sorted(work.glob("nnunet/nnUNet_results/Dataset101_common/*/fold_0/training_log_*.txt"))
    assert "Epoch 0\n" not in logs[-1].read_text(), "the second run did not begin again"
    scores = read_cases(work / "cases.parquet")
    assert {(s.subset, s.organ) for s in scores if s.model == "tiny"} == {
        ("2", organ) for organ in bundle.manifest.organs
    }
    weights = work.glob("nnunet/nnUNet_results/*/*/fold_*/checkpoint_final.pth")
    assert sorted(file.parts[-4] for file in weights) == ["Dataset101_common", "Dataset102_larynx"]
