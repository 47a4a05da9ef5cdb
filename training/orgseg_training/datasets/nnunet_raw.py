"""Any raw data set of nnU-Net, as its ``dataset.json`` describes it.

https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md; the older form of the file,
with numbers as keys, is read too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orgseg_node.core.naming.dictionary import name_dictionary
from orgseg_node.core.naming.words import folded
from orgseg_node.core.organs import OrganTable
from orgseg_node.errors import InputError, StorageError
from orgseg_training.datasets.case import SourceCase
from orgseg_training.datasets.description import DataSet, parse_description
from orgseg_training.datasets.label_image import source_cases as label_cases
from orgseg_training.durable import read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRules:
    """What the labels of a data set mean.

    Attributes
    ----------
    organs : key of the organ table by name of the label, if the dictionary does not know the name
    drawn : organs that were looked for in every scan; None for all
    table : the organ table
    """

    organs: Mapping[str, str]
    drawn: tuple[str, ...] | None
    table: OrganTable


@dataclass(frozen=True, slots=True, kw_only=True)
class _Labels:
    """Meaning of the label numbers: organs, numbers without an organ, and names that mean no organ."""

    organs: Mapping[str, tuple[int, ...]]
    others: tuple[int, ...]
    unused: tuple[str, ...]


def source_cases(database: str, folder: Path, data_set: DataSet, rules: LabelRules) -> tuple[SourceCase, ...]:
    """All scans with labels; those of ``imagesTs`` are the test split.

    Parameters
    ----------
    database : name of the data set in the experiment
    folder : with ``dataset.json``, ``imagesTr``, ``labelsTr``
    data_set : title, licence and citation
    rules : what its labels mean

    Raises
    ------
    InputError
        If the folder does not hold such a data set, the images are no CT, or no label means an organ.
    """
    try:
        document = read_json(folder / "dataset.json")
        labels = _labels(document, rules)
        suffix = str(document.get("file_ending", ".nii.gz"))
        channels = document.get("channel_names") or document.get("modality") or {}
        if [str(name).upper() for name in channels.values()] != ["CT"]:
            raise InputError(f"{database}: the channels of dataset.json are not one CT.")
    except (StorageError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{database}: dataset.json cannot be read as that of nnU-Net.") from error
    if not labels.organs:
        raise InputError(f"{database}: no label means an organ: {', '.join(labels.unused)}.")
    group = {"image": f"imagesTr/{{case}}_0000{suffix}", "labels": f"labelsTr/{{case}}{suffix}"}
    test = {name: path.replace("Tr/", "Ts/") for name, path in group.items()}
    description = parse_description(
        f"{database}: dataset.json",
        data_set.model_dump()
        | {
            "title": str(document.get("name", database)),
            "layout": "label-map",
            "labels": labels.organs,
            "others": labels.others,
            "scans": [group, *([test | {"test": True}] if (folder / "labelsTs").is_dir() else [])],
        },
        rules.table,
    )
    return tuple(replace(case, unused=labels.unused) for case in label_cases(database, folder, description))


def _labels(document: Mapping[str, Any], rules: LabelRules) -> _Labels:
    found: dict[str, tuple[int, ...]] = {}
    others: list[int] = []
    unused = []
    table, drawn = rules.table, rules.drawn
    dictionary = name_dictionary(table)
    given = {folded(name): key for name, key in rules.organs.items()}
    for first, second in document["labels"].items():
        older = isinstance(second, str)
        name, value = (second, int(first)) if older else (first, second)
        numbers = tuple(int(n) for n in value) if isinstance(value, list) else (int(value),)
        if numbers == (0,) or name == "ignore":  # so a scan with ignored voxels has an unknown number
            continue
        key = given.get(folded(name)) or (name if name in table else dictionary.organ(name))
        if key is not None and (drawn is None or key in drawn):
            found[key] = tuple(dict.fromkeys((*found.get(key, ()), *numbers)))
            continue
        others += numbers
        unused += [name] if key is None else []
    return _Labels(organs=found, others=tuple(others), unused=tuple(unused))
