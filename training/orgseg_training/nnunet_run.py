"""Plan, preprocess and train one network with nnU-Net, from Python and resumable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orgseg_node.errors import InferenceFailed
from orgseg_training.recipe import PartRecipe, Recipe

TRAINER = "nnUNetTrainerOrgsegShort"
PLANS = "orgsegPlans"
CONFIGURATION = "3d_fullres"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """nnU-Net's three folders."""

    root: Path

    @property
    def raw(self) -> Path:
        """Raw data sets."""
        return self.root / "nnUNet_raw"

    @property
    def preprocessed(self) -> Path:
        """Preprocessed data sets and plans."""
        return self.root / "nnUNet_preprocessed"

    def trained(self, part: PartRecipe) -> Path:
        """The trained-model folder of a part."""
        return self.root / "nnUNet_results" / part.dataset_name / f"{TRAINER}__{PLANS}__{CONFIGURATION}"

    def checkpoint(self, part: PartRecipe) -> Path:
        """The finished weights of a part."""
        return self.trained(part) / "fold_0" / "checkpoint_final.pth"

    def environment(self, threads: int) -> dict[str, str]:
        """What nnU-Net reads from the environment."""
        return os.environ | {
            "nnUNet_raw": str(self.raw),
            "nnUNet_preprocessed": str(self.preprocessed),
            "nnUNet_results": str(self.root / "nnUNet_results"),
            "nnUNet_compile": "f",
            "nnUNet_def_n_proc": "2",
            "nnUNet_n_proc_DA": "1",  # 0 makes planning call torch.set_num_threads(0), which raises
            "OMP_NUM_THREADS": str(threads),
            "OMP_WAIT_POLICY": "PASSIVE",
            "MKL_NUM_THREADS": str(threads),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What training runs on: CPU threads, and ``cpu`` or ``cuda``."""

    threads: int
    device: str


def plan_and_preprocess(
    workspace: Workspace, recipe: Recipe, part: PartRecipe, donor: PartRecipe | None, watched: Collection[str]
) -> None:
    """Write plans with the recipe's spacing, patch and network, the preprocessed cases and the split.

    ``watched`` are the patients for validation, which no part is trained on. ``donor`` is the part this one
    starts from: its intensity clipping is taken over, since weights only fit the normalisation they were
    trained with.
    """
    folder = workspace.preprocessed / part.dataset_name
    if (folder / "done.json").is_file():
        return
    spacing = ",".join(str(s) for s in recipe.spacing_mm)
    _python(
        workspace,
        f"""
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments
extract_fingerprints([{part.dataset_id}], num_processes=2, check_dataset_integrity=False)
plan_experiments([{part.dataset_id}], overwrite_target_spacing=({spacing}), overwrite_plans_name={PLANS!r})
""",
    )
    file = folder / f"{PLANS}.json"
    plans = json.loads(file.read_text(encoding="utf-8"))
    _write(file, _edit(plans, workspace, recipe, part, donor))
    _python(
        workspace,
        f"""
from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess
preprocess([{part.dataset_id}], {PLANS!r}, ({CONFIGURATION!r},), num_processes=[2])
""",
    )
    names = sorted(
        p.name.removesuffix(".nii.gz") for p in (workspace.raw / part.dataset_name / "labelsTr").iterdir()
    )
    split = {"train": [n for n in names if n not in watched], "val": [n for n in names if n in watched]}
    _write(folder / "splits_final.json", [split])
    _write(folder / "done.json", {"cases": len(names)})


def _edit(
    plans: dict[str, Any], workspace: Workspace, recipe: Recipe, part: PartRecipe, donor: PartRecipe | None
) -> dict[str, Any]:
    features = part.features or recipe.features
    stages = len(features)
    configuration = plans["configurations"][CONFIGURATION]
    configuration["patch_size"] = list(part.patch_size)
    configuration["batch_size"] = recipe.batch_size
    configuration["batch_dice"] = True
    configuration["architecture"]["arch_kwargs"] |= {
        "n_stages": stages,
        "features_per_stage": list(features),
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
    }
    plans["configurations"] = {CONFIGURATION: configuration}
    if donor:
        source = json.loads(
            (workspace.preprocessed / donor.dataset_name / f"{PLANS}.json").read_text(encoding="utf-8")
        )
        key = "foreground_intensity_properties_per_channel"
        plans[key] = source[key]
    return plans


def train(
    workspace: Workspace,
    recipe: Recipe,
    part: PartRecipe,
    donor: PartRecipe | None,
    machine: Machine,
) -> None:
    """Train to the end, going on from the last checkpoint where there is one."""
    if workspace.checkpoint(part).is_file():
        return
    schedule = {
        "learning_rate": part.learning_rate,
        "epochs": part.epochs,
        "iterations_per_epoch": part.iterations_per_epoch,
        "seed": recipe.seed + part.dataset_id,
        "warm_start": donor.dataset_name if donor else "",
    }
    go_on = (workspace.trained(part) / "fold_0" / "checkpoint_latest.pth").is_file()
    plans = workspace.preprocessed / part.dataset_name / f"{PLANS}.json"
    # the class is named, not searched for: nnU-Net's search imports every trainer it ships, and one of them
    # needs a torchvision that fits the CUDA build of torch
    _python(
        workspace,
        f"""
import json, torch
from nnunetv2.run.run_training import maybe_load_checkpoint
from orgseg_training.trainers.short import {TRAINER}
torch.set_num_threads({machine.threads})
plans = json.load(open({str(plans)!r})) | dict(orgseg_schedule={schedule!r}, continue_training={go_on})
dataset = json.load(open({str(plans.with_name("dataset.json"))!r}))
trainer = {TRAINER}(plans, {CONFIGURATION!r}, 0, dataset, torch.device({machine.device!r}))
maybe_load_checkpoint(trainer, {go_on}, False)
trainer.run_training()
""",
        machine.threads,
    )


def _python(workspace: Workspace, code: str, threads: int = 2) -> None:
    """Run nnU-Net in a process of its own: it reads its folders from the environment at import."""
    guarded = "if __name__ == '__main__':\n" + "".join(f"    {line}\n" for line in code.strip().splitlines())
    script = workspace.root / "step.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(guarded, encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], env=workspace.environment(threads), check=False)
    if done.returncode:
        raise InferenceFailed(f"nnU-Net ended with status {done.returncode}; its output is above.")


def _write(path: Path, content: Mapping[str, Any] | list[Any]) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
