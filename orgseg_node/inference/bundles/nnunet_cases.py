"""Patients with contours from a data set in nnU-Net's raw layout.

::

    dataset.json                 labels by name
    imagesTr/NAME_0000.nii.gz    CT in HU
    labelsTr/NAME.nii.gz         label numbers
    cases.csv                    optional: case, age_years, and a column for each label, empty where not drawn
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from orgseg_node.core.geometry import Grid
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import AIR_HU, Volume
from orgseg_node.errors import InputError, OrganUnknown
from orgseg_node.inference.bundles.anatomy import AnatomyCase
from orgseg_node.inference.bundles.matching import match_labels

_IMAGE, _ENDING = "_0000", ".nii.gz"
_SAME_MM = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFolder:
    """A data set in nnU-Net's raw layout.

    Attributes
    ----------
    folder : of the data set
    names : of the cases, in order
    organs : organ key by label number
    """

    folder: Path
    names: tuple[str, ...]
    organs: Mapping[int, str]

    def cases(self) -> Iterator[AnatomyCase]:
        """Every case.

        Raises
        ------
        InputError
            If an image cannot be read, or CT and labels have different grids.
        """
        table = _table(self.folder / "cases.csv")
        labels = {number: name for name, number in _labels(self.folder).items()}
        for name in self.names:
            row = table.get(name, {})
            hu, grid = _read(self.folder / "imagesTr" / f"{name}{_IMAGE}{_ENDING}")
            numbers, place = _read(self.folder / "labelsTr" / f"{name}{_ENDING}")
            if place.shape != grid.shape or not np.allclose(place.affine, grid.affine, atol=_SAME_MM):
                raise InputError(f"The labels of {name} have another grid than its CT.")
            drawn = {n: key for n, key in self.organs.items() if row.get(labels[n], "drawn").strip()}
            clipped = np.clip(np.rint(hu), AIR_HU - 24, np.iinfo(np.int16).max).astype(np.int16)
            yield AnatomyCase(
                volume=Volume(grid=grid, hu=clipped),
                masks={key: np.equal(numbers, n) for n, key in drawn.items()},
                age_years=_number(row.get("age_years", "")),
            )


def open_case_folder(
    folder: Path, given: Mapping[str, str], table: OrganTable, left_out: Collection[str] = ()
) -> CaseFolder:
    """Open a data set in nnU-Net's raw layout.

    Parameters
    ----------
    folder : with ``dataset.json``, ``imagesTr`` and ``labelsTr``
    given : the user's organ map; see `match_labels`
    table : the organ table
    left_out : names of cases that are not used, such as test patients

    Raises
    ------
    InputError
        If it is no such data set.
    OrganUnknown
        If a label fits no organ.
    """
    numbered = {number: name for name, number in _labels(folder).items() if number != 0}
    organs, unmatched = match_labels(folder.name, numbered, given, table)
    if unmatched:
        raise OrganUnknown(f"These labels fit no organ: {', '.join(unmatched)}.")
    found = (file.name.removesuffix(_ENDING) for file in (folder / "labelsTr").glob(f"*{_ENDING}"))
    names = tuple(sorted(set(found) - set(left_out)))
    if not names:
        raise InputError(f"There is no case in {folder.name}/labelsTr.")
    return CaseFolder(folder=folder, names=names, organs=organs)


def _labels(folder: Path) -> dict[str, int]:
    try:
        labels = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["labels"]
        return {str(name): int(number) for name, number in labels.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder.name} has no dataset.json with labels by name.") from error


def _table(path: Path) -> dict[str, dict[str, str]]:
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as stream:
        return {row["case"]: row for row in csv.DictReader(stream) if row.get("case")}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _read(path: Path) -> tuple[NDArray[Any], Grid]:
    """An image and its grid, turned so that k, j, i increase with z, y, x in LPS."""
    try:
        image = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "LPS")
        array = SimpleITK.GetArrayFromImage(image)
        x, y, z = image.GetOrigin()
        dx, dy, dz = image.GetSpacing()
        return array, Grid(shape=array.shape, spacing_mm=(dz, dy, dx), origin_mm=(x, y, z))
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{path.name} cannot be read as a three-dimensional NIfTI image.") from error
