"""Scans as nnU-Net data sets, one for each network, cropped to the body as the node crops them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.body import cut_to_body, find_body
from orgseg_node.core.geometry import Box
from orgseg_node.errors import StorageError
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.datasets.nifti import read_labels, read_volume, write_image
from orgseg_training.durable import read_json, write_json
from orgseg_training.errors import NoPositives
from orgseg_training.experiment.splits import Splits
from orgseg_training.experiment.workspace import Network, Workspace
from orgseg_training.nnunet.run import plan_and_preprocess


def crop_to_body(workspace: Workspace, case: StoredCase) -> Box:
    """Crop a CT to the patient and set everything outside to air, once; returns the box.

    Raises
    ------
    BodyNotFound
        If there is no patient in it.
    StorageError
        If it cannot be written.
    """
    image = workspace.cropped(case.key)
    note = image.with_name(f"{case.key}.json")
    if image.is_file() and note.is_file():
        stored = read_json(note)
        return Box(start=tuple(stored["start"]), stop=tuple(stored["stop"]))
    volume = case.volume()
    cropped, box = cut_to_body(
        volume, find_body(volume), workspace.experiment.body_margin_mm, outside_to_air=True
    )
    write_image(image, cropped.hu, cropped.grid)
    write_json(note, {"start": list(box.start), "stop": list(box.stop)})
    return box


def training_cases(
    workspace: Workspace, network: Network, splits: Splits | None = None
) -> tuple[StoredCase, ...]:
    """The scans a network is trained on: those with all its organs drawn, or for strategy 2 all scans.

    Of an organ that was not drawn nothing is known: the scan is left out, and is never background.

    Parameters
    ----------
    workspace : of the experiment
    network : one of its networks
    splits : of the scans; the locked ones if none are given
    """
    development = (splits or workspace.splits).development
    cases = [case for case in workspace.store.cases() if case.key in development]
    if network.strategy == 2:
        return tuple(cases)
    return tuple(case for case in cases if set(network.organs) <= case.drawn)


def prepare_network(workspace: Workspace, network: Network) -> None:
    """Write the data set of a network, and plan and preprocess it with nnU-Net; existing files are kept.

    Raises
    ------
    NoPositives
        If a fold has no scan to validate on, or none to train on.
    TrainerFailed
        If nnU-Net fails.
    StorageError
        If files cannot be written.
    """
    splits = workspace.splits
    cases = training_cases(workspace, network, splits)
    folds = []
    for number, keys in enumerate(splits.folds):
        fold = {
            "train": [case.key for case in cases if case.key not in keys],
            "val": [case.key for case in cases if case.key in keys],
        }
        if not fold["train"] or not fold["val"]:
            raise NoPositives(f"{network.name}, fold {number}.")
        folds.append(fold)
    write_dataset(workspace, network, cases)
    pretrained = workspace.pretrained_network(network)
    plan_and_preprocess(
        workspace.nnunet,
        network.dataset,
        folds,
        workspace.shape(network),
        pretrained.dataset if pretrained else None,
    )


def write_dataset(workspace: Workspace, network: Network, cases: Sequence[StoredCase]) -> None:
    """Write the nnU-Net raw data set of a network; scans that are already written are kept.

    Parameters
    ----------
    workspace : of the experiment
    network : one of its networks
    cases : the scans it is trained and validated on

    Raises
    ------
    StorageError
        If files cannot be written.
    """
    target = workspace.nnunet.raw / network.dataset.folder
    for folder in ("imagesTr", "labelsTr"):
        (target / folder).mkdir(parents=True, exist_ok=True)
    for case in cases:
        _write_case(workspace, network, case, target)
    write_json(
        target / "dataset.json",
        {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0}
            | {organ: n for n, organ in enumerate(network.organs, 1)}
            | ({"ignore": len(network.organs) + 1} if _is_drawn_in_part(network, cases) else {}),
            "numTraining": len(cases),
            "file_ending": ".nii.gz",
        },
    )


def _write_case(workspace: Workspace, network: Network, case: StoredCase, target: Path) -> None:
    image = target / "imagesTr" / f"{case.key}_0000.nii.gz"
    labels = target / "labelsTr" / f"{case.key}.nii.gz"
    if image.is_file() and labels.is_file():
        return
    box = crop_to_body(workspace, case)
    grid = read_volume(workspace.cropped(case.key)).grid
    write_image(labels, _label_image(workspace, network, case)[box.slices], grid)
    try:
        image.unlink(missing_ok=True)
        os.link(workspace.cropped(case.key), image)  # the same CT for every network
    except OSError as error:
        raise StorageError(f"{image.name} could not be written.") from error


def _label_image(workspace: Workspace, network: Network, case: StoredCase) -> NDArray[np.uint8]:
    if network.strategy == 2:
        return read_labels(workspace.merged(case.key))
    labels = case.mask(network.organs[0]).astype(np.uint8)
    for number, organ in enumerate(network.organs[1:], 2):
        labels[case.mask(organ) & (labels == 0)] = number
    for organ in case.known_slices.keys() & set(network.organs):
        beyond = np.ones(labels.shape, np.bool_)
        beyond[case.known(organ)] = False
        labels[beyond & (labels == 0)] = len(network.organs) + 1  # nnU-Net ignores it
    return labels


def _is_drawn_in_part(network: Network, cases: Sequence[StoredCase]) -> bool:
    """Whether an organ of a network is known only in a part of a scan; strategy 2 completes the rest."""
    return network.strategy == 1 and any(case.known_slices.keys() & set(network.organs) for case in cases)
