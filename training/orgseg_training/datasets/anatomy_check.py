"""Checks of plausible anatomy: sides, order from head to feet, front and back, and size of organs.

Public label maps disagree: numbers are exchanged between releases, left and right between conventions. A
wrong map shows in the patient: the liver is on the left, the bladder above the heart. Only what holds for
every body of any age is checked. A patient with mirrored organs (situs inversus) fails too, and should be
seen by a person anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.anatomy.order import order_findings
from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.geometry import FloatArray, VoxelGeometry
from orgseg_node.core.organs import PAIRS, load_organs
from orgseg_node.shipped import shipped_config

_MASK = NDArray[np.bool_]

VOLUMES_ML: Final[Mapping[str, tuple[float, float]]] = {
    key: organ.volume_ml
    for key, organ in load_organs(shipped_config("organs.toml")).items()
    if organ.volume_ml is not None
}
"""Smallest and largest volume in ml, see ``organs.toml``: a volume outside is another organ, another unit or
a mistake, not an unusual patient. The smallest is checked only for organs that are complete in the scan."""


def anatomy_findings(
    masks: Mapping[str, _MASK], grid: VoxelGeometry, *, margin_mm: float = 5.0
) -> tuple[Finding, ...]:
    """Findings of impossible anatomy.

    Parameters
    ----------
    masks : (K, J, I) bool, by key of the organ table; empty ones are left out
    grid : of the masks; positions are compared in LPS, in whatever direction the axes run
    margin_mm : a centre must be by more than this on the wrong side

    Returns
    -------
    Errors ``ANATOMY_SIDE``, ``ANATOMY_ORDER``, ``ANATOMY_FRONT`` with the distance in mm, naming both organs;
    warnings ``ANATOMY_VOLUME`` with the volume in ml

    Raises
    ------
    ValueError
        If a mask has another shape than the grid.
    """
    for organ, mask in masks.items():
        if mask.shape != grid.shape:
            raise ValueError(f"{organ} has {mask.shape} voxels on a grid of {grid.shape}.")
    present = _with_pairs({organ: mask for organ, mask in masks.items() if mask.any()})
    centres = {organ: _centre(mask, grid) for organ, mask in present.items()}
    return (*order_findings(centres, margin_mm), *_check_volumes(present, grid))


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


def _check_volumes(masks: Mapping[str, _MASK], grid: VoxelGeometry) -> Iterator[Finding]:
    for organ, mask in masks.items():
        if organ not in VOLUMES_ML:
            continue
        smallest, largest = VOLUMES_ML[organ]
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
