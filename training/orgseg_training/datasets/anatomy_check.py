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

from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.geometry import FloatArray, VoxelGeometry

_MASK = NDArray[np.bool_]
_X, _Y, _Z = 0, 1, 2

PAIRS: Final[Mapping[str, tuple[str, str]]] = {
    "adrenal_glands": ("adrenal_gland_left", "adrenal_gland_right"),
    "clavicles": ("clavicle_left", "clavicle_right"),
    "eyeballs": ("eyeball_left", "eyeball_right"),
    "femoral_heads": ("femoral_head_left", "femoral_head_right"),
    "hips": ("hip_left", "hip_right"),
    "kidneys": ("kidney_left", "kidney_right"),
    "lungs": ("lung_left", "lung_right"),
    "parotids": ("parotid_left", "parotid_right"),
    "rectus_abdominis": ("rectus_abdominis_left", "rectus_abdominis_right"),
    "ribs": ("rib_left", "rib_right"),
}
"""Keys of the organ table for both together, and for left and right."""

_RIGHT_OF: Final = (
    ("liver", "spleen"), ("liver", "stomach"), ("liver", "kidney_left"), ("liver", "spinal_cord"),
    ("gall_bladder", "spleen"), ("gall_bladder", "stomach"), ("gall_bladder", "kidney_left"),
    ("kidney_right", "spleen"), ("adrenal_gland_right", "spleen"), ("spinal_cord", "spleen"),
    ("vertebrae", "spleen"), ("liver", "aorta"), ("liver", "vertebrae"), ("kidney_right", "aorta"),
)  # fmt: skip
_ABOVE: Final = (
    ("eyeballs", "clavicles"), ("eyeballs", "lungs"), ("eyeballs", "larynx"), ("eyeballs", "mandible"),
    ("brain", "clavicles"), ("brain", "lungs"), ("brain", "heart"), ("brain", "liver"), ("brain", "mandible"),
    ("brainstem", "larynx"), ("mandible", "larynx"), ("larynx", "lungs"), ("larynx", "heart"),
    ("parotids", "larynx"), ("clavicles", "heart"), ("clavicles", "liver"), ("clavicles", "kidneys"),
    ("lungs", "kidneys"), ("lungs", "pancreas"), ("lungs", "urinary_bladder"), ("lungs", "gall_bladder"),
    ("heart", "liver"), ("heart", "stomach"), ("heart", "spleen"), ("heart", "pancreas"),
    ("heart", "kidneys"), ("heart", "gall_bladder"), ("esophagus", "pancreas"), ("esophagus", "gall_bladder"),
    ("esophagus", "kidneys"), ("esophagus", "urinary_bladder"), ("liver", "urinary_bladder"),
    ("liver", "rectum"), ("spleen", "urinary_bladder"), ("stomach", "urinary_bladder"),
    ("adrenal_glands", "urinary_bladder"), ("pancreas", "urinary_bladder"), ("pancreas", "rectum"),
    ("kidneys", "urinary_bladder"), ("kidneys", "rectum"), ("kidneys", "hips"), ("kidneys", "sacrum"),
    ("kidneys", "femoral_heads"), ("adrenal_glands", "hips"), ("liver", "hips"), ("liver", "femoral_heads"),
    ("spleen", "rectum"), ("stomach", "rectum"),
)  # fmt: skip
_BEFORE: Final = (
    ("heart", "spinal_cord"), ("heart", "vertebrae"), ("liver", "spinal_cord"), ("liver", "vertebrae"),
    ("esophagus", "spinal_cord"), ("aorta", "spinal_cord"), ("pancreas", "spinal_cord"),
    ("pancreas", "vertebrae"), ("gall_bladder", "spinal_cord"), ("stomach", "spinal_cord"),
    ("urinary_bladder", "rectum"), ("urinary_bladder", "sacrum"), ("eyeballs", "brain"),
    ("eyeballs", "brainstem"), ("mandible", "brainstem"), ("mandible", "spinal_cord"),
    ("larynx", "spinal_cord"), ("rectus_abdominis", "spinal_cord"), ("heart", "aorta"),
)  # fmt: skip

VOLUMES_ML: Final[Mapping[str, tuple[float, float]]] = {
    "adrenal_glands": (0.3, 60), "aorta": (1, 900), "brain": (200, 2200), "clavicles": (1, 250),
    "colon": (10, 4000), "esophagus": (0.5, 250), "eyeballs": (2, 40), "femoral_heads": (0.5, 1800),
    "gall_bladder": (0.3, 450), "heart": (15, 2200), "hips": (5, 1800), "kidneys": (8, 1800),
    "liver": (60, 5500), "lungs": (40, 11_000), "pancreas": (2, 320), "rectum": (2, 700),
    "rectus_abdominis": (2, 2500), "ribs": (3, 1500), "sacrum": (2, 700), "small_bowel": (10, 4500),
    "spinal_cord": (0.5, 250), "spleen": (5, 3500), "stomach": (4, 3500), "urinary_bladder": (0.5, 2500),
    "vertebrae": (3, 2500), "whole_bones": (20, 14_000), "brainstem": (4, 60), "parotids": (3, 160),
    "mandible": (4, 180), "larynx": (2, 130),
}  # fmt: skip
"""Smallest and largest volume in ml, from a newborn with a small organ to an adult with a large one: a volume
outside is another organ, another unit or a mistake, not an unusual patient. One side of a pair has half of
it.
The smallest volume is checked only for organs that are complete in the scan."""


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
    return (*_check_positions(centres, margin_mm), *_check_volumes(present, grid))


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


def _check_positions(centres: Mapping[str, FloatArray], margin_mm: float) -> Iterator[Finding]:
    sides = tuple((right, left) for left, right in PAIRS.values())
    for first, second in (*sides, *_RIGHT_OF):
        # LPS: x increases to the patient's left
        yield from _compare(centres, (first, second), (_X, 1.0, margin_mm), "SIDE", "right of")
    for first, second in _ABOVE:
        yield from _compare(centres, (first, second), (_Z, -1.0, margin_mm), "ORDER", "above")
    for first, second in _BEFORE:
        yield from _compare(centres, (first, second), (_Y, 1.0, margin_mm), "FRONT", "in front of")


def _compare(
    centres: Mapping[str, FloatArray],
    organs: tuple[str, str],
    along: tuple[int, float, float],
    code: str,
    words: str,
) -> Iterator[Finding]:
    """A finding if the first organ is behind the second along an axis, given with its sign and margin."""
    first, second = organs
    axis, sign, margin_mm = along
    if first not in centres or second not in centres:
        return
    wrong_mm = sign * float(centres[first][axis] - centres[second][axis])
    if wrong_mm > margin_mm:
        yield Finding(
            level=Level.ERROR,
            code=f"ANATOMY_{code}",
            organ=first,
            value=wrong_mm,
            message=f"{first} is not {words} {second}: its centre is {wrong_mm:.0f} mm on the wrong side.",
        )


def _check_volumes(masks: Mapping[str, _MASK], grid: VoxelGeometry) -> Iterator[Finding]:
    halves = {side: both for both, sides in PAIRS.items() for side in sides}
    for organ, mask in masks.items():
        limits = VOLUMES_ML.get(organ) or VOLUMES_ML.get(halves.get(organ, ""))
        if limits is None:
            continue
        share = 1.0 if organ in VOLUMES_ML else 0.5
        smallest, largest = limits[0] * share, limits[1] * share
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
