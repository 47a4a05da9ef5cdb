"""Networks in the folders that nnU-Net's trainer leaves, from which bundles are exported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def write_as_trained(
    network: torch.nn.Module, plans: Mapping[str, Any], labels: Mapping[str, int], name: str, folder: Path
) -> Path:
    """Write a network as nnU-Net's trainer leaves it.

    Parameters
    ----------
    network : with its weights
    plans : of nnU-Net, with the configuration ``3d_fullres``
    labels : numbers by names, with the background
    name : of the data set, such as ``Dataset901_Guide``
    folder : of results

    Returns
    -------
    the folder of the trained network
    """
    trained = folder / name / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    trained.mkdir(parents=True, exist_ok=True)
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    (trained / "plans.json").write_text(json.dumps({**plans, "dataset_name": name}))
    (trained / "dataset.json").write_text(json.dumps(dataset))
    write_fold(network, trained / "fold_0")
    return trained


def write_fold(network: torch.nn.Module, folder: Path) -> None:
    """Write the checkpoint of one fold.

    Parameters
    ----------
    network : with its weights
    folder : of the fold, such as ``fold_0``; made if it does not exist
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(checkpoint, folder / "checkpoint_final.pth")
