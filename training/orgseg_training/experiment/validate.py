"""How good the networks are: in the cross-validation, on the test subsets, and what they cost in time."""

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
from orgseg_training.experiment.ensembles import Finder, bundle_of, draft_of, ensemble_name, forget
from orgseg_training.experiment.workspace import Network, Work
from orgseg_training.nnunet.run import Machine
from orgseg_training.shipped import training_config

CV = "cv"


def validate(work: Work, network: Network, fold: int, machine: Machine) -> None:
    """Score one fold of a network on the scans it was not trained on, on their own grid.

    Parameters
    ----------
    work : the experiment
    network : one of its networks
    fold : number of the fold, from 0
    machine : what the network runs on

    Raises
    ------
    ModelNotImportable
        If the fold is not trained yet.
    """
    name = f"{ensemble_name(network)}-fold-{fold}"
    finder = Finder(work, bundle_of(work, [network], [fold], draft_of(work, name)), machine)
    cases = [work.store.case(key) for key in work.splits.folds[fold]]
    scores, _ = _scores_of(work, network, finder, cases, CV)
    write_cases(scores, work.scores(f"cv-{network.name}-{fold}"))
    forget(work.root / "bundles" / name)


def rank(work: Work) -> dict[str, float]:
    """Write the mean Dice of each organ of strategy 1 in the cross-validation, never of a test.

    Raises
    ------
    NoPositives
        If an organ was scored nowhere.
    CasesInvalid
        If a fold was not scored yet.
    """
    found: dict[str, list[float]] = {organ: [] for organ in work.experiment.strategy_1}
    for network in work.first_networks:
        for fold in work.trained_folds:
            for score in read_cases(work.scores(f"cv-{network.name}-{fold}")):
                if score.status.is_scored:
                    found[score.organ].append(score.value("dsc"))
    unscored = [organ for organ, values in found.items() if not values]
    if unscored:
        raise NoPositives(f"Drawn in no validation scan: {', '.join(unscored)}.")
    ranks = {organ: round(statistics.fmean(values), 6) for organ, values in found.items()}
    write_json(work.root / "rank.json", ranks)
    return ranks


def test(work: Work, network: Network, machine: Machine) -> None:
    """Score the ensemble of all folds of a network on every test subset; how long each scan took is kept too.

    Parameters
    ----------
    work : the experiment
    network : one of its networks
    machine : what the network runs on

    Raises
    ------
    ModelNotImportable
        If a fold is not trained yet.
    """
    draft = draft_of(work, ensemble_name(network))
    finder = Finder(work, bundle_of(work, [network], work.trained_folds, draft), machine)
    scores: list[CaseScore] = []
    seconds: dict[str, float] = {}
    for subset, keys in work.splits.subsets.items():
        cases = [work.store.case(key) for key in keys]
        found, took = _scores_of(work, network, finder, cases, str(subset))
        scores += found
        seconds |= took
    write_cases(scores, work.scores(f"test-{network.name}"))
    write_json(work.root / "scores" / f"seconds-{network.name}.json", seconds)


def tolerances_of(work: Work) -> Tolerances:
    """Tolerance of the surface Dice of each organ."""
    return read_tolerances(training_config("tolerances.toml"), work.organs)


def score_scans(
    finder: Finder, cases: Sequence[StoredCase], scoring: Scoring, organs: Sequence[str]
) -> tuple[list[CaseScore], dict[str, float]]:
    """Run a bundle on scans and score it where organs were drawn, or are known to be outside the scan.

    Parameters
    ----------
    finder : runs the bundle
    cases : the scans; those of which nothing is known of any organ are left out
    scoring : model and subset
    organs : which organs are scored

    Returns
    -------
    The scores, and the seconds that each scan took, by key.
    """
    known = [case for case in cases if any(case.state(organ) is not OrganState.NOT_DRAWN for organ in organs)]
    return _scores(finder, known, scoring, lambda case: _drawn(case, organs))


def _scores_of(
    work: Work, network: Network, finder: Finder, cases: Sequence[StoredCase], subset: str
) -> tuple[list[CaseScore], dict[str, float]]:
    scoring = Scoring(model=f"strategy-{network.strategy}", subset=subset, tolerances=tolerances_of(work))
    if network.strategy == 2 and subset == CV and work.experiment.mode == "paper":
        return _scores(finder, cases, scoring, lambda case: _completed(work, case, network))
    return score_scans(finder, cases, scoring, network.organs)


def _scores(
    finder: Finder,
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
        found = finder.find(volume, body)
        seconds[case.key] = round(time.perf_counter() - started, 3)
        scores += scoring.compare(case, found, references(case), volume.grid.spacing_mm)
    return scores, seconds


def _drawn(case: StoredCase, organs: Sequence[str]) -> Iterator[tuple[str, Mask]]:
    """What somebody drew; of an organ that was looked for and is outside the scan, nothing."""
    nothing: Mask | None = None
    for organ in organs:
        state = case.state(organ)
        if state is OrganState.DRAWN:
            yield organ, case.mask(organ)
        elif state is OrganState.OUTSIDE:
            nothing = np.zeros(case.volume().grid.shape, np.bool_) if nothing is None else nothing
            yield organ, nothing


def _completed(work: Work, case: StoredCase, network: Network) -> Iterator[tuple[str, Mask]]:
    """The completed set, as the study scores its second strategy: agreement with itself, not accuracy."""
    labels = read_labels(work.merged(case.key))
    yield from ((organ, np.equal(labels, number)) for number, organ in enumerate(network.organs, 1))
