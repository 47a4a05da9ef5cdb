"""Bundles for the node: each trained ensemble with its scores in the model card."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_training.durable import read_json
from orgseg_training.evaluation.results import CaseScore, read_cases
from orgseg_training.experiment.combined_bundle import export_bundle
from orgseg_training.experiment.ensembles import MODELS, bundle_draft, ensemble_name, make_bundle
from orgseg_training.experiment.validate import CV
from orgseg_training.experiment.workspace import Network, Workspace

_METRICS = ("dsc", "sdsc", "hd95_mm")


def export_models(workspace: Workspace) -> tuple[ModelBundle, ...]:
    """Write a bundle of every network, and that of the experiment, to ``models/``; existing ones are kept.

    Raises
    ------
    CasesInvalid
        If a network was not measured yet.
    ModelNotImportable
        If a fold is not trained yet.
    """
    bundles = tuple(_export(workspace, network) for network in workspace.networks)
    return (*bundles, export_bundle(workspace)) if workspace.experiment.bundle else bundles


def score_names(workspace: Workspace, network: Network) -> tuple[str, ...]:
    """Names of the scores of a network: its folds in the cross-validation, and its tests."""
    return (*(f"cv-{network.name}-{fold}" for fold in workspace.trained_folds), f"test-{network.name}")


def _export(workspace: Workspace, network: Network) -> ModelBundle:
    scores = [
        score for name in score_names(workspace, network) for score in read_cases(workspace.scores(name))
    ]
    ranks = read_json(workspace.root / "rank.json") if network.strategy == 1 else {}
    draft = bundle_draft(workspace, ensemble_name(network), model_card(workspace, network, scores))
    return make_bundle(workspace, [network], workspace.trained_folds, draft, ranks=ranks, folder=MODELS)


def model_card(workspace: Workspace, network: Network, scores: Sequence[CaseScore]) -> str:
    """The model card of a network, with a line of scores for each organ and set of scans.

    Parameters
    ----------
    workspace : of the experiment
    network : one of its networks
    scores : of its cross-validation and its tests
    """
    experiment = workspace.experiment
    databases = ", ".join(database.name for database in experiment.databases)
    agreement = (
        "\nThe cross-validation of this network was scored against the completed set: agreement with itself,"
        " not accuracy.\n"
        if network.strategy == 2 and experiment.mode == "paper"
        else ""
    )
    return f"""# {experiment.name}, strategy {network.strategy}: {network.name}

**{experiment.intended_use}**

Trained on {databases}, {len(workspace.trained_folds)} folds, averaged. Licence: {experiment.licence}

Contours are automatic and unreviewed; they become a plan's contours only when a person has approved them.

## How good it is

Measured through the node's own body contour and engine, on the scan's own grid. In the cross-validation (cv)
each scan was predicted by the fold that was not trained on it, on the test subsets by all folds together.
Means over the scans in which the organ was drawn; HD95 only over those in which it was found.
{agreement}
| organ | scans | number | Dice | surface Dice | HD95 mm |
|---|---|---|---|---|---|
{chr(10).join(_lines(network, scores))}
"""


def _lines(network: Network, scores: Sequence[CaseScore]) -> Iterator[str]:
    subsets = sorted({score.subset for score in scores}, key=lambda subset: (subset != CV, subset))
    for organ in network.organs:
        for subset in subsets:
            own = [s for s in scores if (s.organ, s.subset) == (organ, subset) and s.status.is_scored]
            means = " | ".join(_mean(own, metric) for metric in _METRICS)
            yield f"| {organ} | {subset} | {len(own)} | {means} |"


def _mean(scores: Sequence[CaseScore], metric: str) -> str:
    values = [value for value in (score.value(metric) for score in scores) if not math.isnan(value)]
    return f"{statistics.fmean(values):.3f}" if values else "-"
