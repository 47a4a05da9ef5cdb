"""Completion: ensembles of strategy 1 predict what was not drawn; strategy 2 is trained on the result."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from orgseg_node.core.body import find_body
from orgseg_training.datasets.case import Mask, OrganState
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.datasets.nifti import read_labels, write_image
from orgseg_training.durable import read_json, write_json
from orgseg_training.experiment.ensembles import BundlePredictor, bundle_draft, ensemble_name, make_bundle
from orgseg_training.experiment.merge import merge_masks
from orgseg_training.experiment.workspace import Workspace
from orgseg_training.nnunet.run import Machine


def complete_batch(workspace: Workspace, batch: int, machine: Machine) -> int:
    """Predict every organ of strategy 2 that was not drawn in the scans of a batch.

    No network was trained on the scans it completes, since its organ was not drawn there. Existing masks are
    kept, so that an interrupted batch continues.

    Parameters
    ----------
    workspace : of the experiment
    batch : number of the batch, from 0
    machine : what the networks run on

    Returns
    -------
    The number of masks that were written.

    Raises
    ------
    ModelNotImportable
        If a network is not trained yet.
    StorageError
        If a mask cannot be written.
    """
    experiment = workspace.experiment
    cases = [workspace.store.case(key) for key in workspace.batches()[batch]]
    written = 0
    for network in workspace.networks_of_strategy_1:
        organs = [organ for organ in network.organs if organ in experiment.strategy_2]
        missing = {case.key: [o for o in organs if _is_missing(workspace, case, o)] for case in cases}
        if not any(missing.values()):
            continue
        bundle = make_bundle(
            workspace, [network], workspace.trained_folds, bundle_draft(workspace, ensemble_name(network))
        )
        predictor = BundlePredictor(workspace, bundle, machine)
        for case in (case for case in cases if missing[case.key]):
            volume = case.volume()
            found = predictor.predict(volume, find_body(volume))
            numbers = {organ.key: number for number, organ in found.organs.items()}
            for organ in missing[case.key]:
                mask = np.equal(found.labels, numbers[organ])
                write_image(workspace.completed(case.key, organ), mask.astype(np.uint8), volume.grid)
                written += 1
    return written


def _is_missing(workspace: Workspace, case: StoredCase, organ: str) -> bool:
    unknown = case.state(organ) is OrganState.NOT_DRAWN or organ in case.known_slices
    return unknown and not workspace.completed(case.key, organ).is_file()


def _whole_mask(workspace: Workspace, case: StoredCase, organ: str) -> Mask:
    """What was drawn of an organ, and beyond that what was predicted where nothing is known of it."""
    mask = case.mask(organ)
    if organ in case.known_slices:
        predicted = read_labels(workspace.completed(case.key, organ)) > 0
        predicted[case.known(organ)] = False
        mask |= predicted
    return mask


def merge_all(workspace: Workspace) -> None:
    """Write the completed set: a label image for every scan, and ``conflicts.json`` with contested voxels.

    Raises
    ------
    StorageError
        If an organ was not completed, or a file cannot be written.
    """
    organs = workspace.experiment.strategy_2
    ranks: dict[str, float] = read_json(workspace.root / "rank.json")
    log = {}
    for key in sorted(workspace.splits.development):
        case = workspace.store.case(key)
        drawn = {
            organ: _whole_mask(workspace, case, organ)
            for organ in organs
            if case.state(organ) is OrganState.DRAWN
        }
        predicted = {
            organ: read_labels(workspace.completed(key, organ)) > 0
            for organ in organs
            if case.state(organ) is OrganState.NOT_DRAWN
        }
        labels, conflicts = merge_masks(organs, drawn, predicted, ranks)
        write_image(workspace.merged(key), labels, case.volume().grid)
        log[key] = [asdict(conflict) for conflict in conflicts]
    write_json(workspace.root / "conflicts.json", log)
