"""Where organs lie relative to each other in every body of any age: sides, from head to feet, front and back.

A patient with mirrored organs (situs inversus) is reported too, and should be seen by a person anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.geometry import FloatArray
from orgseg_node.core.organs import PAIRS

_X, _Y, _Z = 0, 1, 2
MOBILE: Final = frozenset({"ovaries", "testes"})
"""Pairs of which both may lie on one side of the middle: their sides are not compared."""

RIGHT_OF: Final = (
    ("liver", "spleen"), ("liver", "stomach"), ("liver", "kidney_left"), ("liver", "spinal_cord"),
    ("gall_bladder", "spleen"), ("gall_bladder", "stomach"), ("gall_bladder", "kidney_left"),
    ("kidney_right", "spleen"), ("adrenal_gland_right", "spleen"), ("spinal_cord", "spleen"),
    ("vertebrae", "spleen"), ("liver", "aorta"), ("liver", "vertebrae"), ("kidney_right", "aorta"),
)  # fmt: skip
ABOVE: Final = (
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
BEFORE: Final = (
    ("heart", "spinal_cord"), ("heart", "vertebrae"), ("liver", "spinal_cord"), ("liver", "vertebrae"),
    ("esophagus", "spinal_cord"), ("aorta", "spinal_cord"), ("pancreas", "spinal_cord"),
    ("pancreas", "vertebrae"), ("gall_bladder", "spinal_cord"), ("stomach", "spinal_cord"),
    ("urinary_bladder", "rectum"), ("urinary_bladder", "sacrum"), ("eyeballs", "brain"),
    ("eyeballs", "brainstem"), ("mandible", "brainstem"), ("mandible", "spinal_cord"),
    ("larynx", "spinal_cord"), ("rectus_abdominis", "spinal_cord"), ("heart", "aorta"),
)  # fmt: skip


def relative_position_findings(centres: Mapping[str, FloatArray], margin_mm: float) -> Iterator[Finding]:
    """Findings of organs that are on the wrong side of each other.

    Parameters
    ----------
    centres : (3,) x, y, z in LPS mm of the centre of each organ, by key
    margin_mm : a centre must be by more than this on the wrong side

    Yields
    ------
    Errors ``ANATOMY_SIDE``, ``ANATOMY_ORDER``, ``ANATOMY_FRONT`` with the distance in mm, naming both organs
    """
    for _, _, finding in relative_position_conflicts(centres, margin_mm):
        yield finding


def relative_position_conflicts(
    centres: Mapping[str, FloatArray], margin_mm: float
) -> Iterator[tuple[str, str, Finding]]:
    """Pairs of organs that are on the wrong side of each other, each with its finding.

    Parameters
    ----------
    centres, margin_mm : see `relative_position_findings`
    """
    sides = tuple((right, left) for both, (left, right) in PAIRS.items() if both not in MOBILE)
    for first, second in (*sides, *RIGHT_OF):
        # LPS: x increases to the patient's left
        yield from _compare(centres, (first, second), (_X, 1.0, margin_mm), "SIDE", "right of")
    for first, second in ABOVE:
        yield from _compare(centres, (first, second), (_Z, -1.0, margin_mm), "ORDER", "above")
    for first, second in BEFORE:
        yield from _compare(centres, (first, second), (_Y, 1.0, margin_mm), "FRONT", "in front of")


def _compare(
    centres: Mapping[str, FloatArray],
    organs: tuple[str, str],
    along: tuple[int, float, float],
    code: str,
    words: str,
) -> Iterator[tuple[str, str, Finding]]:
    """Both organs and a finding if the first is on the wrong side; an axis comes with sign and margin."""
    first, second = organs
    axis, sign, margin_mm = along
    if first not in centres or second not in centres:
        return
    wrong_mm = sign * float(centres[first][axis] - centres[second][axis])
    if wrong_mm > margin_mm:
        finding = Finding(
            level=Level.ERROR,
            code=f"ANATOMY_{code}",
            organ=first,
            value=wrong_mm,
            message=f"{first} is not {words} {second}: its centre is {wrong_mm:.0f} mm on the wrong side.",
        )
        yield first, second, finding
