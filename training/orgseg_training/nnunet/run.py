"""Plan, preprocess and train networks with nnU-Net; every call can be repeated."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from orgseg_training.durable import read_json, write_json
from orgseg_training.nnunet.child import Watch, run_child

PLANS: Final = "orgsegPlans"
CONFIGURATION: Final = "3d_fullres"
TRAINERS: Final = {
    "paper": ("orgseg_training.nnunet.trainer_paper", "nnUNetTrainerOrgsegPaper"),
    "short": ("orgseg_training.nnunet.trainer_short", "nnUNetTrainerOrgsegShort"),
    "tune": ("orgseg_training.nnunet.trainer_tune", "nnUNetTrainerOrgsegTune"),
}
"""Module and class of each trainer; nnU-Net finds a trained model by the name of the class."""

_MANY_CORES: Final = 5

Triple = tuple[float, float, float]
Counts = tuple[int, int, int]
Fold = Mapping[str, Sequence[str]]
"""Names of the cases of a fold, under ``train`` and ``val``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One nnU-Net data set: its number, 1 to 999, and its name without the number."""

    number: int
    name: str
    trainer: str = "short"

    @property
    def folder(self) -> str:
        """Such as ``Dataset801_common``."""
        return f"Dataset{self.number:03d}_{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkShape:
    """Shape of a network, in place of that planned by nnU-Net.

    Attributes
    ----------
    spacing_mm : target spacing, widest first as in nnU-Net's plans
    patch_size : voxels along the same axes; multiples of 2 to the power of (number of stages - 1)
    features : channels of each stage
    batch_size : patches of a batch
    """

    spacing_mm: Triple
    patch_size: Counts
    features: Sequence[int]
    batch_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Schedule of a training.

    Attributes
    ----------
    learning_rate : at the start
    epochs, iterations_per_epoch : length
    seed : of initial weights and augmentation
    warm_start : folder name of the data set from whose network (same fold) training starts, or empty
    max_minutes : time limit, after which training ends early; None for no limit
    """

    learning_rate: float
    epochs: int
    iterations_per_epoch: int
    seed: int
    warm_start: str = ""
    max_minutes: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What training runs on: CPU threads, and ``cpu`` or ``cuda``."""

    threads: int
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NnunetFolders:
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

    def trained(self, dataset: Dataset) -> Path:
        """The trained-model folder of a data set."""
        _, trainer = TRAINERS[dataset.trainer]
        return self.root / "nnUNet_results" / dataset.folder / f"{trainer}__{PLANS}__{CONFIGURATION}"

    def checkpoint(self, dataset: Dataset, fold: int = 0) -> Path:
        """The finished weights of a fold."""
        return self.trained(dataset) / f"fold_{fold}" / "checkpoint_final.pth"

    def environment(self, threads: int) -> dict[str, str]:
        """Environment variables for nnU-Net."""
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


def plan_and_preprocess(
    folders: NnunetFolders,
    dataset: Dataset,
    folds: Sequence[Fold],
    shape: NetworkShape | None,
    pretrained: Dataset | None = None,
) -> None:
    """Write plans, preprocessed cases and folds; nothing if that was done before.

    Parameters
    ----------
    folders : nnU-Net's folders
    dataset : its raw data must be there
    folds : names of the cases
    shape : of the network; None for that planned by nnU-Net
    pretrained : data set of the network from which this one starts: its intensity properties are used, since
        weights only fit the normalisation they were trained with

    Raises
    ------
    TrainerFailed, TrainingKilled, OutOfMemory, DiskFull
        If nnU-Net fails.
    """
    folder = folders.preprocessed / dataset.folder
    if (folder / "done.json").is_file():
        return
    spacing = "" if shape is None else f", overwrite_target_spacing={tuple(shape.spacing_mm)!r}"
    run_code(
        folders,
        dataset,
        f"""
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments
extract_fingerprints([{dataset.number}], num_processes=2, check_dataset_integrity=False)
plan_experiments([{dataset.number}]{spacing}, overwrite_plans_name={PLANS!r})
""",
    )
    file = folder / f"{PLANS}.json"
    plans = read_json(file)
    plans["configurations"] = {CONFIGURATION: plans["configurations"][CONFIGURATION]}
    if shape is not None:
        _set_shape(plans["configurations"][CONFIGURATION], shape)
    if pretrained:
        key = "foreground_intensity_properties_per_channel"
        plans[key] = read_json(folders.preprocessed / pretrained.folder / f"{PLANS}.json")[key]
    write_json(file, plans)
    run_code(
        folders,
        dataset,
        f"""
