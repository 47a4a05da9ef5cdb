"""The report for people: HTML and PDF, both from the content of ``commissioning.json``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from orgseg_node.commissioning.summary import MEASURES, facts
from orgseg_node.documents import escaped, html_list, html_page, html_table, text_pdf

_TITLE: Final = "Commissioning with own patients"
_HEAD: Final = ("organ", "patients", "mean", "95 % interval", "median", "worst", "in scan", "observers")
_OBSERVED: Final = {"dsc": "dice", "hd95_mm": "hd95_mm", "msd_mm": "msd_mm"}


def render_html(content: Mapping[str, Any]) -> bytes:
    """The report as an HTML page without any other file.

    Parameters
    ----------
    content : of the report
    """
    parts = [f"<h1>{_TITLE}</h1>", html_list(facts(content))]
    for measure in MEASURES:
        rows = [_cells(row, measure) for row in content["organs"]]
        parts += [f"<h2>{escaped(_title(measure))}</h2>", html_table(_HEAD, rows)]
    parts += ["<h2>Organs</h2>", html_table(_ORGAN_HEAD, map(_organ_cells, content["organs"]))]
    for title, lines in _lists(content):
        parts += [f"<h2>{escaped(title)}</h2>", html_list(lines)]
    return html_page(_TITLE, parts)


def render_pdf(content: Mapping[str, Any]) -> bytes:
    """The report as a PDF of A4 pages.

    Parameters
    ----------
    content : of the report
    """
    lines = [_TITLE, "", *(f"- {line}" for line in facts(content)), ""]
    for measure in MEASURES:
        table = [_HEAD, *(tuple(map(str, _cells(row, measure))) for row in content["organs"])]
        widths = [max(len(row[column]) for row in table) for column in range(len(_HEAD))]
        lines += [_title(measure), *(_padded(row, widths) for row in table), ""]
    lines.append("Organs")
    for row in content["organs"]:
        cells = _organ_cells(row)
        lines.append(", ".join(f"{name} {cell}" for name, cell in zip(_ORGAN_HEAD, cells, strict=True)))
    for title, listed in _lists(content):
        lines += ["", title, *(f"- {line}" for line in listed)]
    return text_pdf(_TITLE, datetime.fromisoformat(content["created"]), lines)


_ORGAN_HEAD: Final = (
    "organ", "scans", "missed", "left out as implausible", "cut by the scan", "tolerance mm",
    "source of the observers",
)  # fmt: skip


def _title(measure: str) -> str:
    title, unit, _, _ = MEASURES[measure]
    return f"{title}, {unit}" if unit else title


def _cells(row: Mapping[str, Any], measure: str) -> tuple[Any, ...]:
    found, digits = row["measures"][measure], MEASURES[measure][2]
    low, high = found["low"], found["high"]
    interval = "too few" if low is None else f"{low:.{digits}f} to {high:.{digits}f}"
    observed = (row["observers"] or {}).get(_OBSERVED.get(measure, ""))
    return (
        row["organ"], found["patients"], _number(found["mean"], digits),
        interval if found["patients"] else "-", _number(found["median"], digits),
        _number(found["worst"], digits), found["worst_scan"] or "-", _number(observed, digits),
    )  # fmt: skip


def _organ_cells(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        row["organ"], row["scans"], len(row["missed"]), len(row["left_out"]), len(row["cut_by_scan"]),
        f"{row['tolerance_mm']:g}", (row["observers"] or {}).get("source", "-"),
    )  # fmt: skip


def _lists(content: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """What was not compared, with the reasons."""
    scans = content["scans"]
    if scans["nothing_compared"]:
        yield (
            "Contoured, but no clinical ROI could be compared; the reasons are below",
            list(scans["nothing_compared"]),
        )
    for key, title in (
        ("refused", "Not contoured"),
        ("failed", "Not finished: they are tried again when the command is run again"),
        ("unusable", "Not used"),
    ):
        if scans[key]:
            yield title, [f"{one['scan'] or 'a file'}: {one['why']}" for one in scans[key]]
    missed = [f"{row['organ']}: {', '.join(row['missed'])}" for row in content["organs"] if row["missed"]]
    if missed:
        yield "Organs that were missed", missed
    if content["not_used"]:
        yield (
            "Clinical ROIs that were not compared",
            [f"{one['roi']} in {one['scans']} scans: {one['why']}" for one in content["not_used"]],
        )


def _padded(row: tuple[str, ...], widths: list[int]) -> str:
    first, *others = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
    return "  ".join((first, *others)).rstrip()


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
