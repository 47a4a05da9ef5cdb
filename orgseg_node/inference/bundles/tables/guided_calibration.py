"""How well guided runs of a bundle agree with unguided ones: measured once, written into its manifest.

A guided run computes a network only on tiles around the place where the guide found the organ. Other tiles
give other means of logits, and what lies far from that place is not searched. So it is compared with the
unguided run on reference CTs, organ by organ, and allowed only if the guide missed no organ and both agree,
or if the guided result is not worse against clinical contours.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from orgseg_node.inference.bundles.calibration import ReferenceCt, reference_problems
from orgseg_node.inference.bundles.fields import is_number, key_problems

MIN_GUIDED_DICE: Final = 0.995
"""Guided runs are allowed if the Dice of every organ with the unguided run is at least this."""

NON_INFERIORITY_DICE: Final = 0.01
"""Below that, they are allowed if the Dice with clinical contours is not lower by more than this."""

MIN_CONTOURED_CTS: Final = 5
"""Number of CTs with clinical contours of an organ from which on they count."""

LAYOUTS: Final = ("few", "once", "nnunet")
"""See `engine.layout.Layout`, which is not imported here because it needs torch."""

_BACKENDS = ("exact", "fast")
_TOP = {"backend", "layout", "margin_mm", "date", "references", "organs"}
_ORGAN = {"dice", "found_on", "missed_on", "whole_on"}
_CONTOURS = {"cts", "unguided", "guided", "lower"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstContours:
    """The result of both runs against clinical contours of one organ.

    Attributes
    ----------
    cts : number of CTs with contours of it
    unguided, guided : mean Dice with the contours
    lower : lower end of the one-sided 95 % confidence interval of the mean difference, guided minus unguided
    """

    cts: int
    unguided: float
    guided: float
    lower: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidedAgreement:
    """The agreement of guided with unguided runs on one organ.

    Attributes
    ----------
    dice : lowest Dice over the reference CTs on which one of the runs found what can be the organ, by its
        volume (see `core.anatomy.possible.is_crumb`); 1 if there is none
    found_on : number of reference CTs on which the unguided run found what can be the organ
    missed_on : number of those on which the guided run lost it, or had to search the whole CT as the guide
        neither found it nor led to it by what it suspects
    whole_on : number of reference CTs on which its network was run on the whole CT after all
    contours : the result against clinical contours; None if there were too few
    """

    dice: float
    found_on: int
    missed_on: int
    whole_on: int
    contours: AgainstContours | None = None

    @property
    def not_inferior(self) -> bool:
        """Whether the guided run is certainly not worse against clinical contours than the bound."""
        return (
            self.contours is not None
            and self.contours.cts >= MIN_CONTOURED_CTS
            and self.contours.lower >= -NON_INFERIORITY_DICE
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidedCalibration:
    """How well guided runs agree with unguided runs.

    Attributes
    ----------
    backend : ``exact`` or ``fast``, in which both were run; guided runs are allowed in this one
    layout : how tiles are laid over the box of an organ, see `engine.layout.Layout`
    margin_mm : margin of the box around the organ of the guide
    sparse : whether networks that had to search the whole CT did so with few tiles first; see
        `backends.guided.sparse_search`
    suspicion : probability of an organ in the guide, against background, from which on a network searched it
        where the guide did not find it; None if it searched the whole CT. See `backends.guided.proof`
    explained : whether it did not search what another organ explains; see `backends.guided.explained`
    date : of the measurement
    references : the CTs of the measurement
    organs : agreement by organ key, for every organ of the bundle
    """

    backend: str
    layout: str
    margin_mm: float
    sparse: bool
    date: dt.date
    references: tuple[ReferenceCt, ...]
    organs: Mapping[str, GuidedAgreement]
    suspicion: float | None = None
    explained: bool = False

    @property
    def never_found(self) -> tuple[str, ...]:
        """Keys of the organs that were found on no reference CT, so that nothing is known about them."""
        return tuple(key for key, organ in self.organs.items() if not organ.found_on)

    @property
    def shortcomings(self) -> tuple[str, ...]:
        """Why guided runs are not allowed, as sentences without full stop; empty if they are allowed."""
        if len(self.never_found) == len(self.organs):
            return ("no organ was found on any reference CT",)
        missed = tuple(
            f"the guide missed {key} on {organ.missed_on} of {organ.found_on} CT(s)"
            for key, organ in self.organs.items()
            if organ.missed_on
        )
        return missed + tuple(
            f"the Dice of {key} is {organ.dice:.4f}, below {MIN_GUIDED_DICE}"
            for key, organ in self.organs.items()
            if organ.dice < MIN_GUIDED_DICE and not organ.not_inferior
        )

    def describe(self) -> str:
        """How tiles are laid, for the description of the method."""
        return describe_guided(
            self.layout, self.margin_mm, self.suspicion, sparse=self.sparse, explained=self.explained
        )


def describe_guided(
    layout: str, margin_mm: float, suspicion: float | None, *, sparse: bool, explained: bool
) -> str:
    """How networks are run that a guide leads, for the description of the method.

    Parameters
    ----------
    layout, margin_mm, suspicion, sparse, explained : see `GuidedCalibration`
    """
    first = ", sparse first pass" if sparse else ""
    silence = "" if suspicion is None else f", silence of the guide counts below {suspicion:g}"
    others = " or in other organs" if silence and explained else ""
    return f"tiles {layout}, margin {margin_mm:g} mm{first}{silence}{others}"


def guided_calibration_document(calibration: GuidedCalibration) -> dict[str, Any]:
    """The calibration as a table of the manifest."""
    document: dict[str, Any] = {
        "backend": calibration.backend,
        "layout": calibration.layout,
        "margin_mm": float(calibration.margin_mm),
        "sparse": calibration.sparse,
        "date": calibration.date,
        "references": [asdict(ct) for ct in calibration.references],
        "organs": {key: _organ_document(organ) for key, organ in calibration.organs.items()},
    }
    if calibration.suspicion is None:
        return document
    return document | {"suspicion": calibration.suspicion, "explained": calibration.explained}


def _organ_document(organ: GuidedAgreement) -> dict[str, Any]:
    row: dict[str, Any] = {
        "dice": float(organ.dice),
        "found_on": organ.found_on,
        "missed_on": organ.missed_on,
        "whole_on": organ.whole_on,
    }
    return row if organ.contours is None else row | {"contours": asdict(organ.contours)}


def read_guided_calibration(row: Mapping[str, Any]) -> GuidedCalibration:
    """The calibration from its table, for which `guided_calibration_problems` returned nothing."""
    return GuidedCalibration(
        backend=row["backend"],
        layout=row["layout"],
        margin_mm=float(row["margin_mm"]),
        sparse=row.get("sparse", False),  # older calibrations did not measure it
        date=row["date"],
        references=tuple(ReferenceCt(**ct) for ct in row["references"]),
        organs={key: _read_organ(organ) for key, organ in row["organs"].items()},
        suspicion=row.get("suspicion"),
        explained=row.get("explained", False),  # nor this
    )


def _read_organ(row: Mapping[str, Any]) -> GuidedAgreement:
    contours = row.get("contours")
    return GuidedAgreement(
        dice=float(row["dice"]),
        found_on=row["found_on"],
        missed_on=row["missed_on"],
        whole_on=row["whole_on"],
        contours=None if contours is None else AgainstContours(**contours),
    )


def guided_calibration_problems(row: Any) -> list[str]:
    """All problems of the table, as sentences."""
    here = "guide.calibration"
    if not isinstance(row, dict):
        return [f"{here} must be a table"]
    found = key_problems(f"{here}.", row, _TOP, {"sparse", "suspicion", "explained"})
    if row.get("backend", "exact") not in _BACKENDS:
        found.append(f"{here}.backend must be {' or '.join(_BACKENDS)}")
    if row.get("layout", "once") not in LAYOUTS:
        found.append(f"{here}.layout must be {', '.join(LAYOUTS)}")
    if not is_number(row.get("margin_mm", 0)) or not 0 <= row.get("margin_mm", 0) <= 1000:
        found.append(f"{here}.margin_mm must be 0 to 1000")
    found += [
        f"{here}.{name} must be true or false"
        for name in ("sparse", "explained")
        if not isinstance(row.get(name, False), bool)
    ]
    if not is_number(row.get("suspicion", 0.5)) or not 0 < row.get("suspicion", 0.5) <= 0.5:
        found.append(f"{here}.suspicion must be above 0 and at most 0.5")
    if type(row.get("date", dt.date.min)) is not dt.date:
        found.append(f"{here}.date must be a date without time")
    references = row.get("references", [])
    if "references" in row:
        found += reference_problems(references, f"{here}.references")
    count = len(references) if isinstance(references, list) else 0
    if "organs" in row:
        found += _organ_problems(row["organs"], count)
    return found


def _organ_problems(rows: Any, references: int) -> list[str]:
    if not isinstance(rows, dict) or not all(isinstance(organ, dict) for organ in rows.values()):
        return ["guide.calibration.organs must be tables by organ key"]
    found: list[str] = []
    for key, organ in rows.items():
        here = f"guide.calibration.organs.{key}."
        found += key_problems(here, organ, _ORGAN, {"contours"})
        if not is_number(organ.get("dice", 0)) or not 0 <= organ.get("dice", 0) <= 1:
            found.append(f"{here}dice must be 0 to 1")
        for name in ("found_on", "missed_on", "whole_on"):
            if type(organ.get(name, 0)) is not int or not 0 <= organ.get(name, 0) <= references:
                found.append(f"{here}{name} must be a number of reference CTs")
        if "contours" in organ:
            found += _contour_problems(organ["contours"], f"{here}contours")
    return found


def _contour_problems(row: Any, here: str) -> list[str]:
    if not isinstance(row, dict):
        return [f"{here} must be a table"]
    found = key_problems(f"{here}.", row, _CONTOURS)
    if type(row.get("cts", 1)) is not int or row.get("cts", 1) < 1:
        found.append(f"{here}.cts must be a whole number above 0")
    found += [
        f"{here}.{name} must be a number"
        for name in sorted(_CONTOURS - {"cts"})
        if not is_number(row.get(name, 0))
    ]
    return found
