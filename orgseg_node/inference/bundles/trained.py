"""A trained-model folder of nnU-Net v2: its content, and whether the node can run it.

nnU-Net writes ``<trainer>__<plans>__<configuration>/`` with ``plans.json``, ``dataset.json`` and
``fold_<n>/checkpoint_final.pth``; its export zip contains the same below the name of the data set.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orgseg_node.errors import ModelDamaged, ModelNotImportable, ModelUnsupported
from orgseg_node.inference.bundles.dataset_json import BACKGROUND, IGNORE, dataset_problem, read_dataset
from orgseg_node.inference.bundles.nnunet.other_kinds import file_problem, folder_kind
from orgseg_node.inference.bundles.nnunet.plan_values import missing_problem
from orgseg_node.inference.bundles.plan_names import plan_problem

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")

_UNFINISHED = "checkpoint_latest.pth"
_FOLD = re.compile(r"0|[1-9]\d*|all")
_DEFAULT_CONFIGURATION = "3d_fullres"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """One trained nnU-Net configuration on disk.

    Attributes
    ----------
    folder : the folder with ``plans.json``
    plans : content of ``plans.json``
    dataset : content of ``dataset.json`` as nnU-Net v2 writes it, see `read_dataset`
    checkpoints : checkpoint of each trained fold, fold ``"0"`` first
    configuration : such as ``3d_fullres``; None if neither the folder's name nor the plans state it
    unfinished : what each fold holds that has no checkpoint of a finished training
    remarks : what was unusual in its files and how it was understood, as sentences
    beside : what was left out beside it, as sentences; see `find_trained`
    """

    folder: Path
    plans: Mapping[str, Any]
    dataset: Mapping[str, Any]
    checkpoints: Mapping[str, Path]
    configuration: str | None
    unfinished: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of its data set, or of its folder."""
        dataset = str(self.plans.get("dataset_name") or "")
        return dataset or (self.folder.parent.name if "__" in self.folder.name else self.folder.name)

    @property
    def labels(self) -> dict[int, str]:
        """Name of each label number, without background and the ignore label."""
        rows = self.dataset["labels"].items()
        return {int(number): str(name) for name, number in rows if name not in (BACKGROUND, IGNORE)}

    @property
    def orientation(self) -> str:
        """Directions in which the axes of the training arrays increase, as far as the files show.

        nnU-Net's reorienting NIfTI reader always returns RAS, and TotalSegmentator was trained on RAS files
        (TotalSegmentator issue 509). The other readers return the axes as stored, assumed here to be those of
        an axial DICOM series, LPS.
        """
        reoriented = self.plans.get("image_reader_writer") == "NibabelIOWithReorient"
        return "RAS" if reoriented or "totalsegmentator" in self.name.lower() else "LPS"


def find_trained(
    source: Path, is_wanted: Callable[[Path], bool] = lambda _: True, configuration: str | None = None
) -> tuple[TrainedModel, ...]:
    """Every trained model in a folder or its subfolders, sorted by path.

    Parameters
    ----------
    source : the folder
    is_wanted : whether a trained-model folder is read at all
    configuration : that is to be imported; None for ``3d_fullres``. Where it is there, another one of the
        data set that cannot be read, such as a 2d training that was stopped, is left out: see `beside`

    Raises
    ------
    ModelNotImportable
        If there is none, with the kind of model that is there instead; or if one of them cannot be read.
    """
    folders = sorted(
        folder for folder in _folders(source) if any(folder.glob("fold_*")) and is_wanted(folder)
    )
    if not folders:
        raise ModelNotImportable(folder_kind(source))
    found: list[TrainedModel] = []
    broken: dict[Path, ModelNotImportable] = {}
    for folder in folders:
        try:
            found.append(open_trained(folder))
        except ModelNotImportable as error:
            broken[folder] = error
    wanted = configuration or _DEFAULT_CONFIGURATION
    for folder, problem in broken.items():
        place = next((n for n, m in enumerate(found) if _is_instead(m, folder, wanted)), None)
        if place is None:
            raise problem
        sentence = f"The model {folder.name} beside it is left out: {problem.detail}"
        found[place] = replace(found[place], beside=(*found[place].beside, sentence))
    return tuple(found)


