"""OpenKBP head and neck: 87 radiotherapy planning CTs with clinical contours.

Babier et al., Med. Phys. 48 (2021), https://doi.org/10.1002/mp.14845; data under the MIT licence. An empty
cell of ``cases.csv`` means that the organ was *not drawn* in that patient, never that it is absent.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from orgseg_node.errors import InputError
from orgseg_training.datasets.case import Contents, SourceCase
from orgseg_training.datasets.nifti import read_label_image, read_volume
from orgseg_training.errors import CaseRejected

_MAX_SHIFT_MM = 0.01

ORGANS = {
    "Brainstem": "brainstem",
    "SpinalCord": "spinal_cord",
    "RightParotid": "parotid_right",
    "LeftParotid": "parotid_left",
    "Esophagus": "esophagus",
    "Larynx": "larynx",
    "Mandible": "mandible",
}
"""Column of ``cases.csv`` -> key of the organ table."""

LABELS = {organ: number for number, organ in enumerate(ORGANS.values(), 1)}
"""Key of the organ table -> number in the label images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One patient.

    Attributes
    ----------
    name : such as ``OKBP_265``
    image, labels : NIfTI files
    drawn : organs that were contoured in this patient; of other organs nothing is known
    locked : whether it is a test patient of the challenge, never used for training
    """

    name: str
    image: Path
    labels: Path
    drawn: frozenset[str]
    locked: bool


def read_cases(folder: Path) -> tuple[Case, ...]:
    """All patients of the data set, in the order of their names.

    Parameters
    ----------
    folder : with ``cases.csv``, ``imagesTr`` and ``labelsTr``

    Raises
    ------
    InputError
        If there is no ``cases.csv``, or it lacks a column.
    """
    table = folder / "cases.csv"
    if not table.is_file():
        raise InputError(f"There is no cases.csv in {folder.name}.")
    with table.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        missing = {"case", "source", *ORGANS} - set(reader.fieldnames or ())
        if missing:
            raise InputError(f"cases.csv has no column {', '.join(sorted(missing))}.")
        cases = tuple(_case(folder, row) for row in reader)
    return tuple(sorted(cases, key=lambda case: case.name))


def _case(folder: Path, row: dict[str, str]) -> Case:
    name = row["case"]
    return Case(
        name=name,
        image=folder / "imagesTr" / f"{name}_0000.nii.gz",
        labels=folder / "labelsTr" / f"{name}.nii.gz",
        drawn=frozenset(key for column, key in ORGANS.items() if (row[column] or "").strip()),
        locked="/test-pats/" in (row["source"] or ""),
    )


def source_cases(database: str, folder: Path, options: Mapping[str, Any]) -> tuple[SourceCase, ...]:
    """All patients as scans of a data set.

    Parameters
    ----------
    database : name of the data set in the experiment
    folder : with ``cases.csv``, ``imagesTr`` and ``labelsTr``
    options : none are known

    Raises
    ------
    InputError
        If there is no ``cases.csv``, or it lacks a column.
    """
    del options
    return tuple(
        SourceCase(
            database=database,
            name=case.name,
            patient=case.name,
            annotated=case.drawn,
            read=partial(_read, case),
            test=case.locked,
        )
        for case in read_cases(folder)
    )


def _read(case: Case) -> Contents:
    try:
        volume = read_volume(case.image)
        labels, grid = read_label_image(case.labels)
    except InputError as error:
        raise CaseRejected(error.detail) from error
    ours = volume.grid
    same = grid.shape == ours.shape and np.allclose(grid.affine, ours.affine, rtol=0, atol=_MAX_SHIFT_MM)
    if not same:
        raise CaseRejected(f"{case.labels.name} has another grid than its CT.")
    return Contents(volume=volume, masks={organ: labels == LABELS[organ] for organ in sorted(case.drawn)})
