"""The starter recipe in small: trained, killed, resumed, measured and loaded, with nnU-Net itself."""

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
from tests.support.ct.openkbp_tree import write_openkbp_tree

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

RECIPE = """
seed = 1
name = "tiny"
version = "0.0.1"
title = "Tiny"
intended_use = "Test only. Not for clinical use."
trained_on = "Synthetic patients."
licence = "none"
spacing_mm = [4.0, 4.0, 4.0]
body_margin_mm = 3.0
features = [8, 16, 32, 32]
batch_size = 2
validation_cases = 1

[[parts]]
name = "common"
dataset_id = 801
organs = ["brainstem", "mandible"]
patch_size = [16, 16, 16]
learning_rate = 0.001
epochs = 6
iterations_per_epoch = 4

[[parts]]
name = "larynx"
dataset_id = 802
organs = ["larynx"]
patch_size = [16, 16, 16]
learning_rate = 0.001
epochs = 2
iterations_per_epoch = 2
features = [8, 16, 32]
warm_start = "common"
"""


def test_a_killed_training_goes_on_and_ends_in_a_bundle_the_node_runs(tmp_path: Path) -> None:
    organs = tuple(LABELS)
    drawn = {f"OKBP_{n:03d}": organs if n != 2 else ("brainstem", "mandible") for n in range(1, 7)}
    data = write_openkbp_tree(tmp_path / "data", drawn, locked=["OKBP_006"])
    (tmp_path / "recipe.toml").write_text(RECIPE)
    work, out = tmp_path / "work", tmp_path / "bundle"
    command = [sys.executable, "-c", "from orgseg_training.cli import main; main()", "starter"]
    command += [str(data), str(work), str(out), "--recipe", str(tmp_path / "recipe.toml"), "--threads", "1"]

    first = subprocess.Popen(command, start_new_session=True)
    latest = "nnUNet_results/Dataset801_common/*/fold_0/checkpoint_latest.pth"
    deadline = time.monotonic() + 600
    while not list(work.glob(latest)) and time.monotonic() < deadline and first.poll() is None:
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not out.exists()

    second = subprocess.run(command, check=False, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr[-2000:]
    assert "| larynx | 1 |" in second.stdout, "the locked patient was scored"
    bundle = open_bundle(out)
    verify_bundle(bundle)
    assert set(bundle.manifest.organs) == {"brainstem", "mandible", "larynx"}
    logs = sorted(work.glob("nnUNet_results/Dataset801_common/*/fold_0/training_log_*.txt"))
    assert "Epoch 0\n" not in logs[-1].read_text(), "the second run did not begin again"
