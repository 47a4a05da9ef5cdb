"""The form in which a scan is stored: its axes, what it must fulfil, and a hash that copies share."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import ndimage

from orgseg_node.core.geometry import Grid
from orgseg_node.core.volume import Volume
from orgseg_node.inference.orientation import reorientation_to
from orgseg_training.datasets.case import Contents, SourceCase
from orgseg_training.errors import CaseRejected

_COARSE_MM = 8.0
_COARSE_HU = 50  # more than another export of the same scan changes a mean over 8 mm


def coarse_hash(volume: Volume) -> str:
    """A hash that stays the same when a scan is stored in another type, rounded, or padded with air.

    Parameters
    ----------
    volume : CT in HU

    Returns
    -------
    SHA-256 of the means over blocks of about 8 mm in steps of 50 HU, of the box around the tissue.
    """
    tissue = volume.hu > -500
    if not tissue.any():
        return hashlib.sha256(b"").hexdigest()
    box = ndimage.find_objects(tissue.astype(np.uint8))[0]
    part = volume.hu[box].astype(np.float32)
    factors = [max(1, round(_COARSE_MM / s)) for s in volume.grid.spacing_mm]
    whole = tuple(slice(0, n - n % f) for n, f in zip(part.shape, factors, strict=True))
    part = part[whole]
    counts = [n // f for n, f in zip(part.shape, factors, strict=True)]
    if 0 in counts:
        return hashlib.sha256(part.tobytes()).hexdigest()
    blocks = part.reshape(counts[0], factors[0], counts[1], factors[1], counts[2], factors[2]).mean(
        axis=(1, 3, 5)
    )
    steps = np.rint(blocks / _COARSE_HU).astype(np.int16)
    return hashlib.sha256(repr(steps.shape).encode() + steps.tobytes()).hexdigest()


def reoriented(contents: Contents) -> Contents:
    """A scan with its axes reoriented as the node does for a network; the stored files have no direction."""
    reorientation = reorientation_to(contents.volume.grid)
    masks = {organ: np.ascontiguousarray(reorientation.apply(mask)) for organ, mask in contents.masks.items()}
    hu: Any = np.ascontiguousarray(reorientation.apply(contents.volume.hu))
    volume = Volume(grid=reorientation.apply_to_grid(contents.volume.grid), hu=hu)
    if contents.known_slices and (reorientation.axis_order[0] != 0 or 0 in reorientation.flipped_axes):
        raise ValueError("The slices of a scan with organs drawn in part must run from feet to head.")
    return replace(contents, volume=volume, masks=masks)


def require_plausible(case: SourceCase, contents: Contents) -> None:
    """Raise CaseRejected for a scan with values, sizes or masks that cannot be right."""
    grid = contents.volume.grid
    for organ, mask in contents.masks.items():
        if mask.shape != grid.shape:
            raise CaseRejected(f"{organ} in {case.key} has another grid than the CT.")
    low, high = np.percentile(contents.volume.hu, (0.5, 99.9))
    if high < 0 or low > -100 or high > 20_000:
        raise CaseRejected(f"The values of {case.key} are not HU: {low:.0f} to {high:.0f}.")
    if min(grid.shape) < 4 or max(grid.spacing_mm) > 12 or min(grid.spacing_mm) < 0.2:
        raise CaseRejected(f"{case.key} has {grid.shape} voxels of {_spacing_text(grid)} mm.")
    drawn = {organ for organ, mask in contents.masks.items() if organ in case.annotated and mask.any()}
    if not drawn and not case.outside:
        raise CaseRejected(f"No organ is drawn in {case.key}.")
    if contradicted := sorted(drawn & case.outside):
        raise CaseRejected(f"Given as outside, but drawn in {case.key}: {', '.join(contradicted)}.")


def _spacing_text(grid: Grid) -> str:
    return " x ".join(f"{s:.3g}" for s in grid.spacing_mm)