def _is_instead(model: TrainedModel, folder: Path, wanted: str) -> bool:
    """Whether a model is the wanted one of a data set, and a folder one of its other configurations."""
    is_other = "__" in folder.name and not folder.name.endswith(f"__{wanted}")
    return is_other and model.configuration == wanted and model.folder.parent == folder.parent


def _folders(source: Path) -> Iterator[Path]:
    """The folders with a ``plans.json``, also behind links, each once."""
    seen: set[Path] = set()
    for name, subfolders, files in os.walk(source, followlinks=True):
        folder = Path(name)
        if (place := folder.resolve()) in seen:
            subfolders.clear()  # a link that leads back
            continue
        seen.add(place)
        if "plans.json" in files:
            yield folder


def open_trained(folder: Path) -> TrainedModel:
    """Read one trained-model folder.

    Raises
    ------
    ModelNotImportable
        If plans, data set or checkpoints are missing or damaged.
    """
    plans, stored = read_table(folder / "plans.json"), read_table(folder / "dataset.json")
    for name, document, key in (("plans.json", plans, "configurations"), ("dataset.json", stored, "labels")):
        if not isinstance(document.get(key), dict) or not document[key]:
            raise ModelDamaged(f"{name} of '{folder.name}' has no {key}: it must be a table of them by name.")
    configuration = _configuration(folder.name, list(plans["configurations"]))
    schemes = (
        ()
        if configuration is None
        else resolve_configuration(plans, configuration).get("normalization_schemes")
    )
    dataset, remarks = read_dataset(stored, schemes or ())
    folds = {p.name.removeprefix("fold_"): p for p in sorted(folder.glob("fold_*")) if p.is_dir()}
    names = sorted(filter(_FOLD.fullmatch, folds), key=lambda fold: (not fold.isdecimal(), fold.zfill(8)))
    found = {
        name: checkpoint
        for name in names
        for checkpoint in [next((folds[name] / c for c in CHECKPOINTS if (folds[name] / c).is_file()), None)]
        if checkpoint is not None
    }
    unfinished = {
        name: f"only {_UNFINISHED}" if (folds[name] / _UNFINISHED).is_file() else "no checkpoint"
        for name in names
        if name not in found
    }
    if not found:
        there = "".join(f"; fold {name} has {what}" for name, what in unfinished.items())
        raise ModelNotImportable(f"No fold of '{folder.name}' has a {' or '.join(CHECKPOINTS)}{there}.")
    remarks += [f"The folder {folds[f].name} is not a fold and is left out." for f in folds if f not in names]
    return TrainedModel(
        folder=folder,
        plans=plans,
        dataset=dataset,
        checkpoints=found,
        configuration=configuration,
        unfinished=unfinished,
        remarks=tuple(remarks),
    )


