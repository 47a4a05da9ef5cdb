"""Per-case results from two folders of label images: references and predictions."""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.core.geometry import Grid, Vector
from orgseg_node.core.metrics import compare
from orgseg_node.core.metrics.comparison import NOT_LABELLED, Comparison
from orgseg_node.core.naming.dictionary import name_dictionary
from orgseg_node.core.organs import OrganTable
from orgseg_node.errors import GridsDiffer, LabelsInvalid, NotPaired
from orgseg_training.datasets.nifti import read_label_image
from orgseg_training.errors import TrainingSettingsInvalid
from orgseg_training.evaluation.results import CaseScore

Labels = NDArray[np.uint8]
_SUFFIX = ".nii.gz"
_MAX_SHIFT_MM = 0.01  # largest distance between the corners of both grids


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerances:
    """Tolerance of the surface Dice for each organ, in mm."""

    default_mm: float = 2.0
    organs_mm: Mapping[str, float] = field(default_factory=dict)

    def of(self, organ: str) -> float:
        """The organ's own tolerance, or the default."""
        return self.organs_mm.get(organ, self.default_mm)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseInfo:
    """A line of the case list.

    Attributes
    ----------
    group, db, subset, child : see `CaseScore`
    labelled : organs that were looked for in the reference, or None for all
    """

    group: str
    db: str = ""
    subset: str = ""
    child: bool | None = None
    labelled: frozenset[str] | None = None


def compare_organs(
    reference: Labels,
    prediction: Labels,
    spacing_mm: Vector,
    numbers: Mapping[str, tuple[int, int]],
    tolerances: Tolerances,
) -> Iterator[tuple[str, Comparison]]:
    """Compare every organ of two label images, each in its own box.

    Parameters
    ----------
    reference, prediction : (K, J, I) label numbers
    spacing_mm : distance of voxel centres along ``(k, j, i)``
    numbers : organ -> its number in the reference and in the prediction
    tolerances : of the surface Dice
    """
    theirs, ours = ndimage.find_objects(reference), ndimage.find_objects(prediction)
    for organ, (in_reference, in_prediction) in numbers.items():
        boxes = [
            found[number - 1]
            for found, number in ((theirs, in_reference), (ours, in_prediction))
            if number <= len(found) and found[number - 1] is not None
        ]
        cut = _enclosing_box(boxes, reference.shape)
        masks = np.equal(reference[cut], in_reference), np.equal(prediction[cut], in_prediction)
        yield organ, compare(*masks, spacing_mm, tolerances.of(organ))


