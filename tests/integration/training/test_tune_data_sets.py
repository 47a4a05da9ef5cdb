"""``orgseg-train tune``: from data sets and an old bundle to a measured one, and again without work."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from orgseg_node.inference.bundles.bundle import file_sha256, open_bundle, verify_bundle
from orgseg_node.inference.bundles.manifest import Preprocessing
from orgseg_node.inference.bundles.training_cases import training_cases
from orgseg_node.inference.bundles.writing import BundleDraft, PartDraft, export_trained
from orgseg_training.cli.app import app
from orgseg_training.datasets.synthetic import write_patients
from orgseg_training.durable import read_json
from tests.support.models.tiny_nnunet import TinyModel, write_tiny

pytestmark = [pytest.mark.endurance, pytest.mark.timeout(900)]

FILE = """
organs = ["mandible", "larynx"]
volumes = [0.3, 2.5]
licence = "none"
intended_use = "Test only. Not for clinical use."

[[databases]]
name = "one"
kind = "openkbp"
folder = "one"
test = "source"

[[databases]]
name = "two"
kind = "openkbp"
folder = "two"
test = "none"

[[databases]]
name = "three"
kind = "ct"
folder = "three"
test = "none"
options = { outside = ["larynx"] }

[validation]
database = "two"
scans = 2
scans_of_a_block = 2

[training]
blocks = 2
steps_per_block = 8
learning_rate = 0.01
mirrored = true
balanced = true
outside_share = 0.3
shifted = true

[bundle]
name = "tiny"
version = "2.0.0"
title = "Tiny"
trained_on = "Synthetic patients."
limits = ["Synthetic patients only."]
"""


def _prepare(folder: Path, text: str) -> list[str]:
    """Write data sets, file and old bundle of the mandible, and return the arguments of the command."""
    write_patients(folder / "one", patients=6, tests=2, varied=True)
    write_patients(folder / "two", patients=8, tests=0, first_seed=40, varied=True)
    write_patients(folder / "other", patients=1, tests=0, first_seed=80)
    (folder / "three").mkdir()
    (folder / "other" / "imagesTr" / "SYN_000_0000.nii.gz").rename(folder / "three" / "trunk.nii.gz")
    (folder / "file.toml").write_text(text)
    shape = TinyModel(labels={"mandible": 1}, spacing_mm=(4.0, 4.0, 4.0), patch=(16, 32, 32), gain=1.0)
    draft = BundleDraft(
        name="tiny", version="1.0.0", title="Tiny", intended_use="Test only.", trained_on="Nothing.",
        licence="none", card="Tiny.", preprocessing=Preprocessing(outside_to_air=True, body_margin_mm=3.0),
    )  # fmt: skip
    part = PartDraft(folder=write_tiny(folder / "results", shape), label_map={1: "mandible"})
    export_trained([part], draft, folder / "old")
    command = ["tune", "--config", str(folder / "file.toml"), "--out", str(folder / "work")]
    return [*command, "--from", str(folder / "old"), "--threads", "1", "--accept-low"]


def test_from_data_sets_to_a_measured_bundle(tmp_path: Path) -> None:
    command = _prepare(tmp_path, FILE)

    done = CliRunner().invoke(app, [*command, "--validate-only"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "Background lowered by" in done.output
    assert not (tmp_path / "work" / "held_out.parquet").exists()
    assert not (tmp_path / "work" / "models" / "tiny").exists()
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    bundle = open_bundle(tmp_path / "work" / "models" / "tiny")
    verify_bundle(bundle)
    assert (bundle.manifest.name, bundle.manifest.version) == ("tiny", "2.0.0")
    assert bundle.manifest.organs == ("mandible", "larynx")
    assert "| mandible | 2 |" in bundle.card, "measured on the two scans that were held out"
    assert "Synthetic patients only." in bundle.card
    request = read_json(tmp_path / "work" / "tune" / "request.json")
    assert not any(key.startswith("one__SYN_00") and key[-1] in "45" for key in request["cases"])
    assert request["recipe"]["mirrored"]
    (known,) = training_cases(bundle).values()
    assert len(known) == 4 + 8 + 1
    raw = tmp_path / "work" / "tune" / "nnunet" / "nnUNet_raw"
    (labels,) = raw.glob("*/labelsTr/three__trunk.nii.gz")
    notes = read_json(labels.parents[1] / "labels.json")
    assert notes["sets"][notes["base"]["three__trunk"] - 3] == [1], "nothing is known of the mandible alone"

    again = CliRunner().invoke(app, command)
    assert again.exit_code != 0
    assert "tiny" in str(again.exception)


def test_several_networks_of_one_organ_alone(tmp_path: Path) -> None:
    text = FILE.replace('["mandible", "larynx"]', '["larynx"]\nnetworks = 2').replace(
        "[bundle]", "[bundle]\nalone = true"
    )
    command = _prepare(tmp_path, text)
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    bundle = open_bundle(tmp_path / "work" / "models" / "tiny")
    assert bundle.manifest.organs == ("larynx",), "without the mandible of the old bundle"
    (part,) = bundle.manifest.parts
    assert part.folds == ("0", "1")
    first, second = (file_sha256(bundle.path / weights) for weights in part.weights)
    assert first != second
    (row,) = read_json(tmp_path / "work" / "tune" / "result.json")["organs"]
    assert row["scans"] == 2, "each scan counts once, by both networks together"
