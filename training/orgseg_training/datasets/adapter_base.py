"""What all adapters share: pairs made of both sides, rejected scans, and the check of the anatomy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from typing import NoReturn

import numpy as np

from orgseg_node.core.geometry import Grid
from orgseg_node.core.organs import PAIRS
from orgseg_node.core.volume import Volume
from orgseg_node.errors import OrgsegError
from orgseg_training.datasets.anatomy_check import position_findings
from orgseg_training.datasets.case import Contents, Mask, SourceCase
from orgseg_training.errors import AnatomyContradicted, CaseRejected, ScanNotRead

_MAX_SHIFT_VOXELS = 0.1  # rounding of headers with few digits


def make_contents(key: str, volume: Volume, masks: Mapping[str, Mask]) -> Contents:
    """The voxels of a scan; for both sides of a pair also their union.

    Parameters
    ----------
    key : key of the scan
    volume : CT in HU
    masks : (K, J, I) bool of every organ that was looked for, with the labels of the data set

    Raises
    ------
    AnatomyContradicted
        If organs are at impossible positions: names, sides or numbers were exchanged.
    """
    unions = {
        both: masks[left] | masks[right]
        for both, (left, right) in PAIRS.items()
        if both not in masks and left in masks and right in masks
    }
    all_masks = {**masks, **unions}
    wrong = position_findings(all_masks, volume.grid)
    if wrong:
        raise AnatomyContradicted(f"{key}: " + " ".join(finding.message for finding in wrong[:3]))
    return Contents(volume=volume, masks=all_masks)


def rejected_case(database: str, name: str, error: OrgsegError) -> SourceCase:
    """A scan that cannot be used; reading it raises the error, so that it is listed with its reason.

    Parameters
    ----------
    database : name of the data set in the experiment
    name : of the scan
    error : why it cannot be used
    """
    may_pass = isinstance(error, ScanNotRead)
    return SourceCase(
        database=database,
        name=name,
        patient=name,
        annotated=frozenset(),
        read=partial(_raise, error),
        source_hash=None if may_pass else partial(_hash_of, error),
    )


def _hash_of(error: OrgsegError) -> str:
    return hashlib.sha256(f"{error.code} {error.sentence}".encode()).hexdigest()


def _raise(error: OrgsegError) -> NoReturn:
    raise error


def require_same_grid(name: str, grid: Grid, ct: Grid) -> None:
    """Refuse labels on another grid than the CT.

    Parameters
    ----------
    name : of the label image, for the message
    grid : of the label image
    ct : grid of the CT

    Raises
    ------
    CaseRejected
        If sizes differ, or a corner is shifted by more than a tenth of a voxel.
    """
    corners = [(0, 0, 0), tuple(n - 1 for n in ct.shape)]
    if grid.shape == ct.shape:
        shift = np.abs(grid.to_lps(corners) - ct.to_lps(corners)) / np.asarray(ct.spacing_mm)[::-1]
        if shift.max() <= _MAX_SHIFT_VOXELS:
            return
    raise CaseRejected(f"{name} has another grid than the CT.")
