"""Filling in what was not drawn by the ensembles of strategy 1: the set that strategy 2 learns from."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from orgseg_node.core.body import find_body
from orgseg_training.datasets.case import OrganState
from orgseg_training.datasets.nifti import read_labels, write_image
from orgseg_training.durable import read_json, write_json
from orgseg_training.experiment.ensembles import Finder, bundle_of, ensemble_name
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
    for organ in experiment.strategy_2:
        wanting = [
            case
            for case in cases
            if case.state(organ) is OrganState.NOT_DRAWN and not work.completed(case.key, organ).is_file()
        ]
        if not wanting:
            continue
        network = work.network(organ)
        bundle = bundle_of(work, [network], range(experiment.folds), name=ensemble_name(network))
        finder = Finder(work, bundle, machine)
        for case in wanting:
            volume = case.volume()
            found = finder.find(volume, find_body(volume))
            write_image(work.completed(case.key, organ), (found.labels > 0).astype(np.uint8), volume.grid)
            made += 1
    return made


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