def _enclosing_box(boxes: list[tuple[slice, ...]], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The box around boxes with a margin of one voxel; a box of one voxel if there are none."""
    if not boxes:
        return (slice(0, 1),) * 3
    return tuple(
        slice(max(0, min(s.start for s in along) - 1), min(size, max(s.stop for s in along) + 1))
        for along, size in zip(zip(*boxes, strict=True), shape, strict=True)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The comparison of two folders of label images.

    Attributes
    ----------
    reference, prediction : folders with one ``CASE.nii.gz`` for each case
    numbers : organ -> its number in the reference and in the prediction
    model, subset : written into every line; the subset of the case list, if given, takes precedence
    cases : the case list, by name of the case; other cases are patients of their own with all organs labelled
    tolerances : of the surface Dice
    """

    reference: Path
    prediction: Path
    numbers: Mapping[str, tuple[int, int]]
    model: str
    subset: str
    cases: Mapping[str, CaseInfo]
    tolerances: Tolerances

    def scores(self) -> Iterator[CaseScore]:
        """Score every organ of every case, in the order of the names.

        Raises
        ------
        NotPaired
            If a case is in one folder only, or there are no cases.
        GridsDiffer
            If a prediction has another grid than its reference.
        InputError
            If a file cannot be read.
        """
        for case in self._names():
            info = self.cases.get(case, CaseInfo(group=case))
            reference, grid = read_label_image(self.reference / f"{case}{_SUFFIX}")
            prediction, other = read_label_image(self.prediction / f"{case}{_SUFFIX}")
            _require_same_grid(grid, other, case)
            wanted = {
                organ: pair
                for organ, pair in self.numbers.items()
                if info.labelled is None or organ in info.labelled
            }
            compared = dict(compare_organs(reference, prediction, grid.spacing_mm, wanted, self.tolerances))
            for organ in self.numbers:
                yield CaseScore(
                    model=self.model,
                    subset=info.subset or self.subset,
                    case=case,
                    organ=organ,
                    group=info.group,
                    db=info.db,
                    child=info.child,
                    comparison=compared.get(organ, NOT_LABELLED),
                )

    def _names(self) -> list[str]:
        found = []
        for folder, what in ((self.reference, "reference"), (self.prediction, "prediction")):
            names = {path.name.removesuffix(_SUFFIX) for path in folder.glob(f"*{_SUFFIX}")}
            if not names:
                raise NotPaired(f"The {what} folder has no {_SUFFIX} files.")
            found.append(names)
        alone = sorted(found[0] ^ found[1])
        if alone:
            raise NotPaired(f"{len(alone)} cases are in one folder only, the first is {alone[0]}.")
        return sorted(found[0])


def _require_same_grid(grid: Grid, other: Grid, case: str) -> None:
    corners = [[0, 0, 0], [n - 1 for n in grid.shape]]
    if grid.shape != other.shape or not np.allclose(
        grid.to_lps(corners), other.to_lps(corners), rtol=0, atol=_MAX_SHIFT_MM
    ):
        raise GridsDiffer(f"Case {case}: {grid.shape} against {other.shape} voxels, or another position.")


def read_label_numbers(path: Path, organs: OrganTable) -> dict[str, int]:
    """Label number of each organ, from nnU-Net's ``dataset.json`` or from a TOML file.

    Names may be keys of the organ table, or names that the dictionary knows.

    Raises
    ------
    LabelsInvalid
        If the file cannot be read, a name is no organ, or a number is not from 1 to 255 or is given twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        rows = json.loads(text)["labels"] if path.suffix == ".json" else tomllib.loads(text)
        pairs = [(str(name), int(number)) for name, number in rows.items() if int(number) != 0]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabelsInvalid(f"{path.name} cannot be read as organs and numbers.") from error
    dictionary = name_dictionary(organs)
    numbers: dict[str, int] = {}
    for name, number in pairs:
        key = name if name in organs else dictionary.organ(name)
        if key is None:
            raise LabelsInvalid(f"'{name}' in {path.name} is neither a key nor a name of an organ.")
        if not 1 <= number <= 255 or number in numbers.values() or key in numbers:
            raise LabelsInvalid(f"'{name}' in {path.name} has no number of its own from 1 to 255.")
        numbers[key] = number
    if not numbers:
        raise LabelsInvalid(f"{path.name} names no organ.")
    return numbers


def read_case_list(path: Path) -> dict[str, CaseInfo]:
    """Read a case list: CSV with ``case`` and any of ``group,db,subset,child,labelled``.

    ``child`` is 1, 0 or empty; ``labelled`` is a list of organ keys separated by spaces. Without this column
    all organs count as labelled; with an empty cell none.

    Raises
    ------
    TrainingSettingsInvalid
        If the file cannot be read or lacks the column ``case``.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, ValueError, csv.Error) as error:
        raise TrainingSettingsInvalid(f"{path.name} cannot be read.") from error
    cases = {}
    for row in rows:
        if not row.get("case") or row.get("child") not in {None, "", "0", "1"}:
            raise TrainingSettingsInvalid(
                f"{path.name}: every line needs a case, and child must be 1, 0 or empty."
            )
        labelled, child = row.get("labelled"), row.get("child")
        cases[row["case"]] = CaseInfo(
            group=row.get("group") or row["case"],
            db=row.get("db") or "",
            subset=row.get("subset") or "",
            child=child == "1" if child else None,
            labelled=None if labelled is None else frozenset(labelled.split()),
        )
    return cases


def read_tolerances(path: Path, organs: OrganTable) -> Tolerances:
    """Read tolerances from TOML: ``default_mm`` and a table ``[organs_mm]``.

    Raises
    ------
    TrainingSettingsInvalid
        If the file cannot be read, or has an unknown organ or an invalid distance.
    """
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))
        tolerances = Tolerances(
            default_mm=float(rows.get("default_mm", 2.0)),
            organs_mm={str(k): float(v) for k, v in rows.get("organs_mm", {}).items()},
        )
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise TrainingSettingsInvalid(f"{path.name} cannot be read as tolerances.") from error
    wrong = [k for k, v in tolerances.organs_mm.items() if k not in organs or not v > 0]
    if wrong or not tolerances.default_mm > 0 or rows.keys() - {"default_mm", "organs_mm"}:
        raise TrainingSettingsInvalid(
            f"{path.name}: organ keys and distances above 0 mm only; see {wrong or rows}."
        )
    return tolerances