from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess
preprocess([{dataset.number}], {PLANS!r}, ({CONFIGURATION!r},), num_processes=[2])
""",
    )
    write_json(
        folder / "splits_final.json", [{part: list(names) for part, names in f.items()} for f in folds]
    )
    write_json(folder / "done.json", {"folds": len(folds)})


def _set_shape(configuration: dict[str, Any], shape: NetworkShape) -> None:
    stages = len(shape.features)
    configuration["patch_size"] = list(shape.patch_size)
    configuration["batch_size"] = shape.batch_size
    configuration["batch_dice"] = True
    configuration["architecture"]["arch_kwargs"] |= {
        "n_stages": stages,
        "features_per_stage": list(shape.features),
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
    }


def train(  # noqa: PLR0913, PLR0917  # a data set, its schedule, its machine, and its callback
    folders: NnunetFolders,
    dataset: Dataset,
    schedule: Schedule,
    machine: Machine,
    fold: int = 0,
    tune: Mapping[str, Any] | None = None,
    watch: Watch = Watch(),  # noqa: B008  # frozen
) -> None:
    """Train one fold to the end, from the last checkpoint if there is one.

    Parameters
    ----------
    folders : nnU-Net's folders
    dataset : planned and preprocessed
    schedule : of the training
    machine : what it runs on
    fold : number of the fold, from 0
    tune : settings of the trainer ``tune``; None for other trainers
    watch : where the output goes, and who is called while it runs

    Raises
    ------
    TrainingNotFinite, TrainerFailed, TrainingKilled, OutOfMemory, DiskFull
        If nnU-Net fails.
    """
    if folders.checkpoint(dataset, fold).is_file():
        return
    resume = (folders.trained(dataset) / f"fold_{fold}" / "checkpoint_latest.pth").is_file()
    plans = folders.preprocessed / dataset.folder / f"{PLANS}.json"
    module, trainer = TRAINERS[dataset.trainer]
    # on a small machine augmentation runs in the training process: further processes are a source of failures
    few = (os.cpu_count() or 1) < _MANY_CORES
    workers = "import os; os.environ['nnUNet_n_proc_DA'] = '0'" if few else ""
    more: dict[str, Any] = {"orgseg_schedule": asdict(schedule), "continue_training": resume}
    if tune is not None:
        more["orgseg_tune"] = dict(tune)
    # the class is imported, not searched for: nnU-Net's search imports all its trainers, and one of them
    # needs a torchvision for the CUDA build of torch
    run_code(
        folders,
        dataset,
        f"""
{workers}
import json, torch
from nnunetv2.run.run_training import maybe_load_checkpoint
from {module} import {trainer}
torch.set_num_threads({machine.threads})
plans = json.load(open({str(plans)!r})) | {more!r}
dataset = json.load(open({str(plans.with_name("dataset.json"))!r}))
trainer = {trainer}(plans, {CONFIGURATION!r}, {fold}, dataset, torch.device({machine.device!r}))
maybe_load_checkpoint(trainer, {resume}, False)
trainer.run_training()
""",
        threads=machine.threads,
        watch=watch,
    )


def run_code(
    folders: NnunetFolders,
    dataset: Dataset,
    code: str,
    *,
    threads: int = 2,
    watch: Watch = Watch(),  # noqa: B008  # frozen
) -> None:
    """Run nnU-Net in a separate process: it reads its folders from the environment at import.

    Parameters
    ----------
    folders : nnU-Net's folders
    dataset : that it works on, for errors
    code : Python code
    threads : of the process
    watch : where the output goes, and who is called while it runs

    Raises
    ------
    TrainingNotFinite, TrainerFailed, TrainingKilled, OutOfMemory, DiskFull
        If it fails.
    """
    lines = "".join(f"        {line}\n" for line in code.strip().splitlines())
    guarded = (
        "from orgseg_training.nnunet.child import report_reason\n"
        f"if __name__ == '__main__':\n    with report_reason():\n{lines}"
    )
    script = folders.root / "steps" / f"{dataset.folder}_{os.getpid()}.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(guarded, encoding="utf-8")
    try:
        run_child(script, folders.environment(threads), dataset.folder, watch)
    finally:
        script.unlink(missing_ok=True)
