"""All networks of strategy 1 as one bundle for the node, measured as a whole on the held-back scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orgseg_node.errors import ConfigError
from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_training.durable import read_json
from orgseg_training.evaluation.predictions import Scoring
from orgseg_training.evaluation.results import CaseScore, read_cases, write_cases
from orgseg_training.evaluation.tables import dice_table
from orgseg_training.experiment.config import BundleSettings
from orgseg_training.experiment.ensembles import Finder, bundle_of, draft_of, forget
from orgseg_training.experiment.validate import score_scans, tolerances_of
from orgseg_training.experiment.workspace import Work
from orgseg_training.nnunet.run import Machine

SCORES = "bundle"
"""Name of the bundle's scores in the workspace."""


def measure_bundle(work: Work, machine: Machine) -> None:
    """Score the bundle on every test subset, once: where two organs claim a voxel, the higher rank gets it.

    Raises
    ------
    ConfigError
        If the experiment has no bundle.
    ModelNotImportable
        If a fold is not trained yet.
    """
    settings = _settings(work)
    bundle = _write(work, "Not measured yet.", "bundles")
    predictor = Finder(work, bundle, machine)
    scores: list[CaseScore] = []
    for subset, keys in work.splits.subsets.items():
        cases = [work.store.case(key) for key in keys]
        scoring = Scoring(model=settings.name, subset=str(subset), tolerances=tolerances_of(work))
        scores += score_scans(predictor, cases, scoring, work.experiment.strategy_1)[0]
    write_cases(scores, work.scores(SCORES))
    forget(bundle.path)


def export_bundle(work: Work) -> ModelBundle:
    """Write the bundle to ``models/`` with its measurements in the model card; one that is there is kept.

    Raises
    ------
    ConfigError
        If the experiment has no bundle.
    CasesInvalid
        If it was not measured yet.
    """
    return _write(work, bundle_card(work, read_cases(work.scores(SCORES))), "models")


def bundle_card(work: Work, scores: Sequence[CaseScore]) -> str:
    """The model card of the bundle, from its scores on the scans that were held back."""
    settings, experiment = _settings(work), work.experiment
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

Dice on {scans} scans that were held back before training and measured once, through the node's own body
contour and predictor, on the resolution of the data. An organ is counted only in the scans in which it was
drawn.

{dice_table(scores)}
{f"{chr(10)}## Limits{chr(10)}{chr(10)}{limits}" if limits else ""}"""


def _settings(work: Work) -> BundleSettings:
    settings = work.experiment.bundle
    if settings is None:
        raise ConfigError("The experiment has no section bundle.")
    return settings


def _write(work: Work, card: str, folder: str) -> ModelBundle:
    settings = _settings(work)
    draft = replace(
        draft_of(work, settings.name, card),
        version=settings.version,
        title=settings.title,
        trained_on=settings.trained_on,
    )
    ranks = read_json(work.root / "rank.json")
    return bundle_of(work, work.first_networks, work.trained_folds, draft, ranks=ranks, folder=folder)
