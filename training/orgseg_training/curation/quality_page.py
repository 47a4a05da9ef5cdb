"""The page of quality control: scans with pictures, findings, and entries for the reject list."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from urllib.parse import quote

import tomli_w

from orgseg_node.core.checks import Level
from orgseg_node.durable import atomic_file
from orgseg_training.curation.quality_control import QualityReview, summarise

_STYLE = """
body{font:15px sans-serif;max-width:80em;margin:2em auto;padding:0 1em}
table{border-collapse:collapse;width:100%}
td,th{padding:.5em .7em;border-bottom:1px solid #ccc;text-align:left;vertical-align:top}
td img{width:24em;display:block;background:#000}
ul{margin:.2em 0;padding-left:1.2em}
pre{background:#f4f4f4;padding:.5em;user-select:all;font-size:13px}
.error{color:#b00020;font-weight:bold}.warning{color:#8a5a00}.info{color:#555}
"""
_REASONS = {
    "ANATOMY_SIDE": "wrong side",
    "ANATOMY_ORDER": "wrong place",
    "ANATOMY_FRONT": "wrong place",
    "ANATOMY_VOLUME": "impossible volume",
    "VOLUME_OUTLIER": "unusual volume",
    "ORGAN_IN_PIECES": "in pieces",
    "ORGAN_AT_PICTURE_BORDER": "cut off",
    "HU_OUTLIER": "unusual HU",
    "SLICES_SKIPPED": "slices not drawn",
    "SCAN_SPACING": "spacing",
    "SCAN_SLICES_REPEATED": "slices filled in",
    "SCAN_SLICES_EMPTY": "slices missing",
    "SCAN_UNREADABLE": "damaged",
}
"""Reason by finding; always the same words, since the report counts by reason."""


def write_page(reviews: Sequence[QualityReview], file: Path, *, who: str, when: date) -> None:
    """Write the page; besides it only the pictures are needed.

    Parameters
    ----------
    reviews : scans, in the order of their rows
    file : to write, in the folder of the pictures
    who, when : for the entries of the reject list

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    rows = "".join(_row(one, who, when) for one in reviews)
    text = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Quality control</title>'
        f"<style>{_STYLE}</style><h1>Quality control</h1>"
        f"<p>{summarise(reviews)}. The worst come first. Patient's left is on the right of the pictures. To"
        " leave a scan or an organ out, copy its entry into the list of rejects, delete what you do not want"
        " to reject, and sign the list with orgseg-train rejects sign.</p>"
        "<table><tr><th>Picture</th><th>Scan and findings</th><th>Entry for the list of rejects</th></tr>"
        f"{rows}</table></html>\n"
    )
    with atomic_file(file) as part:
        part.write_text(text, encoding="utf-8")


def suggested_rejects(one: QualityReview, *, who: str, when: date) -> str:
    """Entries of the reject list that leave out the organs with findings, or the whole scan.

    Parameters
    ----------
    one : a scan
    who, when : person and date of the decision; a list with an empty name is refused, so fill it in

    Returns
    -------
    ``[[reject]]`` tables as TOML
    """
    drawn = one.measurements.organs if one.measurements else {}
    reasons: dict[str, str] = {}
    for finding in one.findings:  # the most severe comes first and gives the reason
        if finding.level is not Level.INFO and finding.code != "ROI_LEFT_OUT":  # that is left out already
            organ = finding.organ if finding.organ in drawn else None
            reasons.setdefault(organ or "", _REASONS.get(finding.code, finding.code))
    if "" in reasons or not reasons:
        reasons = {"": reasons.get("", "seen in the picture")}
    entries = []
    for organ, reason in reasons.items():
        entry: dict[str, object] = {"case": one.key}
        if organ:
            entry["organ"] = organ
        entries.append("[[reject]]\n" + tomli_w.dumps({**entry, "reason": reason, "who": who, "when": when}))
    return "\n".join(entries)


def _row(one: QualityReview, who: str, when: date) -> str:
    name = html.escape(one.key)
    picture = "no picture"
    if one.picture:
        address = html.escape(quote(one.picture.name))
        picture = f'<a href="{address}"><img src="{address}" alt="{name}" loading="lazy"></a>'
    found = "".join(
        f'<li class="{finding.level.value}">{finding.level.value} {html.escape(finding.code)}:'
        f" {html.escape(finding.message)}</li>"
        for finding in one.findings
    )
    left = "".join(
        f"<p>Already left out: {html.escape(organ or 'the whole scan')}, “{html.escape(reason)}”.</p>"
        for organ, reason in sorted(one.left_out.items())
    )
    entry = html.escape(suggested_rejects(one, who=who, when=when))
    return (
        f'<tr id="{name}"><td>{picture}</td><td><b>{name}</b>{_size(one)}{left}<ul>'
        f"{found or '<li>nothing found</li>'}</ul></td><td><pre>{entry}</pre></td></tr>"
    )


def _size(one: QualityReview) -> str:
    measured = one.measurements
    if not measured:
        return ""
    voxels = " x ".join(str(n) for n in measured.shape)
    spacing = " x ".join(f"{side:.3g}" for side in measured.spacing_mm)
    drawn = html.escape(", ".join(measured.organs))
    return f"<p>{drawn}<br>{voxels} voxels of {spacing} mm (slice, row, column)</p>"
