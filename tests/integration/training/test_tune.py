"""A tiny network is fine-tuned on synthetic patients: killed, continued, exported, and run by the node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orgseg_node.core.body import find_body
from orgseg_node.core.organs import load_organs
from orgseg_node.errors import BundleExists, DiskFull
from orgseg_node.inference.bundles.bundle import open_bundle, verify_bundle
from orgseg_node.inference.bundles.manifest import Preprocessing
from orgseg_node.inference.bundles.training_cases import training_cases
from orgseg_node.inference.bundles.writing import BundleDraft, PartDraft, export_trained
from orgseg_node.inference.loading import load_predictor
from orgseg_node.inference.predictor import InferenceSettings
from orgseg_node.shipped import shipped_config
from orgseg_training.datasets.case_store import CaseStore
from orgseg_training.datasets.openkbp import source_cases
from orgseg_training.datasets.synthetic import write_patients
from orgseg_training.durable import read_json
from orgseg_training.errors import NothingLearned, TuningExists
from orgseg_training.gate.membership import unchanged_organs
from orgseg_training.nnunet.run import Machine
from orgseg_training.tuning.recipe import Recipe
from orgseg_training.tuning.request import TuneFolder, TuneRequest
from orgseg_training.tuning.start import choose_start
from orgseg_training.tuning.tune import tune
from tests.support.models.tiny_nnunet import TinyModel, write_tiny
from tests.support.small_disk import fill, small_disk

pytestmark = [pytest.mark.endurance, pytest.mark.timeout(900)]

RECIPE = Recipe(name="tiny", blocks=3, steps_per_block=6, learning_rate=0.01, warm_up=2, patience=5)


class Silent:
    """A listener that keeps the events."""

    def __init__(self) -> None:
        self.events: list[Mapping[str, Any]] = []

    def stage(self, text: str, total: int) -> None:
        """Nothing."""

    def done(self, number: int) -> None:
        """Nothing."""

    def event(self, event: Mapping[str, Any]) -> None:
        """Keep it."""
        self.events.append(event)


def _request(root: Path, *, accept_low: bool = True, seed: int = 1, separate: bool = False) -> TuneRequest:
    start = choose_start(open_bundle(root / "old"), ["mandible", "larynx"], separate=separate)
    return TuneRequest(
        site="tiny", name="tiny@2", start=start, recipe=RECIPE, seed=seed, accept_low=accept_low
    )


class Filling(Silent):
    """Fills a disk when training has begun."""

    def __init__(self, disk: Path) -> None:
        super().__init__()
        self._disk = disk

    def event(self, event: Mapping[str, Any]) -> None:
        """Fill it after the first validation."""
        super().event(event)
        if event["event"] == "validated":
            fill(self._disk)


def _run(root: Path, request: TuneRequest, out: str = "one", listener: Silent | None = None) -> Any:
    listener = listener or Silent()
    table = load_organs(shipped_config("organs.toml"))
    done = tune(
        request,
        CaseStore(root / "store").cases(),
        table,
        Machine(threads=1, device="cpu"),
        folder=TuneFolder(root=root / out),
        target=root / out / "models" / request.name,
        listener=listener,
    )
    return done, listener.events


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tune")
    write_patients(folder / "patients", patients=10, tests=0)
    CaseStore(folder / "store").ingest(source_cases("syn", folder / "patients", {}))
    model = TinyModel(
        labels={"mandible": 1, "spinal_cord": 2}, spacing_mm=(4.0, 4.0, 4.0), patch=(16, 32, 32), gain=1.0
    )
    draft = BundleDraft(
        name="tiny@1", version="1", title="Tiny", intended_use="Test only.", trained_on="Nothing.",
        licence="none", card="Tiny.", preprocessing=Preprocessing(outside_to_air=True, body_margin_mm=3.0),
    )  # fmt: skip
    part = PartDraft(
        folder=write_tiny(folder / "results", model), label_map={1: "mandible", 2: "spinal_cord"}
    )
    export_trained([part], draft, folder / "old")
    return folder


def test_from_a_bundle_to_a_bundle(root: Path) -> None:
    done, events = _run(root, _request(root))
    bundle = open_bundle(root / "one" / "models" / "tiny@2")
    verify_bundle(bundle)
    assert bundle.manifest.organs == ("mandible", "spinal_cord", "larynx")
    assert "orgseg_tune" not in (bundle.path / bundle.manifest.parts[0].plans).read_text(encoding="utf-8")
    assert str(root) not in (bundle.path / bundle.manifest.parts[0].plans).read_text(encoding="utf-8")
    validated = [event for event in events if event["event"] == "validated"]
    assert [event["done"] for event in validated] == [0, 6, 12, 18]
    assert {"timed", "step"} <= {event["event"] for event in events}
    assert done.summary.new == ("larynx",)
    assert done.summary.kept == ("spinal_cord",)
    result = read_json(root / "one" / "result.json")
    assert result["bundle"]["sha256"] == bundle.sha256
    fold = result["folds"][0]
    ((_, trained),) = training_cases(bundle).items()
    assert {one.held_out for one in trained} == {None, "0"}
    assert len(trained) == len(fold["training"]) + len(fold["validation"])
    assert not set(fold["training"]) & set(fold["validation"])
    case = CaseStore(root / "store").cases()[0]
    predictor = load_predictor(
        bundle, load_organs(shipped_config("organs.toml")), InferenceSettings(device="cpu")
    )
    volume = case.volume()
    found = predictor.predict(volume, find_body(volume), lambda _a, _b: None).label_map
    assert found.labels.shape == volume.grid.shape
    with pytest.raises(BundleExists):
        _run(root, _request(root))


def test_a_separate_network_leaves_the_old_one_as_it_was(root: Path) -> None:
    done, _ = _run(root, _request(root, separate=True), "separate")
    old, new = open_bundle(root / "old"), open_bundle(root / "separate" / "models" / "tiny@2")
    assert [part.labels for part in new.manifest.parts] == [{1: "mandible", 2: "larynx"}, {2: "spinal_cord"}]
    assert unchanged_organs(old, new) == {"spinal_cord"}
    assert done.summary.other == ("spinal_cord",)
    assert {row.organ for row in done.summary.rows} == {"mandible", "larynx"}
    assert list((root / "separate" / "scores" / "fold_0").glob("*-old.parquet"))


def test_a_killed_one_continues_to_the_same_weights(root: Path) -> None:
    _run(root, _request(root), "whole")
    code = (
        "from pathlib import Path\nfrom tests.integration.training import test_tune as t\n"
        f"root = Path({str(root)!r})\n"
        "if __name__ == '__main__':\n    t._run(root, t._request(root), 'killed')\n"
    )
    script = root / "killed.py"
    script.write_text(code, encoding="utf-8")
    child = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
    progress = root / "killed" / "progress.jsonl"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not (
        progress.is_file() and progress.read_text(encoding="utf-8").count("validated") >= 2
    ):
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert not (root / "killed" / "models").exists()
    _run(root, _request(root), "killed")
    same = [
        root / out / "models" / "tiny@2" / "parts" / "tuned" / "fold_0.safetensors"
        for out in ("whole", "killed")
    ]
    assert same[0].read_bytes() == same[1].read_bytes()


def test_another_request_in_the_same_folder_is_refused(root: Path) -> None:
    _run(root, _request(root), "first")
    (root / "first" / "models" / "tiny@2").rename(root / "first" / "models" / "moved")
    with pytest.raises(TuningExists, match="seed"):
        _run(root, _request(root, seed=2), "first")


def test_an_organ_that_is_not_found_is_no_bundle(root: Path) -> None:
    with pytest.raises(NothingLearned, match="larynx"):
        _run(root, _request(root, accept_low=False), "low")
    assert (root / "low" / "report.html").is_file()
    assert not (root / "low" / "models" / "tiny@2").exists()
    assert np.isfinite(read_json(root / "low" / "request.json")["seed"])


def test_a_disk_that_fills_up_is_said_and_training_goes_on_when_there_is_room(root: Path) -> None:
    with small_disk(root / "disk", 32 << 10) as disk:
        with pytest.raises(DiskFull):
            _run(root, _request(root), "disk/one", Filling(disk))
        assert not (disk / "one" / "models").exists()
        (disk / "filler").unlink()
        _, events = _run(root, _request(root), "disk/one")
        validated = [event["done"] for event in events if event["event"] == "validated"]
        assert validated[-1] == 18
        assert 0 not in validated, "it continues from its last checkpoint"
        verify_bundle(open_bundle(disk / "one" / "models" / "tiny@2"))
