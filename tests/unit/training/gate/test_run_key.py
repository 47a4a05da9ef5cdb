"""The name of the cache of a gate: it changes with whatever changes a result, and with nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orgseg_node.contouring.protocol import load_protocol
from orgseg_node.core.organs import OrganTable
from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_node.inference.predictor import InferenceSettings, Method
from orgseg_training.datasets.organ_table import shipped_organs
from orgseg_training.evaluation.scoring import Tolerances
from orgseg_training.gate import run_key as module
from orgseg_training.gate.run_key import code_hash, run_key
from tests.support.models.bundles import write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "one", name="one")


def key_of(
    bundle: ModelBundle,
    *,
    settings: InferenceSettings | None = None,
    organs: OrganTable | None = None,
    tolerances: Tolerances | None = None,
) -> str:
    return run_key(
        bundle,
        settings or InferenceSettings(),
        load_protocol("default"),
        organs or shipped_organs(),
        tolerances or Tolerances(),
    )


def with_row(organ: str) -> OrganTable:
    table = shipped_organs()
    return OrganTable({**table, organ: replace(table[organ], volume_ml=(1.0, 2.0))})


def test_whatever_decides_a_result_changes_the_key(bundle: ModelBundle, tmp_path: Path) -> None:
    keys = [
        key_of(bundle),
        key_of(write_bundle(tmp_path / "two", name="two")),
        key_of(bundle, settings=InferenceSettings(method=Method.WHOLE)),
        key_of(bundle, organs=with_row("spleen")),
        key_of(bundle, tolerances=Tolerances(default_mm=9.0)),
    ]
    assert len(set(keys)) == len(keys)
    assert key_of(bundle) == keys[0]
    assert key_of(bundle, organs=with_row("rectum")) == keys[0], "the bundle has no rectum"


def test_other_code_changes_the_key(bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of(bundle)
    monkeypatch.setattr(module, "_code", lambda: "other")
    assert key_of(bundle) != before


def test_the_code_of_a_run_is_all_that_computes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []
    monkeypatch.setattr(module, "code_hash", lambda folders: hashed.extend(folders.values()) or "")
    module._code.__wrapped__()  # without its cache
    for file in (
        "orgseg_node/core/metrics",
        "orgseg_node/contouring/structures.py",
        "orgseg_node/inference/engine",
        "orgseg_training/gate/runs.py",
        "orgseg_training/evaluation/delivery.py",
    ):
        (root,) = {Path(folder) for folder in hashed if file.rsplit("/", maxsplit=1)[0] in str(folder)}
        assert root.is_dir()


def test_a_changed_a_new_and_a_renamed_file_change_the_hash_of_code(tmp_path: Path) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "one.py").write_text("a = 1\n")
    hashes = [code_hash({"package": folder})]
    (folder / "notes.txt").write_text("no code")
    assert code_hash({"package": folder}) == hashes[0]
    (folder / "one.py").write_text("a = 2\n")
    hashes.append(code_hash({"package": folder}))
    (folder / "two.py").write_text("")
    hashes.append(code_hash({"package": folder}))
    (folder / "two.py").rename(folder / "three.py")
    hashes.append(code_hash({"package": folder}))
    assert len(set(hashes)) == 4
