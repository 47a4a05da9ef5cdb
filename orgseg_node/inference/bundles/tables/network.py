"""The tables of a manifest that describe networks: how a CT is prepared, and each trained configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from orgseg_node.inference.bundles.fields import is_number, is_text, key_problems

CANONICAL: Final = "LPS"

_FOLD = re.compile(r"\d+|all")
_PREPROCESSING = {"orientation", "outside_to_air", "body_margin_mm"}
_PART = {"folder", "configuration", "trainer", "folds", "mirror_axes", "labels", "priorities"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """Preparation of a CT before the network sees it, the same in training and in use.

    Attributes
    ----------
    orientation : patient directions in which the columns, rows and slices of the training arrays increase, as
        three letters of ``L R P A S I``; ``LPS`` is that of an axial DICOM series of a head-first supine
        patient
    outside_to_air : everything outside the patient is set to -1000 HU
    body_margin_mm : margin around the patient to which the CT is cropped, in mm
    """

    orientation: str = CANONICAL
    outside_to_air: bool = False
    body_margin_mm: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One trained nnU-Net configuration of a bundle.

    Attributes
    ----------
    folder : its folder inside the bundle, such as ``parts/parotids``
    configuration : configuration of its plans, such as ``3d_fullres``
    folds : the folds that are averaged, such as ``("0",)``
    labels : organ key of each label number of the network; other labels are left out
    priorities : number by organ key, such as its cross-validation Dice (strategy 1); where two organs
        overlap, the higher number gets the voxel
    mirror_axes : axes of the working grid along which nnU-Net may mirror in use; empty for none
    trainer : name of the nnU-Net trainer
    """

    folder: str
    configuration: str
    folds: tuple[str, ...]
    labels: Mapping[int, str]
    priorities: Mapping[str, float] = field(default_factory=dict)
    mirror_axes: tuple[int, ...] = ()
    trainer: str = "nnUNetTrainer"

    @property
    def plans(self) -> str:
        """Path of its plans inside the bundle."""
        return f"{self.folder}/plans.json"

    @property
    def dataset(self) -> str:
        """Path of its dataset description inside the bundle."""
        return f"{self.folder}/dataset.json"

    @property
    def weights(self) -> tuple[str, ...]:
        """Path of the weights of each fold inside the bundle."""
        return tuple(f"{self.folder}/fold_{fold}.safetensors" for fold in self.folds)


def preprocessing_problems(row: Any, prefix: str = "") -> list[str]:
    """All problems of the table, as sentences; ``prefix`` is the name of the table around it with a dot."""
    if not isinstance(row, dict):
        return [f"{prefix}preprocessing must be a table"]
    found = key_problems(f"{prefix}preprocessing.", row, _PREPROCESSING)
    if not is_orientation(row.get("orientation", CANONICAL)):
        found.append(f"{prefix}preprocessing.orientation must be three letters, one each of L/R, P/A, S/I")
    if not isinstance(row.get("outside_to_air", False), bool):
        found.append(f"{prefix}preprocessing.outside_to_air must be true or false")
    if not is_number(row.get("body_margin_mm", 0)) or not 0 <= row.get("body_margin_mm", 0) <= 1000:
        found.append(f"{prefix}preprocessing.body_margin_mm must be 0 to 1000")
    return found


def is_orientation(letters: Any) -> bool:
    """Whether three letters name each patient axis once, such as ``LPS`` or ``RAS``."""
    if not isinstance(letters, str) or len(letters) != 3:
        return False
    return all(sum(letters.count(letter) for letter in axis) == 1 for axis in ("LR", "PA", "SI"))


def part_problems(row: Any, files: Any) -> list[str]:
    """All problems of the table of a network, as sentences; its files must be among ``files``."""
    if not isinstance(row, dict):
        return ["is not a table"]
    found = key_problems("", row, _PART)
    found += [
        f"{name} must be text"
        for name in ("folder", "configuration", "trainer")
        if name in row and not is_text(row[name])
    ]
    folds, axes = row.get("folds", ["0"]), row.get("mirror_axes", [])
    if (
        not isinstance(folds, list)
        or not folds
        or not all(isinstance(f, str) and _FOLD.fullmatch(f) for f in folds)
    ):
        found.append('folds must be a list such as ["0", "1"] or ["all"]')
    if not isinstance(axes, list) or not all(type(a) is int and 0 <= a <= 2 for a in axes):
        found.append("mirror_axes must be a list of 0, 1, 2")
    labels, priorities = row.get("labels", {}), row.get("priorities", {})
    if not isinstance(labels, dict) or not labels:
        found.append("labels must name at least one organ")
    else:
        found += [
            f"label {n!r} must be a number from 1 to 65535"
            for n in labels
            if not (n.isdecimal() and 0 < int(n) < 65536)
        ]
        found += [f"label {n}: organ must be a key" for n, key in labels.items() if not is_text(key)]
    if not isinstance(priorities, dict) or not all(is_number(v) for v in priorities.values()):
        found.append("priorities must be numbers by organ key")
    elif isinstance(labels, dict):
        found += [
            f"priority of {key}, which is not an organ of this part"
            for key in priorities.keys() - set(labels.values())
        ]
    if not found and isinstance(files, dict):
        part = read_part(row)
        found += [
            f"{path} is not among files"
            for path in (part.plans, part.dataset, *part.weights)
            if path not in files
        ]
    return found


def read_part(row: Mapping[str, Any]) -> Part:
    """The network from its table in a manifest, for which `part_problems` returned nothing."""
    return Part(
        folder=row["folder"],
        configuration=row["configuration"],
        trainer=row["trainer"],
        folds=tuple(row["folds"]),
        mirror_axes=tuple(row["mirror_axes"]),
        labels={int(label): key for label, key in row["labels"].items()},
        priorities={key: float(value) for key, value in row["priorities"].items()},
    )


def preprocessing_document(preprocessing: Preprocessing) -> dict[str, Any]:
    """The preparation of a CT as a table of the manifest."""
    return {
        "orientation": preprocessing.orientation,
        "outside_to_air": preprocessing.outside_to_air,
        "body_margin_mm": float(preprocessing.body_margin_mm),
    }


def part_document(part: Part) -> dict[str, Any]:
    """A network as a table of the manifest."""
    return {
        "folder": part.folder,
        "configuration": part.configuration,
        "trainer": part.trainer,
        "folds": list(part.folds),
        "mirror_axes": list(part.mirror_axes),
        "labels": {str(label): key for label, key in sorted(part.labels.items())},
        "priorities": {key: float(value) for key, value in part.priorities.items()},
    }
