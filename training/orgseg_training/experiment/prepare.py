"""From scans to nnU-Net data sets: cut to the body as the node cuts, one data set for each network."""

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
from orgseg_training.experiment.workspace import Network, Work
from orgseg_training.nnunet.run import plan_and_preprocess


def cut(work: Work, case: StoredCase) -> Box:
    """Cut a CT to the patient, everything outside set to air, once; where it was cut.

    Raises
    ------
    BodyNotFound
        If there is no patient in it.
    StorageError
        If it cannot be written.
    """
    image = work.cropped(case.key)
    note = image.with_name(f"{case.key}.json")
    if image.is_file() and note.is_file():
        said = read_json(note)
        return Box(start=tuple(said["start"]), stop=tuple(said["stop"]))
    volume = case.volume()
    cropped, box = cut_to_body(volume, find_body(volume), work.experiment.body_margin_mm, outside_to_air=True)
    write_image(image, cropped.hu, cropped.grid)
    write_json(note, {"start": list(box.start), "stop": list(box.stop)})
    return box


def cases_of(work: Work, network: Network) -> tuple[StoredCase, ...]:
    """The scans a network is trained on: where all its organs were drawn, or for strategy 2 all.

    A scan in which an organ was not drawn says nothing about it and is left out, never used as background.
    """
    development = work.splits.development
    cases = [case for case in work.store.cases() if case.key in development]
    if network.strategy == 2:
        return tuple(cases)
    return tuple(case for case in cases if set(network.organs) <= case.drawn)


def prepare(work: Work, network: Network) -> None:
    """Write the data set of a network, let nnU-Net plan and preprocess it; what is there is kept.

    Raises
    ------
    NoPositives
        If a fold has no scan to validate on, or none to train on.
    TrainerFailed
        If nnU-Net fails.
    StorageError
        If files cannot be written.
    """
    cases = cases_of(work, network)
    folds = []
    for number, keys in enumerate(work.splits.folds):
        fold = {
            "train": [case.key for case in cases if case.key not in keys],
            "val": [case.key for case in cases if case.key in keys],
        }
        if not fold["train"] or not fold["val"]:
            raise NoPositives(f"{network.name}, fold {number}.")
        folds.append(fold)
    write_dataset(work, network, cases)
    donor = work.donor(network)
    plan_and_preprocess(
        work.workspace, network.dataset, folds, work.shape(network), donor.dataset if donor else None
    )


def write_dataset(work: Work, network: Network, cases: Sequence[StoredCase]) -> None:
    """Write the nnU-Net raw data set of a network; scans that are already written are kept.

    Parameters
    ----------
    work : the experiment
    network : one of its networks
    cases : the scans it is trained and validated on

    Raises
    ------
    StorageError
        If files cannot be written.
    """
    target = work.workspace.raw / network.dataset.folder
    for folder in ("imagesTr", "labelsTr"):
        (target / folder).mkdir(parents=True, exist_ok=True)
    for case in cases:
        _write_case(work, network, case, target)
    write_json(
        target / "dataset.json",
        {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0} | {organ: n for n, organ in enumerate(network.organs, 1)},
            "numTraining": len(cases),
            "file_ending": ".nii.gz",
        },
    )


def _write_case(work: Work, network: Network, case: StoredCase, target: Path) -> None:
    image = target / "imagesTr" / f"{case.key}_0000.nii.gz"
    labels = target / "labelsTr" / f"{case.key}.nii.gz"
    if image.is_file() and labels.is_file():
        return
    box = cut(work, case)
    grid = read_volume(work.cropped(case.key)).grid
    write_image(labels, _labels(work, network, case)[box.slices], grid)
    try:
        image.unlink(missing_ok=True)
        os.link(work.cropped(case.key), image)  # the same CT serves every organ
    except OSError as error:
        raise StorageError(f"{image.name} could not be written.") from error


def _labels(work: Work, network: Network, case: StoredCase) -> NDArray[np.uint8]:
    if network.strategy == 2:
        return read_labels(work.merged(case.key))
    labels = np.zeros(case.volume().grid.shape, np.uint8)
    for number, organ in enumerate(network.organs, 1):
        labels[case.mask(organ) & (labels == 0)] = number
    return labels
