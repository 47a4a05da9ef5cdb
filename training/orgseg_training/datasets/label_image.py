"""Data sets with one label image for each scan."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from orgseg_training.datasets.adapter_base import make_contents, rejected_case, require_same_grid
from orgseg_training.datasets.case import Contents, SourceCase
from orgseg_training.datasets.description import DataSet, with_pairs
from orgseg_training.datasets.nifti import read_label_image, read_volume
from orgseg_training.datasets.scan_index import IndexedScan, find_scans
from orgseg_training.errors import CaseRejected


def source_cases(
    database: str, folder: Path, data_set: DataSet, *, automatic: bool = False
) -> tuple[SourceCase, ...]:
    """All scans. An organ whose label numbers do not occur is outside the scan.

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
        if scan.fault:
            cases.append(rejected_case(database, scan.name, CaseRejected(scan.fault)))
            continue
        skipped = frozenset() if automatic else frozenset(scan.scans.automatic)
        parts = data_set.parts - skipped
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


def _read(key: str, scan: IndexedScan, data_set: DataSet, parts: frozenset[str]) -> Contents:
    volume = read_volume(scan.image)
    labels, grid = read_label_image(scan.labels)
    require_same_grid("The label image", grid, volume.grid)
    described = {number for numbers in data_set.labels.values() for number in numbers}
    unknown = set(np.unique(labels).tolist()) - described - set(data_set.others) - {0}
    if unknown:
        named = ", ".join(map(str, sorted(unknown)))
        raise CaseRejected(f"{key} has label numbers that {data_set.title} does not have: {named}.")
    masks = {organ: np.isin(labels, data_set.labels[organ]) for organ in sorted(parts)}
    return make_contents(key, volume, masks)
