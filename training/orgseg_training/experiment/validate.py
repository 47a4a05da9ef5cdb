"""How good the networks are: in the cross-validation, on the test subsets, and what they cost in time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence

import numpy as np

from orgseg_node.core.body import find_body
from orgseg_node.core.metrics import compare
from orgseg_node.core.metrics.comparison import Comparison
from orgseg_training.datasets.case import Mask, OrganState
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.datasets.nifti import read_labels
from orgseg_training.durable import write_json
from orgseg_training.errors import NoPositives
from orgseg_training.evaluation.results import CaseScore, read_cases, write_cases
from orgseg_training.evaluation.scoring import read_tolerances
from orgseg_training.experiment.ensembles import Finder, bundle_of, ensemble_name, forget
from orgseg_training.experiment.workspace import Network, Work
from orgseg_training.nnunet.run import Machine
from orgseg_training.shipped import training_config

_CHILD_YEARS = 18.0
CV = "cv"


def validate(work: Work, network: Network, fold: int, machine: Machine) -> None:
    """Score one fold of a network on the scans it was not trained on, on their own grid.

    Raises
    ------
    ModelNotImportable
        If the fold is not trained yet.
    """
    name = f"{ensemble_name(network)}-fold-{fold}"
    finder = Finder(work, bundle_of(work, [network], [fold], name=name), machine)
    cases = [work.store.case(key) for key in work.splits.folds[fold]]
    write_cases(_scores(work, network, finder, cases, CV)[0], work.scores(f"cv-{network.name}-{fold}"))
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
    ranks = {}
    for network in work.networks:
        if network.strategy == 1:
            scores = [
                score.value("dsc")
                for fold in range(work.experiment.folds)
                for score in read_cases(work.scores(f"cv-{network.name}-{fold}"))
                if score.status.is_scored
            ]
            if not scores:
                raise NoPositives(f"{network.name} was drawn in no validation scan.")
            ranks[network.name] = round(statistics.fmean(scores), 6)
    write_json(work.root / "rank.json", ranks)
    return ranks


def test(work: Work, network: Network, machine: Machine) -> None:
    """Score the ensemble of all folds of a network on every test subset; how long each scan took is kept too.

    Raises
    ------
    ModelNotImportable
        If a fold is not trained yet.
    """
    folds = range(work.experiment.folds)
    finder = Finder(work, bundle_of(work, [network], folds, name=ensemble_name(network)), machine)
    scores: list[CaseScore] = []
    seconds: dict[str, float] = {}
    for subset, keys in work.splits.subsets.items():
        cases = [work.store.case(key) for key in keys]
        found, took = _scores(work, network, finder, cases, str(subset))
        scores += found
        seconds |= took
    write_cases(scores, work.scores(f"test-{network.name}"))
    write_json(work.root / "scores" / f"seconds-{network.name}.json", seconds)


def _scores(
    work: Work, network: Network, finder: Finder, cases: Sequence[StoredCase], subset: str
) -> tuple[list[CaseScore], dict[str, float]]:
    tolerances = read_tolerances(training_config("tolerances.toml"), work.organs)
    scores: list[CaseScore] = []
    seconds = {}
    for case in cases:
        known = {organ: case.state(organ) for organ in network.organs}
        completed = network.strategy == 2 and subset == CV and work.experiment.mode == "paper"
        if not completed and all(state is OrganState.NOT_DRAWN for state in known.values()):
            continue
        volume = case.volume()
        body = find_body(volume)
        started = time.perf_counter()
        found = finder.find(volume, body)
        seconds[case.key] = round(time.perf_counter() - started, 3)
        numbers = {organ.key: number for number, organ in found.organs.items()}
        truths = _completed(work, case, network) if completed else _drawn(case, network)
        for organ, truth in truths:
            ours = np.equal(found.labels, numbers[organ])
            comparison = compare(truth, ours, volume.grid.spacing_mm, tolerances.of(organ))
            scores.append(_line(case, organ, f"strategy-{network.strategy}", subset, comparison))
    return scores, seconds


def _drawn(case: StoredCase, network: Network) -> Iterator[tuple[str, Mask]]:
    """What somebody drew; of an organ that was looked for and is outside the scan, nothing."""
    nothing: Mask | None = None
    for organ in network.organs:
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


def _line(case: StoredCase, organ: str, model: str, subset: str, comparison: Comparison) -> CaseScore:
    return CaseScore(
        model=model,
        subset=subset,
        case=case.key,
        organ=organ,
        group=f"{case.database}/{case.patient}",
        db=case.database,
        child=None if case.age_years is None else case.age_years < _CHILD_YEARS,
        comparison=comparison,
    )
