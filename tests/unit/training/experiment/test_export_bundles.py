"""Both strategies leave bundles that the node loads and runs, with what was measured in their cards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orgseg_node.core.body import find_body
from orgseg_node.core.metrics import Comparison, Status
from orgseg_node.inference.bundles.bundle import open_bundle, verify_bundle
from orgseg_node.inference.loading import load_predictor
from orgseg_node.inference.predictor import InferenceSettings
from orgseg_training.datasets.nifti import read_volume
from orgseg_training.durable import write_json
from orgseg_training.evaluation.results import CaseScore, write_cases
from orgseg_training.experiment.config import load_experiment
from orgseg_training.experiment.export_bundles import export_models
from orgseg_training.experiment.workspace import Network, Workspace
from orgseg_training.shipped import training_config
from tests.support.ct.openkbp_tree import write_openkbp_tree
from tests.support.models.tiny_nnunet import TinyModel, write_tiny


def _trained(workspace: Workspace, network: Network) -> None:
    """A network as nnU-Net leaves it, and its measurements."""
    folder = workspace.nnunet.trained(network.dataset)
    labels: dict[str, int | list[int]] = {organ: n for n, organ in enumerate(network.organs, 1)}
    made = write_tiny(
        workspace.root / "made",
        TinyModel(
            labels=labels, folds=(0, 1), dataset_name=network.dataset.folder, spacing_mm=(8.0, 8.0, 8.0)
        ),
    )
    folder.parent.mkdir(parents=True)
    made.rename(folder)
    for place, subset, dice in (("cv-{}-0", "cv", 0.8), ("cv-{}-1", "cv", 0.6), ("test-{}", "2", 0.5)):
        name = place.format(network.name)
        comparison = Comparison(status=Status.OK, dsc=dice, sdsc=0.25, hd95_mm=4.0)
        score = CaseScore(
            model=f"strategy-{network.strategy}",
            subset=subset,
            case=name,
            organ="",
            group=name,
            db="synthetic",
            child=None,
            comparison=comparison,
        )
        write_cases([replace(score, organ=organ) for organ in network.organs], workspace.scores(name))


@pytest.mark.slow
def test_every_network_becomes_a_bundle_with_its_metrics_that_the_node_runs(tmp_path: Path) -> None:
    workspace = Workspace(
        experiment=load_experiment(training_config("experiments/smoke.toml")), root=tmp_path / "work"
    )
    for network in workspace.networks:
        _trained(workspace, network)
    write_json(workspace.root / "rank.json", {"mandible": 0.7, "larynx": 0.7})
    bundles = export_models(workspace)
    assert [b.manifest.name for b in bundles] == ["s1-mandible", "s1-larynx", "s2-all"]
    data = write_openkbp_tree(tmp_path / "data", {"P0": ("mandible",)})
    volume = read_volume(data / "imagesTr" / "P0_0000.nii.gz")
    for bundle, network in zip(bundles, workspace.networks, strict=True):
        card = (bundle.path / "card.md").read_text(encoding="utf-8")
        for organ in network.organs:
            assert f"| {organ} | cv | 2 | 0.700 | 0.250 | 4.000 |" in card
            assert f"| {organ} | 2 | 1 | 0.500 | 0.250 | 4.000 |" in card
        verify_bundle(open_bundle(bundle.path))
        assert len(list(bundle.path.rglob("*.safetensors"))) == 2
        predictor = load_predictor(bundle, workspace.organs, InferenceSettings(device="cpu", threads=2))
        found = predictor.predict(volume, find_body(volume), lambda _done, _doing: None).label_map
        assert {organ.key for organ in found.organs.values()} == set(network.organs)
        assert np.any(found.labels)
    assert [b.path for b in export_models(workspace)] == [b.path for b in bundles], "kept"
