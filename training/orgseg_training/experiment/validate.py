"""Scores of the networks in the cross-validation and on the test subsets, and the time they take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from orgseg_node.core.body import find_body
from orgseg_training.datasets.case import Mask, OrganState
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.datasets.nifti import read_labels
from orgseg_training.durable import write_json
from orgseg_training.errors import NoPositives
from orgseg_training.evaluation.predictions import Scoring
from orgseg_training.evaluation.results import CaseScore, read_cases, write_cases
from orgseg_training.evaluation.scoring import Tolerances, read_tolerances
from orgseg_training.experiment.ensembles import (
    BundlePredictor,
    bundle_draft,
    delete_bundle,
    ensemble_name,
    make_bundle,
)
from orgseg_training.experiment.workspace import Network, Workspace
from orgseg_training.nnunet.run import Machine
from orgseg_training.shipped import training_config

CV = "cv"


def validate_fold(workspace: Workspace, network: Network, fold: int, machine: Machine) -> None:
    """Score one fold of a network on the scans it was not trained on, on their own grid.

    Parameters
    ----------
    workspace : of the experiment
    network : one of its networks
    fold : number of the fold, from 0
    machine : what the network runs on

    Raises
    ------
    ModelNotImportable
        If the fold is not trained yet.
    """
    name = f"{ensemble_name(network)}-fold-{fold}"
    predictor = BundlePredictor(
        workspace, make_bundle(workspace, [network], [fold], bundle_draft(workspace, name)), machine
    )
    cases = [workspace.store.case(key) for key in workspace.splits.folds[fold]]
    scores, _ = _scores_of(workspace, network, predictor, cases, CV)
    write_cases(scores, workspace.scores(f"cv-{network.name}-{fold}"))
    delete_bundle(workspace.root / "bundles" / name)


def rank_organs(workspace: Workspace) -> dict[str, float]:
    """Write the mean Dice of each organ of strategy 1 in the cross-validation, without the test subsets.

    Raises
    ------
    NoPositives
        If an organ was scored in no scan.
    CasesInvalid
        If a fold was not scored yet.
    """
    found: dict[str, list[float]] = {organ: [] for organ in workspace.experiment.strategy_1}
    for network in workspace.networks_of_strategy_1:
        for fold in workspace.trained_folds:
            for score in read_cases(workspace.scores(f"cv-{network.name}-{fold}")):
                if score.status.is_scored:
                    found[score.organ].append(score.value("dsc"))
    unscored = [organ for organ, values in found.items() if not values]
    if unscored:
        raise NoPositives(f"Drawn in no validation scan: {', '.join(unscored)}.")
    ranks = {organ: round(statistics.fmean(values), 6) for organ, values in found.items()}
    write_json(workspace.root / "rank.json", ranks)
    return ranks


def score_ensemble(workspace: Workspace, network: Network, machine: Machine) -> None:
    """Score the ensemble of all folds of a network on every test subset, and write the time of each scan.

    Parameters
    ----------
    workspace : of the experiment
    network : one of its networks
    machine : what the network runs on

    Raises
    ------
    ModelNotImportable
        If a fold is not trained yet.
    """
    draft = bundle_draft(workspace, ensemble_name(network))
    predictor = BundlePredictor(
        workspace, make_bundle(workspace, [network], workspace.trained_folds, draft), machine
    )
    scores: list[CaseScore] = []
    seconds: dict[str, float] = {}
    for subset, keys in workspace.splits.subsets.items():
        cases = [workspace.store.case(key) for key in keys]
        subset_scores, subset_seconds = _scores_of(workspace, network, predictor, cases, str(subset))
        scores += subset_scores
        seconds |= subset_seconds
    write_cases(scores, workspace.scores(f"test-{network.name}"))
    write_json(workspace.root / "scores" / f"seconds-{network.name}.json", seconds)


def tolerances_of(workspace: Workspace) -> Tolerances:
    """Tolerance of the surface Dice of each organ."""
    return read_tolerances(training_config("tolerances.toml"), workspace.organs)


def score_scans(
    predictor: BundlePredictor, cases: Sequence[StoredCase], scoring: Scoring, organs: Sequence[str]
) -> tuple[list[CaseScore], dict[str, float]]:
    """Run a bundle on scans and score the organs that were drawn or are known to be outside the scan.

    Parameters
    ----------
    predictor : of the bundle
    cases : the scans; a scan without any known organ is left out
    scoring : model and subset
    organs : that are scored

    Returns
    -------
    The scores, and the seconds for each scan, by key.
    """
    known = [case for case in cases if any(case.state(organ) is not OrganState.NOT_DRAWN for organ in organs)]
    return _scores(predictor, known, scoring, lambda case: _drawn_masks(case, organs))


def _scores_of(
    workspace: Workspace,
    network: Network,
    predictor: BundlePredictor,
    cases: Sequence[StoredCase],
    subset: str,
) -> tuple[list[CaseScore], dict[str, float]]:
    scoring = Scoring(
        model=f"strategy-{network.strategy}", subset=subset, tolerances=tolerances_of(workspace)
    )
    if network.strategy == 2 and subset == CV and workspace.experiment.mode == "paper":
        return _scores(predictor, cases, scoring, lambda case: _completed_masks(workspace, case, network))
    return score_scans(predictor, cases, scoring, network.organs)


def _scores(
    predictor: BundlePredictor,
    cases: Sequence[StoredCase],
    scoring: Scoring,
    references: Callable[[StoredCase], Iterable[tuple[str, Mask]]],
) -> tuple[list[CaseScore], dict[str, float]]:
    scores: list[CaseScore] = []
    seconds = {}
    for case in cases:
        volume = case.volume()
        body = find_body(volume)
        started = time.perf_counter()
        found = predictor.predict(volume, body)
        seconds[case.key] = round(time.perf_counter() - started, 3)
        scores += scoring.compare(case, found, references(case), volume.grid.spacing_mm)
    return scores, seconds


def _drawn_masks(case: StoredCase, organs: Sequence[str]) -> Iterator[tuple[str, Mask]]:
    """The mask of each organ that was drawn; an empty mask for an organ outside the scan."""
    empty: Mask | None = None
    for organ in organs:
        state = case.state(organ)
        if state is OrganState.DRAWN:
            yield organ, case.mask(organ)
        elif state is OrganState.OUTSIDE:
            empty = np.zeros(case.volume().grid.shape, np.bool_) if empty is None else empty
            yield organ, empty


def _completed_masks(workspace: Workspace, case: StoredCase, network: Network) -> Iterator[tuple[str, Mask]]:
    """Masks of the completed set, as the study scores strategy 2: agreement with itself, not accuracy."""
    labels = read_labels(workspace.merged(case.key))
    yield from ((organ, np.equal(labels, number)) for number, organ in enumerate(network.organs, 1))
