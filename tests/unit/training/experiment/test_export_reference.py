"""A bundle that is given away has the reference anatomy of its training scans, and of no test scan."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.inference.bundles.bundle import ModelBundle, verify_bundle
from orgseg_node.inference.bundles.manifest import Part
from orgseg_node.inference.bundles.references import REFERENCE, read_reference
from orgseg_training.datasets.openkbp import source_cases
from orgseg_training.experiment.config import load_experiment
from orgseg_training.experiment.ensembles import MODELS, bundle_draft, make_bundle
from orgseg_training.experiment.splits import lock_splits, make_splits
from orgseg_training.experiment.workspace import Workspace
from orgseg_training.shipped import training_config
from tests.support.ct.openkbp_tree import write_openkbp_tree
from tests.support.models.bundles import write_bundle

TRAINED, LOCKED, WITHOUT_LARYNX = 18, 3, 2
NAME = "s1-both"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An experiment with 18 patients for training and three that are locked; two have no larynx drawn."""
    names = [f"P{number:02d}" for number in range(TRAINED + LOCKED)]
    both = ("mandible", "larynx")
    drawn = {name: both[:1] if n < WITHOUT_LARYNX else both for n, name in enumerate(names)}
    data = write_openkbp_tree(tmp_path / "data", drawn, locked=names[TRAINED:])
    made = Workspace(
        experiment=load_experiment(training_config("experiments/smoke.toml")), root=tmp_path / "work"
    )
    made.store.ingest(source_cases("synthetic", data, {}))
    return made


def exported(workspace: Workspace, folder: str) -> ModelBundle:
    """A bundle as the experiment leaves it; its networks were written before."""
    labels = {1: "mandible", 2: "larynx"}
    part = Part(folder="parts/main", configuration="3d_fullres", folds=("0",), labels=labels, priorities={})
    write_bundle(workspace.root / folder / NAME, name=NAME, parts=(part,))
    return make_bundle(workspace, [], (0,), bundle_draft(workspace, NAME, "# A card\n"), folder=folder)


@pytest.mark.endurance
def test_the_reference_is_learnt_from_the_training_scans_only(workspace: Workspace) -> None:
    lock_splits(make_splits(workspace.experiment, workspace.store.cases()), workspace.splits_file)
    bundle = exported(workspace, MODELS)
    verify_bundle(bundle)
    anatomy = read_reference(bundle).anatomy
    assert anatomy is not None
    group = anatomy.population(None)
    assert group.patients == TRAINED
    assert {key: organ.patients for key, organ in group.organs.items()} == {
        "mandible": TRAINED,
        "larynx": TRAINED - WITHOUT_LARYNX,
    }
    assert anatomy.source == "Training contours: nothing Licence: Apache-2.0"


def test_a_bundle_for_measurements_only_has_no_reference(workspace: Workspace) -> None:
    lock_splits(make_splits(workspace.experiment, workspace.store.cases()), workspace.splits_file)
    assert REFERENCE not in exported(workspace, "bundles").manifest.files


def test_without_locked_splits_nothing_is_learnt(workspace: Workspace) -> None:
    assert REFERENCE not in exported(workspace, MODELS).manifest.files
