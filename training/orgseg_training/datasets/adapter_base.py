"""What all adapters share: pairs made of their sides, listed refusals, and the look at the anatomy."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NoReturn

import numpy as np

from orgseg_node.core.checks import Level
from orgseg_node.core.geometry import Grid
from orgseg_node.core.volume import Volume
from orgseg_node.errors import OrgsegError
from orgseg_training.datasets.anatomy_check import PAIRS, anatomy_findings
from orgseg_training.datasets.case import Contents, Mask, SourceCase
from orgseg_training.errors import AnatomyContradicted, CaseRejected

_SAME_PLACE = 0.1  # of a voxel: what is lost where headers keep few digits


def finished(key: str, volume: Volume, masks: Mapping[str, Mask]) -> Contents:
    """The voxels of a scan, both sides of a pair together too.

    Parameters
    ----------
    key : number of the scan
    volume : CT in HU
    masks : (K, J, I) bool of every organ that was looked for, as the data set divides them

    Raises
    ------
    AnatomyContradicted
        If organs lie where no body has them: their names, sides or numbers are exchanged.
    """
    unions = {
        both: masks[left] | masks[right]
        for both, (left, right) in PAIRS.items()
        if both not in masks and left in masks and right in masks
    }
    whole = {**masks, **unions}
    wrong = [finding for finding in anatomy_findings(whole, volume.grid) if finding.level is Level.ERROR]
    if wrong:
        raise AnatomyContradicted(f"{key}: " + " ".join(finding.message for finding in wrong[:3]))
    return Contents(volume=volume, masks=whole)


def refused(database: str, name: str, error: OrgsegError) -> SourceCase:
    """A scan that cannot be used: it is listed with its reason like one that fails when it is read."""
    return SourceCase(
        database=database, name=name, patient=name, annotated=frozenset(), read=partial(_raise, error)
    )


def _raise(error: OrgsegError) -> NoReturn:
    raise error


def require_same_place(name: str, grid: Grid, ct: Grid) -> None:
    """Refuse labels that do not lie on the voxels of the CT.

    Raises
    ------
    CaseRejected
        If sizes differ, or a corner lies more than a tenth of a voxel elsewhere.
    """
    corners = [(0, 0, 0), tuple(n - 1 for n in ct.shape)]
    if grid.shape == ct.shape:
        away = np.abs(grid.to_lps(corners) - ct.to_lps(corners)) / np.asarray(ct.spacing_mm)[::-1]
        if away.max() <= _SAME_PLACE:
            return
    raise CaseRejected(f"{name} lies on another grid than the CT.")
