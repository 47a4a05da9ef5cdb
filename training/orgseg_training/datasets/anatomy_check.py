"""Checks of plausible anatomy: sides, order from head to feet, front and back, and size of organs.

Public label maps disagree: numbers are exchanged between releases, left and right between conventions. A
wrong map shows in the patient: the liver is on the left, the bladder above the heart. Only what holds for
every body of any age is checked. A patient with mirrored organs (situs inversus) fails too, and should be
seen by a person anyway.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.anatomy.relative_position import relative_position_conflicts, relative_position_findings
from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.geometry import FloatArray, VoxelGeometry
from orgseg_node.core.organs import PAIRS, OrganTable
from orgseg_training.datasets.organ_table import shipped_organs

_MASK = NDArray[np.bool_]


def anatomy_findings(
    masks: Mapping[str, _MASK],
    grid: VoxelGeometry,
    *,
    margin_mm: float = 5.0,
    organs: OrganTable | None = None,
) -> tuple[Finding, ...]:
    """Findings of impossible anatomy.

    Parameters
    ----------
    masks : (K, J, I) bool, by key of the organ table; empty ones are left out
    grid : of the masks; positions are compared in LPS, in whatever direction the axes run
    margin_mm : a centre must be by more than this on the wrong side
    organs : with the volumes; the shipped table if none is given

    Returns
    -------
    Errors ``ANATOMY_SIDE``, ``ANATOMY_ORDER``, ``ANATOMY_FRONT`` with the distance in mm, naming both organs;
    warnings ``ANATOMY_VOLUME`` with the volume in ml

    Raises
    ------
    ValueError
        If a mask has another shape than the grid.
    """
    present = _present(masks, grid)
    positions = _check_positions(present, grid, margin_mm)
    return (*positions, *_check_volumes(present, grid, organs or shipped_organs()))


def position_findings(
    masks: Mapping[str, _MASK], grid: VoxelGeometry, *, margin_mm: float = 5.0
) -> tuple[Finding, ...]:
    """Findings of organs at impossible positions, without regard to their volumes.

    Parameters
    ----------
    masks, grid, margin_mm : see `anatomy_findings`

    Raises
    ------
    ValueError
        If a mask has another shape than the grid.
    """
    return tuple(_check_positions(_present(masks, grid), grid, margin_mm))


def _present(masks: Mapping[str, _MASK], grid: VoxelGeometry) -> dict[str, _MASK]:
    """The masks that are not empty, with the pairs of which both sides are there."""
    for organ, mask in masks.items():
        if mask.shape != grid.shape:
            raise ValueError(f"{organ} has {mask.shape} voxels on a grid of {grid.shape}.")
    return _with_pairs({organ: mask for organ, mask in masks.items() if mask.any()})


def _check_positions(
    present: Mapping[str, _MASK], grid: VoxelGeometry, margin_mm: float
) -> Iterator[Finding]:
    centres = {organ: _centre(mask, grid) for organ, mask in present.items()}
    return relative_position_findings(centres, margin_mm)


def misplaced_organs(
    masks: Mapping[str, _MASK], grid: VoxelGeometry, *, margin_mm: float = 5.0
) -> dict[str, str]:
    """The organs that must be left out so that no two are on the wrong side of each other, with the reason.

    The organ with most contradictions goes first; of two that only contradict each other nobody knows which
    one is wrong, and both go. A pair goes with its sides.

    Parameters
    ----------
    masks : (K, J, I) bool, by key of the organ table
    grid : of the masks
    margin_mm : a centre must be by more than this on the wrong side
    """
    centres = {organ: _centre(mask, grid) for organ, mask in masks.items() if mask.any()}
    sides = {side: both for both, members in PAIRS.items() for side in members}
    conflicts = list(relative_position_conflicts(centres, margin_mm))
    wrong: dict[str, str] = {}
    while conflicts:
        counts = Counter(sides.get(organ, organ) for one in conflicts for organ in set(one[:2]))
        worst = max(counts.values())
        for one in conflicts:
            for organ in one[:2]:
                if counts[sides.get(organ, organ)] == worst:
                    wrong.setdefault(organ, one[2].message.rstrip("."))
        gone = wrong.keys() | {both for side in wrong if (both := sides.get(side))}
        conflicts = [one for one in conflicts if gone.isdisjoint(one[:2])]
    return wrong


def _with_pairs(masks: Mapping[str, _MASK]) -> dict[str, _MASK]:
    """The masks, and the union of both sides where there is no mask of the pair."""
    unions = {
        both: masks[left] | masks[right]
        for both, (left, right) in PAIRS.items()
        if both not in masks and left in masks and right in masks
    }
    return {**masks, **unions}


def _centre(mask: _MASK, grid: VoxelGeometry) -> FloatArray:
    """(x, y, z) of the centre of mass in LPS mm, exact for slices at equal distances."""
    counts = [mask.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.int64) for axis in range(3)]
    mean = [float(np.dot(np.arange(n.size), n) / n.sum()) for n in counts]
    centre: FloatArray = grid.to_lps([mean])[0]
    return centre


def _check_volumes(masks: Mapping[str, _MASK], grid: VoxelGeometry, organs: OrganTable) -> Iterator[Finding]:
    """A volume outside the range of the organ table is another organ, another unit or a mistake.

    The smallest is checked only for organs that are complete in the scan.
    """
    for organ, mask in masks.items():
        row = organs[organ]
        if row.volume_ml is None:
            continue
        smallest, largest = row.volume_ml
        volume = float(np.dot(mask.sum(axis=(1, 2)), grid.slice_ml))
        if volume > largest or (volume < smallest and not _touches(mask)):
            yield Finding(
                level=Level.WARNING,
                code="ANATOMY_VOLUME",
                organ=organ,
                value=volume,
                message=f"{organ} has {volume:.3g} ml; patients have {smallest:g} to {largest:g}.",
            )


def _touches(mask: _MASK) -> bool:
    """Whether an organ touches the border of the scan, so that part of it may be outside."""
    return any(bool(np.take(mask, end, axis=axis).any()) for axis in range(3) for end in (0, -1))