def choose_folds(model: TrainedModel, wanted: Sequence[int | str]) -> dict[str, Path]:
    """The checkpoints of the wanted folds; of all cross-validation folds if none is named.

    Raises
    ------
    ModelNotImportable
        If a wanted fold has no checkpoint, or if none is named and not every fold was trained to its end.
    """
    if not wanted:
        numbered = {fold: path for fold, path in model.checkpoints.items() if fold != "all"}
        open_ends = [f"fold {fold} has {what}" for fold, what in model.unfinished.items() if fold != "all"]
        if numbered and open_ends:
            raise ModelNotImportable(
                f"Not every fold of '{model.name}' was trained to its end: {'; '.join(open_ends)}. Finish "
                f"the training, or name the folds: {' '.join(f'--fold {fold}' for fold in numbered)}."
            )
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
        If there is no such configuration.
    ModelUnsupported
        For 2d and cascade configurations, data sets that `dataset_problem` refuses, and plans that lack a
        value or have a class, function or argument that is not nnU-Net's own.
    """
    resolved = resolve_configuration(plans, configuration)
    patch = resolved.get("patch_size")
    if isinstance(patch, list | tuple) and len(patch) != 3:
        raise ModelUnsupported(
            f"Configuration {configuration} is two-dimensional; only 3d configurations are run."
        )
    if resolved.get("previous_stage"):
        raise ModelUnsupported(
            f"Configuration {configuration} is the second stage of a cascade, which is not run."
        )
    problem = dataset_problem(dataset, resolved.get("normalization_schemes") or ())
    problem = problem or plan_problem(plans, resolved) or missing_problem(plans, resolved)
    if problem is not None:
        raise ModelUnsupported(problem)


def resolve_configuration(plans: Mapping[str, Any], configuration: str) -> dict[str, Any]:
    """One configuration of plans with what it inherits.

    Raises
    ------
    ModelNotImportable
        If there is none of this name, or if it inherits from itself.
    """
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


def read_table(path: Path) -> dict[str, Any]:
    """The table in a JSON file. Raises ModelDamaged."""
    try:
        problem = file_problem(path)
        document = None if problem else json.loads(path.read_bytes())  # in UTF-8, 16 or 32, also with a mark
    except (OSError, ValueError, RecursionError) as error:
        problem = _json_problem(error)
    if problem:
        raise ModelDamaged(f"{path.name} of '{path.parent.name}' cannot be read: {problem}")
    if not isinstance(document, dict):
        raise ModelDamaged(f"{path.name} of '{path.parent.name}' is not a table.")
    return document


def _json_problem(error: Exception) -> str:
    """Why a file is no JSON, for the person who has to mend it."""
    if isinstance(error, OSError):
        return f"{error.strerror}."
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno} is not JSON, which has no comments: {error.msg}."
    if isinstance(error, UnicodeDecodeError):
        return "it is not in UTF-8; save it in that encoding."
    return f"{type(error).__name__}."


def choose_models(found: Sequence[TrainedModel], wanted: str | None) -> list[TrainedModel]:
    """One configuration of each data set: the requested one, or ``3d_fullres``, or the only one.

    Raises
    ------
    ModelNotImportable
        If none fits, or several do.
    """
    chosen: list[TrainedModel] = []
    for home in sorted({_home(model) for model in found}):
        models = [model for model in found if _home(model) == home]
        fitting = [m for m in models if m.configuration == (wanted or _DEFAULT_CONFIGURATION)]
        if wanted is None and not fitting:
            fitting = models
        if len(fitting) != 1:
            raise ModelNotImportable(_not_one(models, fitting, wanted))
        chosen += fitting
    return chosen


def _not_one(models: Sequence[TrainedModel], fitting: Sequence[TrainedModel], wanted: str | None) -> str:
    """Why it is not clear which model of a data set is meant, and what to type."""
    name, there = models[0].name, ", ".join(model.folder.name for model in models)
    found = {model.configuration for model in fitting}
    if wanted is None and _DEFAULT_CONFIGURATION not in found and len(found) == len(fitting) > 1:
        runnable = sorted(c for c in found if c and "cascade" not in c and "2d" not in c)
        advice = " or ".join(f"--configuration {c}" for c in runnable) or "give one folder"
        cascade = " The second stage of a cascade is not run." if len(runnable) < len(found) else ""
        return f"'{name}' has no {_DEFAULT_CONFIGURATION}, but {there}.{cascade} Choose with {advice}."
    count = "more than one" if fitting else "no"
    which = f"{count} model of configuration {wanted or _DEFAULT_CONFIGURATION}"
    return f"'{name}' has {which} ({there}); give one folder."


def _home(model: TrainedModel) -> str:
    """The folder that contains all models of one data set."""
    together = "__" in model.folder.name
    return str(model.folder.parent if together else model.folder)
