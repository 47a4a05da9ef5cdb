"""Networks with random weights in the folders of TotalSegmentator, for where its weights are not at hand.

Names, trainers, label maps and spacing of the data sets are TotalSegmentator's; the networks are nnU-Net's
standard plan, as its 31 million parameters show: patches of 128 voxels, six stages of 32 to 320 channels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from orgseg_node.inference.bundles.totalsegmentator import TASKS
from tests.support.models.tiny_nnunet import TinyModel, tiny_dataset, tiny_plans
from tests.support.models.totalsegmentator import LABELS

SPACING_MM: Final = {"total": 1.5, "total_fast": 3.0}
"""Spacing of the networks of each task that can be compared: all on the whole image, without a licence."""
CHANNELS: Final = {
    "full": (32, 64, 128, 256, 320, 320),
    "small": (8, 16, 32, 64, 80, 80),
    "tiny": (4, 8),
}
_PATCH: Final = {"full": 128, "small": 128, "tiny": 32}


def trainer_of(task: str) -> str:
    """The trainer whose name the folders of a task bear."""
    return "nnUNetTrainerNoMirroring" if task == "total" else "nnUNetTrainer_4000epochs_NoMirroring"


def write_random_weights(folder: Path, task: str, size: str) -> Path:
    """Write the data sets of a task, unless they are there; returns the folder.

    Parameters
    ----------
    folder : where TotalSegmentator would keep its weights
    task : of `SPACING_MM`
    size : of `CHANNELS`
    """
    for name, text in LABELS.items():
        number = int(name.removeprefix("Dataset").split("_")[0])
        if number not in TASKS[task].datasets:
            continue
        target = folder / name / f"{trainer_of(task)}__nnUNetPlans__3d_fullres"
        if (target / "fold_0" / "checkpoint_final.pth").exists():
            continue
        model = TinyModel(
            labels={label: index for index, label in enumerate(text.split(), start=1)},
            dataset_name=name,
            spacing_mm=(SPACING_MM[task],) * 3,
            patch=(_PATCH[size],) * 3,
        )
        _write(target, model, size=size, seed=number, trainer=trainer_of(task))
    return folder


def _write(target: Path, model: TinyModel, *, size: str, seed: int, trainer: str) -> None:
    plans = tiny_plans(model)
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    architecture["arch_kwargs"] |= _shape(CHANNELS[size])
    torch.manual_seed(seed)
    network = get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        1,
        model.heads,
        allow_init=True,
        deep_supervision=True,
    )
    (target / "fold_0").mkdir(parents=True)
    (target / "plans.json").write_text(json.dumps(plans))
    (target / "dataset.json").write_text(json.dumps(tiny_dataset(model)))
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": trainer,
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(checkpoint, target / "fold_0" / "checkpoint_final.pth")


def _shape(channels: tuple[int, ...]) -> dict[str, Any]:
    stages = len(channels)
    return {
        "n_stages": stages,
        "features_per_stage": list(channels),
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1], *[[2, 2, 2]] * (stages - 1)],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
    }
