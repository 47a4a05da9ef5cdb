"""Findings: what a person should know about a result. The caller decides on the consequences."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import cc3d
import numpy as np
from scipy import ndimage

from orgseg_node.core.organs import PAIRS, Organ, Side
from orgseg_node.core.volume import LabelMap, Mask

# Organs that usually extend beyond the scan: touching its first or last slice is a note, not a warning.
_PASS_THROUGH = frozenset(
    {"spinal_cord", "spinal_canal", "esophagus", "aorta", "vertebrae", "colon", "small_bowel", "body", "skin"}
    | {"bowel", "bowel_bag", "large_bowel", "trachea", "superior_vena_cava", "inferior_vena_cava"}
    | {
        "carotid_arteries",
        "carotid_artery_left",
        "carotid_artery_right",
        "femurs",
        "femur_left",
        "femur_right",
    }
    | {"rectus_abdominis", "rectus_abdominis_left", "rectus_abdominis_right", "ribs", "rib_left", "rib_right"}
)
SEVERAL_PARTS = frozenset(
    {*PAIRS, "vertebrae", "rib_left", "rib_right", "whole_bones", "bowel", "small_bowel", "seminal_vesicles"}
)
"""Organs that naturally consist of several parts."""
_SMALL_PIECE = 0.05  # a second piece above this fraction of the organ is a warning, below it a note
_SMALLEST_ML = 0.2  # sides of smaller organs are not compared: they may be false pieces
_DUST = 0.001  # pieces below this fraction of the organ are not listed individually
_Box = tuple[slice, slice, slice]


class Level(StrEnum):
    """How important a finding is."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Grade(StrEnum):
    """How far an organ is from what organs look like; what follows is the protocol's decision."""

    UNUSUAL = "unusual"  # look at it
    IMPLAUSIBLE = "implausible"  # almost certainly wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One observation about a series or a result.

    Attributes
    ----------
    level : how important it is; an error holds the job
    code : stable name, such as ``BODY_TOUCHES_FOV``
    message : a sentence for a physicist, without patient data
    organ : key of the organ, if it is about one
    value : the measured number, if there is one
    measure : what was measured, in words, if the organ was compared with a reference
    reference : lowest and highest value of the reference
    grade : how far the organ is from the reference
    """

    level: Level
    code: str
    message: str
    organ: str | None = None
    value: float | None = None
    measure: str | None = None
    reference: tuple[float, float] | None = None
    grade: Grade | None = None


def check_labels(label_map: LabelMap) -> tuple[Finding, ...]:
    """The findings on an automatic segmentation.

    Reports organs that were not found, organs cut by the ends of the scan or by the border of the image,
    organs in several pieces, and pairs whose left and right are swapped (an error: such a result must not be
    sent).

    Returns
    -------
    findings in the order of the label numbers, swapped pairs last
    """
    labels = label_map.labels
    boxes = ndimage.find_objects(labels, max_label=255)
    findings: list[Finding] = []
    centroids: dict[str, tuple[Organ, float]] = {}
    slice_ml = label_map.grid.slice_ml
    for label, organ in sorted(label_map.organs.items()):
        box = boxes[label - 1]
        if box is None:
            findings.append(_not_found(organ))
            continue
        mask: Mask = np.equal(labels[box], label)
        findings += _cut(organ, box, mask.shape, labels.shape)
        findings += _pieces(organ, mask)
        if float(mask.sum(axis=(1, 2)) @ slice_ml[box[0]]) < _SMALLEST_ML:
            continue
        index = [start.start + float(c) for start, c in zip(box, ndimage.center_of_mass(mask), strict=True)]
        centroids[organ.key] = (organ, float(label_map.grid.to_lps([index])[0, 0]))
    return (*findings, *_swapped(centroids))


def worst_level(findings: tuple[Finding, ...]) -> Level | None:
    """The most severe level among findings; None if there are none."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=None)


def _not_found(organ: Organ) -> Finding:
    return Finding(
        level=Level.WARNING,
        code="ORGAN_NOT_FOUND",
        message=f"{organ.name} was searched for and not found.",
        organ=organ.key,
        value=0.0,
    )


def _cut(organ: Organ, box: _Box, size: tuple[int, ...], full: tuple[int, ...]) -> list[Finding]:
    """Findings for an organ that touches an end of the scan or the border of the image."""
    findings = []
    ends = [name for name, on in (("first", box[0].start == 0), ("last", box[0].stop == full[0])) if on]
    if ends:
        findings.append(
            Finding(
                level=Level.INFO if organ.key in _PASS_THROUGH else Level.WARNING,
                code="ORGAN_AT_SCAN_END",
                message=f"{organ.name} reaches the {' and the '.join(ends)} slice and may continue beyond.",
                organ=organ.key,
                value=float(size[0]),
            )
        )
    if any(box[axis].start == 0 or box[axis].stop == full[axis] for axis in (1, 2)):
        findings.append(
            Finding(
                level=Level.WARNING,
                code="ORGAN_AT_PICTURE_BORDER",
                message=f"{organ.name} touches the border of the image; a part of it may be cut off.",
                organ=organ.key,
            )
        )
    return findings


def _pieces(organ: Organ, mask: Mask) -> list[Finding]:
    """A finding for an organ in several pieces (26-connected), with their fractions, largest first."""
    if organ.key in SEVERAL_PARTS:
        return []
    counts = np.bincount(cc3d.connected_components(mask, connectivity=26).ravel())[1:]
    if counts.size < 2:
        return []
    parts = np.sort(counts)[::-1] / counts.sum()
    named = ", ".join(f"{100 * part:.1f} %" for part in parts[:5] if part >= _DUST)
    rest = "" if parts.size <= 5 and parts[-1] >= _DUST else " and smaller ones"
    return [
        Finding(
            level=Level.WARNING if parts[1] >= _SMALL_PIECE else Level.INFO,
            code="ORGAN_IN_PIECES",
            message=f"{organ.name} is in {parts.size} pieces: {named}{rest}.",
            organ=organ.key,
            value=float(parts.size),
        )
    ]


def _swapped(centroids: dict[str, tuple[Organ, float]]) -> list[Finding]:
    """Pairs whose left organ is not further to the patient's left (larger LPS x) than the right one."""
    findings = []
    for key, (organ, left_mm) in centroids.items():
        right = centroids.get(key.removesuffix("_left") + "_right")
        if organ.side is not Side.LEFT or right is None or left_mm > right[1]:
            continue
        findings.append(
            Finding(
                level=Level.ERROR,
                code="LEFT_RIGHT_SWAPPED",
                message=(
                    f"{organ.name} is {right[1] - left_mm:.1f} mm to the patient's right of {right[0].name}: "
                    "left and right are swapped."
                ),
                organ=key,
                value=left_mm - right[1],
            )
        )
    return findings
