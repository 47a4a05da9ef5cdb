"""Whether a scan is one that a bundle can contour: its region, its position and its kind.

The scan is compared with the training scans of the bundle as it is, and with head and feet, and front and
back, exchanged. It must look more like them as it is. Only a part of a long scan may be of their region; the
network then works on this part, and organs of other levels are not looked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.geometry import FloatArray
from orgseg_node.core.scan.grid import ScanGrid
from orgseg_node.core.scan.kind import kind_findings, scan_numbers
from orgseg_node.core.scan.levels import Alignment, align
from orgseg_node.core.scan.reference import Range, ScanReference
from orgseg_node.core.scan.slices import slice_measures, turned

REGION_NOT_TRAINED: Final = "REGION_NOT_TRAINED"
PATIENT_POSITION_DOUBTFUL: Final = "PATIENT_POSITION_DOUBTFUL"
SIDES_DOUBTFUL: Final = "SIDES_DOUBTFUL"
SIDES_NOT_CONFIRMED: Final = "SIDES_NOT_CONFIRMED"
REGION_PARTLY_TRAINED: Final = "REGION_PARTLY_TRAINED"
ORGANS_NOT_IN_SCAN: Final = "ORGANS_NOT_IN_SCAN"

_LEAST_SIMILARITY_MM: Final = 25.0  # see `Alignment.similarity_mm`; scans of other regions reach 0 to 6
_UNCERTAIN: Final = 0.7  # a turned scan with this fraction of the similarity makes the position uncertain
_MOST_UNLIKE: Final = 0.5  # fraction of slices that may be unlike their level
_SHORT_RUN: Final = 3  # slices; shorter runs of similarity are chance
_MARGIN_MM: Final = 30.0  # the place of an organ and the level of a slice are known to 10 or 15 mm
_SURE: Final = 3.0  # logarithm of the likelihood ratio of the sides: 20 to 1

_TURNS: Final[Mapping[tuple[bool, bool], str]] = {
    (True, False): "the head is where the header places the feet",
    (False, True): "the front of the body is where the header places the back",
    (True, True): "head and feet, and front and back, are exchanged",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanJudgement:
    """What was found out about a scan.

    Attributes
    ----------
    findings : for people; an error means that the scan is held
    range_mm : lowest and highest z in mm between which the network may work; None for the whole scan
    absent : keys of organs that cannot be in the scan
    """

    findings: tuple[Finding, ...]
    range_mm: Range | None = None
    absent: frozenset[str] = frozenset()

    @property
    def reasons(self) -> tuple[Finding, ...]:
        """Why the scan is held; empty if it is not."""
        return tuple(finding for finding in self.findings if finding.level is Level.ERROR)


def judge_kind(scan: ScanGrid) -> ScanJudgement:
    """Judge a scan for a bundle of which no training scans are known: only what no patient shows."""
    numbers = scan_numbers(scan)
    return ScanJudgement(findings=() if numbers is None else kind_findings(numbers))


def judge_scan(scan: ScanGrid, reference: ScanReference, bundle: str) -> ScanJudgement:
    """Judge a scan for a bundle.

    Parameters
    ----------
    scan : the patient on the coarse grid
    reference : the training scans of the bundle
    bundle : its name, for the sentences
    """
    rows = slice_measures(scan)
    as_it_is = align(reference.levels, scan.z_mm, rows)
    turns = {
        (z, y): align(reference.levels, -scan.z_mm[::-1] if z else scan.z_mm, turned(rows, z=z, y=y))
        for z, y in _TURNS
    }
    turn, best = max(turns.items(), key=lambda each: each[1].similarity_mm)
    if best.similarity_mm > max(as_it_is.similarity_mm, _LEAST_SIMILARITY_MM):
        return ScanJudgement(findings=(_position(turn, sure=True), *_kind(scan, reference)))
    alike = _alike(as_it_is, reference.levels.limit)
    if as_it_is.similarity_mm < _LEAST_SIMILARITY_MM or not alike.any():
        return ScanJudgement(findings=(_other_region(bundle), *_as_warnings(_kind(scan, reference))))
    found = _kind(scan.part(np.isfinite(as_it_is.distances)), reference)
    if best.similarity_mm > _UNCERTAIN * as_it_is.similarity_mm:
        found.append(_position(turn, sure=False))
    shown = as_it_is.levels_mm[alike]
    low, high = float(shown[0]), float(shown[-1])
    present = reference.organs_between(low, high)
    absent = frozenset(reference.organs_mm) - reference.organs_between(low - _MARGIN_MM, high + _MARGIN_MM)
    if len(present) < _MOST_UNLIKE * reference.organ_share * len(reference.organs_mm):
        return ScanJudgement(findings=(_too_few_organs(bundle, present), *_as_warnings(found)), absent=absent)
    if absent:
        found.append(_absent(absent))
    found += _unlike(as_it_is, alike, bundle)
    found += _sides(scan, rows, as_it_is, reference)
    inside = _range(as_it_is, reference)
    found += [] if inside is None else [_partly(bundle)]
    return ScanJudgement(findings=tuple(found), range_mm=inside, absent=absent)


def _as_warnings(findings: Sequence[Finding]) -> list[Finding]:
    """The findings, none of which is the reason to hold the scan."""
    return [replace(each, level=Level.WARNING) if each.level is Level.ERROR else each for each in findings]


def _kind(scan: ScanGrid, reference: ScanReference) -> list[Finding]:
    numbers = scan_numbers(scan)
    return [] if numbers is None else list(kind_findings(numbers, reference.numbers))


def _alike(alignment: Alignment, limit: float) -> NDArray[np.bool_]:
    """(K,) slices that look like their level, without runs of one or two."""
    alike = np.nan_to_num(alignment.distances, nan=np.inf) <= limit
    size = min(_SHORT_RUN, alike.size)
    return np.asarray(ndimage.binary_opening(alike, np.ones(size, dtype=np.bool_)))


def _range(alignment: Alignment, reference: ScanReference) -> Range | None:
    """Where the network may work; None if the scan extends little beyond the levels of the training scans."""
    low, high = reference.levels.range_mm
    first, last = alignment.levels_mm[0], alignment.levels_mm[-1]
    if first > low - 2 * _MARGIN_MM and last < high + 2 * _MARGIN_MM:
        return None
    return alignment.offset_mm + low - _MARGIN_MM, alignment.offset_mm + high + _MARGIN_MM


def _position(turn: tuple[bool, bool], *, sure: bool) -> Finding:
    seems = (
        "The patient position in the header contradicts the anatomy" if sure else "The position is uncertain"
    )
    return Finding(
        level=Level.ERROR if sure else Level.WARNING,
        code=PATIENT_POSITION_DOUBTFUL,
        message=f"{seems}: it looks as if {_TURNS[turn]}. Left and right may be exchanged, too.",
    )


def _other_region(bundle: str) -> Finding:
    return Finding(
        level=Level.ERROR,
        code=REGION_NOT_TRAINED,
        message=f"No part of the scan looks like the region of the body that '{bundle}' was trained on.",
    )


def _too_few_organs(bundle: str, present: frozenset[str]) -> Finding:
    which = f"only {', '.join(sorted(present))}" if present else "none"
    return Finding(
        level=Level.ERROR,
        code=REGION_NOT_TRAINED,
        message=f"The scan shows little of the region of '{bundle}': of its organs, {which} can be in it.",
        value=float(len(present)),
    )


def _absent(absent: frozenset[str]) -> Finding:
    which = ", ".join(sorted(absent))
    return Finding(
        level=Level.INFO,
        code=ORGANS_NOT_IN_SCAN,
        message=f"The scan does not reach these organs, which are therefore not contoured: {which}.",
        value=float(len(absent)),
    )


def _unlike(alignment: Alignment, alike: NDArray[np.bool_], bundle: str) -> list[Finding]:
    share = 1.0 - float(alike.sum()) / max(alignment.compared, 1)
    if share <= _MOST_UNLIKE:
        return []
    message = f"{share:.0%} of the slices look unlike the scans that '{bundle}' was trained on."
    return [Finding(level=Level.WARNING, code="SCAN_UNUSUAL", message=message, value=round(share, 2))]


def _sides(scan: ScanGrid, rows: FloatArray, alignment: Alignment, reference: ScanReference) -> list[Finding]:
    own = alignment if reference.sides_levels is None else align(reference.sides_levels, scan.z_mm, rows)
    is_placed = own.similarity_mm >= _LEAST_SIMILARITY_MM
    evidence = reference.sides.evidence(scan, own.levels_mm) if reference.sides and is_placed else 0.0
    if evidence > _SURE:
        return []
    if evidence < -_SURE:
        message = (
            "Left and right seem to be exchanged: the organs that are not symmetric are on the other side."
        )
        return [Finding(level=Level.ERROR, code=SIDES_DOUBTFUL, message=message, value=round(evidence, 1))]
    message = (
        "Left and right could not be confirmed by the anatomy in this scan; the header alone states them."
    )
    return [Finding(level=Level.WARNING, code=SIDES_NOT_CONFIRMED, message=message, value=round(evidence, 1))]


def _partly(bundle: str) -> Finding:
    message = f"The scan is longer than the region of '{bundle}'; only slices of this region were contoured."
    return Finding(level=Level.WARNING, code=REGION_PARTLY_TRAINED, message=message)
