"""Data sets with one image for each organ of each scan."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from orgseg_node.core.geometry import Grid
from orgseg_training.datasets.adapter_base import finished, refused, require_same_place
from orgseg_training.datasets.case import Contents, Mask, SourceCase
from orgseg_training.datasets.description import DataSet, with_pairs
from orgseg_training.datasets.nifti import read_label_image, read_volume
from orgseg_training.datasets.scan_index import Found, find_scans
from orgseg_training.errors import CaseRejected


def source_cases(
    database: str, folder: Path, data_set: DataSet, *, automatic: bool = False
) -> tuple[SourceCase, ...]:
    """All scans. An organ whose images are empty is outside the scan; one of which an image is missing was
    not drawn.

    Parameters
    ----------
    database : name of the data set in the experiment
    folder : where it is
    data_set : how it is laid out
    automatic : whether organs that a program labelled count as drawn

    Raises
    ------
    InputError
        If the folder does not hold such a data set.
    """  # noqa: D205
    cases = []
    for scan in find_scans(folder, data_set):
        parts = _parts(scan, data_set) - (frozenset() if automatic else frozenset(scan.scans.automatic))
        fault = scan.fault or ("" if parts else "None of its masks is there.")
        if fault:
            cases.append(refused(database, scan.name, CaseRejected(fault)))
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


def _parts(scan: Found, data_set: DataSet) -> frozenset[str]:
    """Organs all of whose images are there."""
    return frozenset(
        organ
        for organ, files in data_set.files.items()
        if all((scan.labels / f"{file}.nii.gz").is_file() for file in files)
    )


def _read(key: str, scan: Found, data_set: DataSet, parts: frozenset[str]) -> Contents:
    volume = read_volume(scan.image)
    masks = {
        organ: _union([scan.labels / f"{file}.nii.gz" for file in data_set.files[organ]], volume.grid)
        for organ in sorted(parts)
    }
    return finished(key, volume, masks)


def _union(paths: Sequence[Path], ct: Grid) -> Mask:
    whole = np.zeros(ct.shape, np.bool_)
    for path in paths:
        labels, grid = read_label_image(path)
        require_same_place(path.name, grid, ct)
        whole |= labels > 0
    return whole
