"""Organs and findings of a case, from its report.json and from the RT Structure Set that was delivered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from orgseg_node.web.case_content.images import DrawnOrgan, OpenCase

_LARGEST_REPORT: Final = 50_000_000
_ORDER: Final = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganRow:
    """An organ of a case.

    Attributes
    ----------
    key : of the organ
    name : in the RT Structure Set
    drawn : position among the drawn organs; None if it was not delivered
    color : as a hexadecimal number, for the sample beside the name
    volume_ml : of the label map that was proven to equal the contours; None without a report
    level : ``error``, ``warning`` or empty: the worst of its findings
    verdict : what follows from its checks, in words
    unusual : how far it is from the reference, where 1 is unusual; None without a reference
    worst : in what it is farthest from the reference
    reference : what the reference is
    slice : index of its middle slice; None if it was not delivered
    """

    key: str
    name: str
    drawn: int | None
    color: str
    volume_ml: float | None
    level: str
    verdict: str
    unusual: float | None
    worst: str
    reference: str
    slice: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingRow:
    """A finding, and the slice on which to look."""

    level: str
    code: str
    message: str
    slice: int | None


def report_of(folder: Path) -> Mapping[str, Any] | None:
    """The report in the folder of a result; None if there is none, or it cannot be read."""
    path = folder / "report.json"
    try:
        if path.stat().st_size > _LARGEST_REPORT:
            return None
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) and isinstance(report.get("organs"), list) else None


def organ_rows(report: Mapping[str, Any] | None, opened: OpenCase | None) -> list[OrganRow]:
    """Every organ of the report, and every ROI that was delivered without being in it.

    Parameters
    ----------
    report : of the job
    opened : the case with its delivered contours
    """
    drawn = {organ.name: (index, organ) for index, organ in enumerate(opened.organs if opened else ())}
    compared = {row.get("organ"): row for row in (report or {}).get("anatomy", [])}
    rows = []
    for organ in (report or {}).get("organs", []):
        place = drawn.pop(organ["name"], None)
        rows.append(_row(organ, place, compared.get(organ["key"], {}), (report or {}).get("findings", [])))
    rows += [_row({"key": "", "name": name}, place, {}, []) for name, place in drawn.items()]
    return rows


def _row(
    organ: Mapping[str, Any],
    place: tuple[int, DrawnOrgan] | None,
    compared: Mapping[str, Any],
    findings: Sequence[Mapping[str, Any]],
) -> OrganRow:
    levels = [one["level"] for one in findings if one.get("organ") == organ["key"] and organ["key"]]
    level = min((one for one in levels if one != "info"), key=lambda one: _ORDER.get(one, 9), default="")
    spreads, limit = compared.get("spreads"), compared.get("unusual_from")
    left_out, empty = bool(organ.get("left_out")), organ.get("voxels") == 0
    index, roi = place if place is not None else (None, None)
    if organ.get("grade") == "implausible" or left_out:
        level = "error"
    elif organ.get("grade"):
        level = level or "warning"
    by_person = "left_out_by_person" if organ.get("left_out_by") else "left_out"
    key = by_person if left_out else "empty" if empty else str(organ.get("grade") or "")
    return OrganRow(
        key=str(organ["key"]),
        name=str(organ["name"]),
        drawn=index,
        color="#{:02x}{:02x}{:02x}".format(*(roi.color if roi is not None else (128, 128, 128))),
        volume_ml=organ.get("volume_ml"),
        level=level,
        verdict=key,
        unusual=spreads / limit if spreads is not None and limit else None,
        worst=str(compared.get("worst") or ""),
        reference=str(compared.get("reference") or ""),
        slice=_middle(roi.slices) if roi is not None else None,
    )


def _middle(slices: Sequence[int]) -> int | None:
    every = sorted(set(slices))
    return every[len(every) // 2] if every else None


def slices_of_findings(
    report: Mapping[str, Any] | None, organs: Sequence[OrganRow], opened: OpenCase | None
) -> list[FindingRow]:
    """The findings, the gravest first, each with the slice on which to look.

    Parameters
    ----------
    report : of the job
    organs : of the case
    opened : the case with its delivered contours
    """
    middles = {row.key: row.slice for row in organs if row.key}
    ends = {row.key: row for row in organs}
    found = []
    for one in (report or {}).get("findings", []):
        key = one.get("organ") or ""
        place = middles.get(key)
        row = ends.get(key)
        if str(one.get("code")) == "ORGAN_AT_SCAN_END" and opened and row and row.drawn is not None:
            slices = opened.organs[row.drawn].slices
            place = min(slices) if slices and min(slices) == 0 else max(slices, default=place)
        found.append(
            FindingRow(
                level=str(one["level"]), code=str(one["code"]), message=str(one["message"]), slice=place
            )
        )
    return sorted(found, key=lambda row: _ORDER.get(row.level, 9))
