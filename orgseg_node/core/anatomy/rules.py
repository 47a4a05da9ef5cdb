"""Findings of one organ without statistics: pieces far away, cavities, skipped slices, voxels outside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from orgseg_node.core.anatomy.measures import OrganMeasures
from orgseg_node.core.anatomy.reference import OrganReference
from orgseg_node.core.checks import SEVERAL_PARTS, Finding, Grade, Level
from orgseg_node.core.organs import Organ

_NEAR_MM: Final = 10.0  # a piece within this distance is a matter of a few voxels
_LEAST_ML: Final = 0.1  # smaller pieces and cavities are not worth a word
_GROSS_MM: Final = 40.0
_GROSS_SHARE: Final = 0.1  # of the organ, in pieces that far away
_HOLES_SHARE: Final = 0.05
_OUTSIDE: Final = (0.1, 0.5)  # fraction outside of the patient: unusual, implausible


def rule_findings(
    organ: Organ, measures: OrganMeasures, reference: OrganReference | None
) -> Iterator[Finding]:
    """The findings of one organ.

    Parameters
    ----------
    organ : which one
    measures : of the organ
    reference : what is usual; None if nothing is known
    """
    pieces = [] if organ.key in SEVERAL_PARTS else list(_pieces(organ, measures, reference))
    yield from pieces
    holes_ml = max(reference.holes_ml if reference else 0.0, _LEAST_ML, _HOLES_SHARE * measures.volume_ml)
    if measures.holes_ml > holes_ml:
        yield _finding(
            organ, "HAS_HOLES", "volume of cavities in ml", (measures.holes_ml, holes_ml), Grade.UNUSUAL,
            f"{organ.name} has cavities of {measures.holes_ml:.2f} ml inside.",
        )  # fmt: skip
    usual = reference.skipped_slices if reference else 0
    if measures.skipped_slices > usual and not pieces:  # slices between far pieces say nothing more
        yield _finding(
            organ, "SKIPS_SLICES", "skipped slices", (measures.skipped_slices, usual), Grade.UNUSUAL,
            f"{organ.name} is missing in {measures.skipped_slices} slice(s) between others with it.",
        )  # fmt: skip
    outside = measures.outside
    if outside > _OUTSIDE[0]:
        grade = Grade.IMPLAUSIBLE if outside > _OUTSIDE[1] and reference else Grade.UNUSUAL
        yield _finding(
            organ, "OUTSIDE_BODY", "fraction outside of the patient", (outside, _OUTSIDE[0]), grade,
            f"{100 * outside:.0f} % of {organ.name} is outside of the patient, such as in the couch.",
        )  # fmt: skip


def _pieces(organ: Organ, measures: OrganMeasures, reference: OrganReference | None) -> Iterator[Finding]:
    usual = max(reference.piece_mm if reference else 0.0, _NEAR_MM)
    far = [piece for piece in measures.pieces[1:] if piece.distance_mm > usual]
    ml = sum(piece.ml for piece in far)
    if ml < _LEAST_ML:
        return
    farthest = max(piece.distance_mm for piece in far)
    gross = farthest > _GROSS_MM and ml > _GROSS_SHARE * measures.volume_ml and reference is not None
    yield _finding(
        organ, "HAS_FAR_PIECES", "distance of its farthest piece in mm", (farthest, usual),
        Grade.IMPLAUSIBLE if gross else Grade.UNUSUAL,
        f"{organ.name} has {ml:.2f} ml in pieces up to {farthest:.0f} mm from its main piece.",
    )  # fmt: skip


def _finding(  # noqa: PLR0913, PLR0917  # the parts of a finding
    organ: Organ, code: str, measure: str, value_and_limit: tuple[float, float], grade: Grade, message: str
) -> Finding:
    value, limit = value_and_limit
    return Finding(
        level=Level.WARNING,
        code=f"ORGAN_{code}",
        message=message,
        organ=organ.key,
        value=round(float(value), 3),
        measure=measure,
        reference=(0.0, round(float(limit), 3)),
        grade=grade,
    )
