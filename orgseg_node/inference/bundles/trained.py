"""A trained-model folder of nnU-Net v2: its content, and whether the node can run it.

nnU-Net writes ``<trainer>__<plans>__<configuration>/`` with ``plans.json``, ``dataset.json`` and
``fold_<n>/checkpoint_final.pth``; its export zip contains the same below the name of the data set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orgseg_node.errors import ModelNotImportable
from orgseg_node.inference.bundles.plan_names import plan_problem

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")

_MAX_LABEL = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """One trained nnU-Net configuration on disk.

    Attributes
    ----------
    folder : the folder with ``plans.json``
    plans, dataset : content of ``plans.json`` and ``dataset.json``
    checkpoints : checkpoint of each existing fold, fold ``"0"`` first
    configuration : such as ``3d_fullres``; None if neither the folder's name nor the plans state it
    """

    folder: Path
    plans: Mapping[str, Any]
    dataset: Mapping[str, Any]
    checkpoints: Mapping[str, Path]
    configuration: str | None

    @property
    def name(self) -> str:
        """Name of its data set, or of its folder."""
        dataset = str(self.plans.get("dataset_name") or "")
        return dataset or (self.folder.parent.name if "__" in self.folder.name else self.folder.name)

    @property
    def labels(self) -> dict[int, str]:
        """Name of each label number, without background and the ignore label."""
        rows = self.dataset["labels"].items()
        return {int(number): str(name) for name, number in rows if name not in ("background", "ignore")}

    @property
    def orientation(self) -> str:
        """Directions in which the axes of the training arrays increase, as far as the files show.

        nnU-Net's reorienting NIfTI reader always returns RAS, and TotalSegmentator was trained on RAS files
        (TotalSegmentator issue 509). The other readers return the axes as stored, assumed here to be those of
        an axial DICOM series, LPS.
        """
        reoriented = self.plans.get("image_reader_writer") == "NibabelIOWithReorient"
        return "RAS" if reoriented or "totalsegmentator" in self.name.lower() else "LPS"


def find_trained(source: Path) -> tuple[TrainedModel, ...]:
    """Every trained model in a folder or its subfolders, sorted by path.

    Raises
    ------
    ModelNotImportable
        If there is none, or if one of them cannot be read.
    """
    folders = sorted({path.parent for path in source.rglob("plans.json") if any(path.parent.glob("fold_*"))})
    if not folders:
        raise ModelNotImportable("There is no plans.json with fold_* folders beside it.")
    return tuple(open_trained(folder) for folder in folders)


def open_trained(folder: Path) -> TrainedModel:
    """Read one trained-model folder.

    Raises
    ------
    ModelNotImportable
        If plans, data set or checkpoints are missing or damaged.
    """
    plans, dataset = _json(folder / "plans.json"), _json(folder / "dataset.json")
    for name, document, key in (("plans.json", plans, "configurations"), ("dataset.json", dataset, "labels")):
        if not isinstance(document.get(key), dict) or not document[key]:
            raise ModelNotImportable(f"{name} of '{folder.name}' has no {key}.")
    found = {
        fold.name.removeprefix("fold_"): checkpoint
        for fold in folder.glob("fold_*")
        for checkpoint in [next((fold / c for c in CHECKPOINTS if (fold / c).is_file()), None)]
        if checkpoint is not None
    }
    if not found:
        raise ModelNotImportable(
            f"No fold of '{folder.name}' has a checkpoint_final.pth or checkpoint_best.pth."
        )
    order = sorted(found, key=lambda fold: (not fold.isdecimal(), fold.zfill(8)))
    return TrainedModel(
        folder=folder,
        plans=plans,
        dataset=dataset,
        checkpoints={fold: found[fold] for fold in order},
        configuration=_configuration(folder.name, list(plans["configurations"])),
    )


def choose_folds(model: TrainedModel, wanted: Sequence[int | str]) -> dict[str, Path]:
    """The checkpoints of the wanted folds; of all cross-validation folds if none is named.

    Raises
    ------
    ModelNotImportable
        If a wanted fold has no checkpoint.
    """
    if not wanted:
        numbered = {fold: path for fold, path in model.checkpoints.items() if fold != "all"}
        return numbered or dict(model.checkpoints)
    missing = [str(fold) for fold in wanted if str(fold) not in model.checkpoints]
    if missing:
        there = ", ".join(model.checkpoints)
        raise ModelNotImportable(
            f"'{model.name}' has no checkpoint of fold {', '.join(missing)}, only of {there}."
        )
    return {str(fold): model.checkpoints[str(fold)] for fold in wanted}


def refuse_unusable(plans: Mapping[str, Any], dataset: Mapping[str, Any], configuration: str) -> None:
    """Refuse a configuration that the node cannot run, with the reason.

    Parameters
    ----------
    plans : content of ``plans.json``
    dataset : content of ``dataset.json``
    configuration : such as ``3d_fullres``

    Raises
    ------
    ModelNotImportable
        For 2d and cascade configurations, several input channels, channels that are not CT, region-based
        labels, and plans with a class, function or argument that is not nnU-Net's own.
    """
    resolved = _resolve(plans, configuration)
    if len(resolved.get("patch_size", ())) != 3:
        raise ModelNotImportable(
            f"Configuration {configuration} is two-dimensional; only 3d configurations are run."
        )
    if resolved.get("previous_stage"):
        raise ModelNotImportable(
            f"Configuration {configuration} is the second stage of a cascade, which is not run."
        )
    _refuse_channels(dataset, resolved)
    _refuse_labels(dataset)
    problem = plan_problem(plans, resolved)
    if problem is not None:
        raise ModelNotImportable(problem)


def _refuse_channels(dataset: Mapping[str, Any], resolved: Mapping[str, Any]) -> None:
    channels = dataset.get("channel_names") or dataset.get("modality") or {}
    if not isinstance(channels, dict) or len(channels) != 1:
        raise ModelNotImportable(f"It has {len(channels)} input channels; the node provides one, the CT.")
    name = str(next(iter(channels.values())))
    if "ct" not in name.lower() and "CTNormalization" not in resolved.get("normalization_schemes", ()):
        raise ModelNotImportable(f"Its input channel is {name!r}, not CT.")


def _refuse_labels(dataset: Mapping[str, Any]) -> None:
    labels = dataset["labels"]
    regions = [name for name, number in labels.items() if isinstance(number, list | tuple)]
    if regions or dataset.get("regions_class_order"):
        raise ModelNotImportable(f"Its labels are regions ({', '.join(regions)}); train with plain labels.")
    wrong = [n for n, number in labels.items() if type(number) is not int or not 0 <= number <= _MAX_LABEL]
    if wrong:
        raise ModelNotImportable(f"Labels {', '.join(wrong)} have no number from 0 to {_MAX_LABEL}.")
    if labels.get("background") != 0:
        raise ModelNotImportable("Its label 0 is not 'background'.")


def _resolve(plans: Mapping[str, Any], configuration: str) -> dict[str, Any]:
    resolved: dict[str, Any] = {}
    name: str | None = configuration
    seen: set[str] = set()
    while name:
        row = plans["configurations"].get(name)
        if not isinstance(row, dict) or name in seen:
            raise ModelNotImportable(f"Its plans have no usable configuration {name}.")
        seen.add(name)
        resolved = row | resolved
        name = row.get("inherits_from")
    return resolved


def _configuration(folder: str, configurations: list[str]) -> str | None:
    last = folder.rsplit("__", maxsplit=1)[-1]
    if last in configurations:
        return last
    return configurations[0] if len(configurations) == 1 else None


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelNotImportable(
            f"{path.name} of '{path.parent.name}' cannot be read: {type(error).__name__}."
        ) from error
    if not isinstance(document, dict):
        raise ModelNotImportable(f"{path.name} of '{path.parent.name}' is not a table.")
    return document
