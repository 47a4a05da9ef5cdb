"""What an experiment leaves to the node: each trained ensemble as a bundle whose card says how good it is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_training.durable import read_json
from orgseg_training.evaluation.results import CaseScore, read_cases
from orgseg_training.experiment.combined_bundle import export_bundle
from orgseg_training.experiment.ensembles import bundle_of, draft_of, ensemble_name
from orgseg_training.experiment.validate import CV
from orgseg_training.experiment.workspace import Network, Work

_METRICS = ("dsc", "sdsc", "hd95_mm")


def export_models(work: Work) -> tuple[ModelBundle, ...]:
    """Write a bundle of every network, and that of the experiment, to ``models/``; existing ones are kept.

    Raises
    ------
    CasesInvalid
        If a network was not measured yet.
    ModelNotImportable
        If a fold is not trained yet.
    """
    bundles = tuple(_export(work, network) for network in work.networks)
    return (*bundles, export_bundle(work)) if work.experiment.bundle else bundles


def scores_of(work: Work, network: Network) -> tuple[str, ...]:
    """Names of the scores of a network: its trained folds in the cross-validation, and its tests."""
    return (*(f"cv-{network.name}-{fold}" for fold in work.trained_folds), f"test-{network.name}")


def _export(work: Work, network: Network) -> ModelBundle:
    scores = [score for name in scores_of(work, network) for score in read_cases(work.scores(name))]
    ranks = read_json(work.root / "rank.json") if network.strategy == 1 else {}
    draft = draft_of(work, ensemble_name(network), model_card(work, network, scores))
    return bundle_of(work, [network], work.trained_folds, draft, ranks=ranks, folder="models")


def model_card(work: Work, network: Network, scores: Sequence[CaseScore]) -> str:
    """The card of a network, with a line of measurements for each organ and set of scans.

    Parameters
    ----------
    work : the experiment
    network : one of its networks
    scores : its cross-validation and its tests
    """
    experiment = work.experiment
    databases = ", ".join(database.name for database in experiment.databases)
    agreement = (
        "\nThe cross-validation of this network was scored against the completed set: agreement with itself,"
        " not accuracy.\n"
        if network.strategy == 2 and experiment.mode == "paper"
        else ""
    )
    return f"""# {experiment.name}, strategy {network.strategy}: {network.name}

**{experiment.intended_use}**

Trained on {databases}, {len(work.trained_folds)} folds, averaged. Licence: {experiment.licence}

Contours are automatic and unreviewed; they become a plan's contours only when a person has approved them.

## How good it is

Measured through the node's own body contour and engine, on the scan's own grid. In the cross-validation (cv)
each scan was seen by the fold that was not trained on it, on the test subsets by all folds together. Means
over the scans in which the organ was drawn; HD95 only where the organ was found.
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
