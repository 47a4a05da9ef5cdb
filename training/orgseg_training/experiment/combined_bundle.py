"""All networks of strategy 1 as one bundle for the node, measured as a whole on the held-out scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_training.durable import read_json
from orgseg_training.errors import TrainingSettingsInvalid
from orgseg_training.evaluation.predictions import Scoring
from orgseg_training.evaluation.results import CaseScore, read_cases, write_cases
from orgseg_training.evaluation.tables import dice_table
from orgseg_training.experiment.config import BundleSettings
from orgseg_training.experiment.ensembles import (
    MODELS,
    BundlePredictor,
    bundle_draft,
    delete_bundle,
    make_bundle,
)
from orgseg_training.experiment.validate import score_scans, tolerances_of
from orgseg_training.experiment.workspace import Workspace
from orgseg_training.nnunet.run import Machine

SCORES = "bundle"
"""Name of the bundle's scores in the workspace."""


def measure_bundle(workspace: Workspace, machine: Machine) -> None:
    """Score the bundle once on every test subset; a voxel that two organs claim goes to the higher rank.

    Raises
    ------
    TrainingSettingsInvalid
        If the experiment has no bundle.
    ModelNotImportable
        If a fold is not trained yet.
    """
    settings = _settings(workspace)
    bundle = _write(workspace, "Not measured yet.", "bundles")
    predictor = BundlePredictor(workspace, bundle, machine)
    scores: list[CaseScore] = []
    for subset, keys in workspace.splits.subsets.items():
        cases = [workspace.store.case(key) for key in keys]
        scoring = Scoring(model=settings.name, subset=str(subset), tolerances=tolerances_of(workspace))
        scores += score_scans(predictor, cases, scoring, workspace.experiment.strategy_1)[0]
    write_cases(scores, workspace.scores(SCORES))
    delete_bundle(bundle.path)


def export_bundle(workspace: Workspace) -> ModelBundle:
    """Write the bundle to ``models/`` with its scores in the model card; an existing one is kept.

    Raises
    ------
    TrainingSettingsInvalid
        If the experiment has no bundle.
    CasesInvalid
        If it was not measured yet.
    """
    return _write(workspace, bundle_card(workspace, read_cases(workspace.scores(SCORES))), MODELS)


def bundle_card(workspace: Workspace, scores: Sequence[CaseScore]) -> str:
    """The model card of the bundle, from its scores on the held-out scans."""
    settings, experiment = _settings(workspace), workspace.experiment
    limits = "".join(f"* {sentence}\n" for sentence in settings.limits)
    scans = len({score.case for score in scores})
    return f"""# {settings.title} {settings.version}

**{experiment.intended_use}**

{settings.trained_on}

Licence: {experiment.licence}

Contours are automatic and unreviewed; they become a plan's contours only when a person has approved them.

## What it finds

{", ".join(experiment.strategy_1)}

## How good it is

Dice on {scans} scans that were held out before training and measured once, through the node's own body
contour and predictor, on the resolution of the data. An organ is counted only in the scans in which it was
drawn.

{dice_table(scores)}
{f"{chr(10)}## Limits{chr(10)}{chr(10)}{limits}" if limits else ""}"""


def _settings(workspace: Workspace) -> BundleSettings:
    settings = workspace.experiment.bundle
    if settings is None:
        raise TrainingSettingsInvalid("The experiment has no section bundle.")
    return settings


def _write(workspace: Workspace, card: str, folder: str) -> ModelBundle:
    settings = _settings(workspace)
    draft = replace(
        bundle_draft(workspace, settings.name, card),
        version=settings.version,
        title=settings.title,
        trained_on=settings.trained_on,
    )
    ranks = read_json(workspace.root / "rank.json")
    return make_bundle(
        workspace,
        workspace.networks_of_strategy_1,
        workspace.trained_folds,
        draft,
        ranks=ranks,
        folder=folder,
    )
