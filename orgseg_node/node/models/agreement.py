"""How far two versions agree on scans, organ by organ: Dice and surface Dice."""

from __future__ import annotations

import gzip
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nibabel
import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.metrics import compare
from orgseg_node.errors import StorageError
from orgseg_node.node.models.shadow_rows import ShadowRun

TOLERANCE_MM: Final = 2.0
"""Of the surface Dice."""

Labels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganAgreement:
    """How far both versions agree on one organ, over all scans.

    Attributes
    ----------
    organ : its key
    scans : number of scans in which both found it
    mean_dice, lowest_dice, mean_surface_dice, lowest_surface_dice : over these scans; None without any
    only_live, only_shadow : in how many scans only one version found it
    """

    organ: str
    scans: int
    mean_dice: float | None
    lowest_dice: float | None
    mean_surface_dice: float | None
    lowest_surface_dice: float | None
    only_live: int
    only_shadow: int


def compare_results(live: Path, shadow: Path) -> list[dict[str, Any]]:
    """Compare the label maps in two folders of results.

    Parameters
    ----------
    live, shadow : folders with ``labels.nii.gz`` and ``report.json`` of the same scan

    Returns
    -------
    One row for each organ that either found: ``organ``, ``live`` and ``shadow`` (whether it was found), and
    ``dice`` and ``surface_dice`` where both did.

    Raises
    ------
    StorageError
        If a file is missing or damaged, or the label maps have different grids.
    """
    (ours, spacing_mm), (theirs, _) = _labels(live), _labels(shadow)
    if ours.shape != theirs.shape:
        raise StorageError(f"The label maps have {ours.shape} and {theirs.shape} voxels.")
    in_live, in_shadow = _numbers(live), _numbers(shadow)
    rows = []
    for organ in sorted(in_live.keys() | in_shadow.keys()):
        masks = [_mask(ours, in_live.get(organ)), _mask(theirs, in_shadow.get(organ))]
        found = [bool(mask.any()) for mask in masks]
        row: dict[str, Any] = {"organ": organ, "live": found[0], "shadow": found[1]}
        if all(found):
            compared = compare(masks[0], masks[1], spacing_mm, TOLERANCE_MM)
            row |= {"dice": round(compared.dsc, 4), "surface_dice": round(compared.sdsc, 4)}
        if any(found):
            rows.append(row)
    return rows


def report_agreement(runs: Sequence[ShadowRun]) -> list[OrganAgreement]:
    """The agreement for each organ over all scans, in alphabetical order."""
    by_organ: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        for row in run.organs:
            by_organ.setdefault(str(row["organ"]), []).append(row)
    return [_summary(organ, rows) for organ, rows in sorted(by_organ.items())]


def _summary(organ: str, rows: Sequence[Mapping[str, Any]]) -> OrganAgreement:
    both = [row for row in rows if row["live"] and row["shadow"]]
    dice, surface = ([float(row[name]) for row in both] for name in ("dice", "surface_dice"))
    return OrganAgreement(
        organ=organ,
        scans=len(both),
        mean_dice=statistics.fmean(dice) if dice else None,
        lowest_dice=min(dice, default=None),
        mean_surface_dice=statistics.fmean(surface) if surface else None,
        lowest_surface_dice=min(surface, default=None),
        only_live=sum(row["live"] and not row["shadow"] for row in rows),
        only_shadow=sum(row["shadow"] and not row["live"] for row in rows),
    )


def _mask(labels: Labels, number: int | None) -> NDArray[np.bool_]:
    return np.zeros(labels.shape, dtype=np.bool_) if number is None else np.equal(labels, number)


def _labels(folder: Path) -> tuple[Labels, tuple[float, float, float]]:
    """The labels along (k, j, i), and the distance of voxel centres."""
    try:
        image = nibabel.Nifti1Image.from_bytes(gzip.decompress((folder / "labels.nii.gz").read_bytes()))
        labels = np.asarray(image.dataobj, dtype=np.uint8).transpose(2, 1, 0)
    except (OSError, EOFError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
        raise StorageError(f"A label map cannot be read: {type(error).__name__}.") from error
    i, j, k = (float(step) for step in image.header.get_zooms()[:3])
    return labels, (k, j, i)


def _numbers(folder: Path) -> dict[str, int]:
    """Label number of each organ."""
    try:
        rows = json.loads((folder / "report.json").read_bytes())["organs"]
        return {str(row["key"]): int(row["label"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"A report cannot be read: {type(error).__name__}.") from error
