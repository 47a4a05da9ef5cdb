"""Any raw folder of nnU-Net: what is in it stands in ``dataset.json``.

https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md; the older form of the file,
with numbers as keys, is read too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orgseg_node.core.organs import load_organs
from orgseg_node.errors import InputError, StorageError
from orgseg_node.shipped import shipped_config
from orgseg_training.datasets.case import SourceCase
from orgseg_training.datasets.description import DataSet, checked
from orgseg_training.datasets.label_image import source_cases as label_cases
from orgseg_training.datasets.organ_names import normal
from orgseg_training.durable import read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class _Labels:
    """What the label numbers mean: organs, numbers without a key, and names that mean no organ."""

    organs: Mapping[str, tuple[int, ...]]
    others: tuple[int, ...]
    unused: tuple[str, ...]


def source_cases(
    database: str,
    folder: Path,
    data_set: DataSet,
    *,
    organs: Mapping[str, str],
    drawn: tuple[str, ...] | None = None,
) -> tuple[SourceCase, ...]:
    """All scans with labels; those of ``imagesTs`` are held back for testing.

    Parameters
    ----------
    database : name of the data set in the experiment
    folder : holds ``dataset.json``, ``imagesTr``, ``labelsTr``
    data_set : for people
    organs : keys of the organ table by name of the label, where that is neither key nor TG-263 name
    drawn : organs that were looked for in every scan; all of them where None

    Raises
    ------
    InputError
        If the folder does not hold such a data set, the images are no CT, or no label means an organ.
    """
    try:
        said = read_json(folder / "dataset.json")
        labels = _labels(said, organs, drawn)
        ending = str(said.get("file_ending", ".nii.gz"))
        channels = said.get("channel_names") or said.get("modality") or {}
        if [str(name).upper() for name in channels.values()] != ["CT"]:
            raise InputError(f"{database}: the channels of dataset.json are not CT alone.")
    except (StorageError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{database}: dataset.json cannot be read as one of nnU-Net.") from error
    if not labels.organs:
        raise InputError(f"{database}: no label means an organ: {', '.join(labels.unused)}.")
    group = {"image": f"imagesTr/{{case}}_0000{ending}", "labels": f"labelsTr/{{case}}{ending}"}
    test = {name: place.replace("Tr/", "Ts/") for name, place in group.items()}
    described = checked(
        f"{database}: dataset.json",
        data_set.model_dump()
        | {
            "title": str(said.get("name", database)),
            "layout": "label-map",
            "labels": labels.organs,
            "others": labels.others,
            "scans": [group, *([test | {"test": True}] if (folder / "labelsTs").is_dir() else [])],
        },
    )
    return tuple(replace(case, unused=labels.unused) for case in label_cases(database, folder, described))


def _labels(said: Mapping[str, Any], organs: Mapping[str, str], drawn: tuple[str, ...] | None) -> _Labels:
    found: dict[str, tuple[int, ...]] = {}
    others: list[int] = []
    unused = []
    table = {normal(name): key for key, organ in load_organs(shipped_config("organs.toml")).items()
             for name in (key, organ.name)}  # fmt: skip
    table |= {normal(name): key for name, key in organs.items()}
    for first, second in said["labels"].items():
        older = isinstance(second, str)
        name, value = (second, int(first)) if older else (first, second)
        numbers = tuple(int(n) for n in value) if isinstance(value, list) else (int(value),)
        if numbers == (0,) or name == "ignore":  # an ignored voxel is a number that no scan may hold
            continue
        key = table.get(normal(name))
        if key is not None and (drawn is None or key in drawn):
            found[key] = tuple(dict.fromkeys((*found.get(key, ()), *numbers)))
            continue
        others += numbers
        unused += [name] if key is None else []
    return _Labels(organs=found, others=tuple(others), unused=tuple(unused))
