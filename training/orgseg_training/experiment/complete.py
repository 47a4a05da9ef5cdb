"""Filling in what was not drawn by the ensembles of strategy 1: the set that strategy 2 learns from."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from orgseg_node.core.body import find_body
from orgseg_training.datasets.case import OrganState
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.datasets.nifti import read_labels, write_image
from orgseg_training.durable import read_json, write_json
from orgseg_training.experiment.ensembles import Finder, bundle_of, draft_of, ensemble_name
from orgseg_training.experiment.merge import merge
from orgseg_training.experiment.workspace import Work
from orgseg_training.nnunet.run import Machine


def complete(work: Work, batch: int, machine: Machine) -> int:
    """Predict every organ of strategy 2 that was not drawn in the scans of a batch; how many masks were made.

    No network has seen the scans it completes: where its organ was not drawn it was not trained.
    Masks that are there are kept, so that a batch that was killed goes on where it was.

    Raises
    ------
    ModelNotImportable
        If a network is not trained yet.
    StorageError
        If a mask cannot be written.
    """
    experiment = work.experiment
    cases = [work.store.case(key) for key in work.batches()[batch]]
    made = 0
    for network in work.first_networks:
        organs = [organ for organ in network.organs if organ in experiment.strategy_2]
        missing = {case.key: [o for o in organs if _is_missing(work, case, o)] for case in cases}
        if not any(missing.values()):
            continue
        bundle = bundle_of(work, [network], work.trained_folds, draft_of(work, ensemble_name(network)))
        finder = Finder(work, bundle, machine)
        for case in (case for case in cases if missing[case.key]):
            volume = case.volume()
            found = finder.find(volume, find_body(volume))
            numbers = {organ.key: number for number, organ in found.organs.items()}
            for organ in missing[case.key]:
                mask = np.equal(found.labels, numbers[organ])
                write_image(work.completed(case.key, organ), mask.astype(np.uint8), volume.grid)
                made += 1
    return made


def _is_missing(work: Work, case: StoredCase, organ: str) -> bool:
    return case.state(organ) is OrganState.NOT_DRAWN and not work.completed(case.key, organ).is_file()


def merge_all(work: Work) -> None:
    """Write the completed set: a label image for every scan, and ``conflicts.json`` with what was contested.

    Raises
    ------
    StorageError
        If an organ was not completed, or a file cannot be written.
    """
    organs = work.experiment.strategy_2
    ranks: dict[str, float] = read_json(work.root / "rank.json")
    log = {}
    for key in sorted(work.splits.development):
        case = work.store.case(key)
        drawn = {organ: case.mask(organ) for organ in organs if case.state(organ) is OrganState.DRAWN}
        predicted = {
            organ: read_labels(work.completed(key, organ)) > 0
            for organ in organs
            if case.state(organ) is OrganState.NOT_DRAWN
        }
        labels, conflicts = merge(organs, drawn, predicted, ranks)
        write_image(work.merged(key), labels, case.volume().grid)
        log[key] = [asdict(conflict) for conflict in conflicts]
    write_json(work.root / "conflicts.json", log)
