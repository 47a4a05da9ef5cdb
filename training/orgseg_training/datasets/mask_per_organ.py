"""Data sets with one mask for each organ of each scan."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from orgseg_node.core.geometry import Grid
from orgseg_training.datasets.adapter_base import make_contents, rejected_case, require_same_grid
from orgseg_training.datasets.case import Contents, Mask, SourceCase
from orgseg_training.datasets.description import DataSet, with_pairs
from orgseg_training.datasets.nifti import read_label_image, read_volume
from orgseg_training.datasets.scan_index import IndexedScan, find_scans
from orgseg_training.errors import CaseRejected


def source_cases(
    database: str, folder: Path, data_set: DataSet, *, automatic: bool = False
) -> tuple[SourceCase, ...]:
    """All scans. An organ with empty masks is outside the scan; with a missing mask it was not drawn.

    Parameters
    ----------
    database : name of the data set in the experiment
    folder : where it is
    data_set : its description
    automatic : whether organs that were labelled by a program count as drawn

    Raises
    ------
    InputError
        If the folder does not hold such a data set.
    """
    cases = []
    for scan in find_scans(folder, data_set):
        parts = _parts(scan, data_set) - (frozenset() if automatic else frozenset(scan.scans.automatic))
        fault = scan.fault or ("" if parts else "It has no masks.")
        if fault:
            cases.append(rejected_case(database, scan.name, CaseRejected(fault)))
            continue
        cases.append(
            SourceCase(
                database=database,
                name=scan.name,
                patient=scan.patient,
                annotated=with_pairs(parts),
                read=partial(_read, f"{database}__{scan.name}", scan, data_set, parts),
                age_years=scan.age_years,
                test=scan.test,
            )
        )
    return tuple(cases)


def _parts(scan: IndexedScan, data_set: DataSet) -> frozenset[str]:
    """Organs with all their masks."""
    return frozenset(
        organ
        for organ, files in data_set.files.items()
        if all((scan.labels / f"{file}.nii.gz").is_file() for file in files)
    )


def _read(key: str, scan: IndexedScan, data_set: DataSet, parts: frozenset[str]) -> Contents:
    volume = read_volume(scan.image)
    masks = {
        organ: _union([scan.labels / f"{file}.nii.gz" for file in data_set.files[organ]], volume.grid)
        for organ in sorted(parts)
    }
    return make_contents(key, volume, masks)


def _union(paths: Sequence[Path], ct: Grid) -> Mask:
    union = np.zeros(ct.shape, np.bool_)
    for path in paths:
        labels, grid = read_label_image(path)
        require_same_grid(path.name, grid, ct)
        union |= labels > 0
    return union
