"""The report as one A4 page for people: montage, organs, findings and models.

It is drawn from the content of report.json, so page and report cannot differ. It contains no patient data
unless a line that names the patient is passed. The font is monospaced, so that the length of every line is
known before it is drawn. Lists that are too long are cut; the page states how many entries are missing.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import matplotlib.image
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure

from orgseg_node.contouring.cohort_text import describe_cohort

_WIDTH_PT, _HEIGHT_PT = 595.0, 842.0  # A4
_MARGIN_PT = 36.0
_FONT = "DejaVu Sans Mono"  # comes with matplotlib
_SIZE_PT = 6.5
_LETTER_PT = 0.6021 * _SIZE_PT  # advance of every letter of this font
_LINE_PT = 8.6
_COLUMNS = int((_WIDTH_PT - 2 * _MARGIN_PT) / _LETTER_PT)  # letters in a line
_MONTAGE_PT = 290.0
_ORGAN_LINES = 24  # in each of two columns
_MODEL_LINES = 6
_GAP = 2  # letters between the two columns of organs
_LAST_LETTER = 0x0530  # up to here, Latin, Greek and Cyrillic, the font has all letters
_WORST_FIRST = ("error", "warning", "info")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A line of text.

    Attributes
    ----------
    text : at most `_COLUMNS` letters
    is_heading : whether it is bold
    color : color name or code of matplotlib
    size_pt : font size
    """

    text: str
    is_heading: bool = False
    color: str = "black"
    size_pt: float = _SIZE_PT


def render_report_pdf(report: Mapping[str, Any], montage: bytes | None, *, patient: str = "") -> bytes:
    """The page as a PDF; the same report and montage give the same bytes.

    Parameters
    ----------
    report : result of `orgseg_node.contouring.report.build_report`
    montage : the montage as PNG, or None for a page without it
    patient : a line that names the patient; empty for a page without patient data

    Returns
    -------
    a PDF of one page
    """
    figure = draw_page(report, montage, patient=patient)
    file = io.BytesIO()
    metadata = {
        "Title": "Automatic contours, not reviewed",
        "Creator": "orgseg_node",
        "CreationDate": datetime.fromisoformat(
            report["created"]
        ),  # not the present time: same bytes each time
    }
    figure.savefig(file, format="pdf", metadata=metadata)
    return file.getvalue()


def draw_page(report: Mapping[str, Any], montage: bytes | None, *, patient: str = "") -> Figure:
    """The page as a figure of A4 size.

    Parameters
    ----------
    report, montage, patient : see `render_report_pdf`
    """
    figure = Figure(figsize=(_WIDTH_PT / 72, _HEIGHT_PT / 72))
    FigureCanvasPdf(figure)
    top = _banner(figure, report, patient)
    if montage is not None:
        top = _montage(figure, montage, top)
    models = _model_lines(report)
    lines_left = int((top - _MARGIN_PT) / _LINE_PT)
    organs = _organ_lines(report["organs"], _ORGAN_LINES)
    findings = _finding_lines(report["findings"], lines_left - len(organs) - len(models) - 2)
    for line in (*organs, _Line(text=""), *findings, _Line(text=""), *models):
        top -= _LINE_PT
        _write(figure, line, top)
    return figure


def _banner(figure: Figure, report: Mapping[str, Any], patient: str) -> float:
    """Draw the warning and the job; returns the height of its lower edge in points from the bottom."""
    top = _HEIGHT_PT - _MARGIN_PT - 14
    _write(figure, _Line(text="AUTOMATIC, NOT REVIEWED", is_heading=True, color="#b00000", size_pt=15), top)
    version = report["versions"]["orgseg_node"]
    lines = [
        "A qualified person must check the contours before use.",
        f"Job {report['job_id']}   made {report['created']}   orgseg_node {version}",
    ]
    for text in (*lines, *([f"Patient: {patient}"] if patient else [])):
        top -= _LINE_PT + 1
        _write(figure, _Line(text=_cut(text, _COLUMNS)), top)
    return top - 6


def _montage(figure: Figure, montage: bytes, top: float) -> float:
    """Draw the montage as large as possible, not resampled; returns its lower edge in points."""
    picture = matplotlib.image.imread(io.BytesIO(montage), format="png")
    rows, columns = picture.shape[:2]
    scale = min((_WIDTH_PT - 2 * _MARGIN_PT) / columns, _MONTAGE_PT / rows)
    width, height = float(columns * scale), float(rows * scale)
    left = (_WIDTH_PT - width) / 2
    axes = figure.add_axes(
        (left / _WIDTH_PT, (top - height) / _HEIGHT_PT, width / _WIDTH_PT, height / _HEIGHT_PT)
    )
    axes.imshow(picture[..., :3], aspect="auto", interpolation="none")
    axes.set_axis_off()
    return top - height - 2


def _organ_lines(organs: Sequence[Mapping[str, Any]], lines: int) -> list[_Line]:
    """The organs in two columns, found ones first, with the number of those that do not fit."""
    width = (_COLUMNS - _GAP) // 2
    rows = sorted(organs, key=lambda organ: organ["voxels"] == 0)
    cells = [_organ_cell(organ, width) for organ in rows]
    left_out = max(0, len(cells) - 2 * lines)
    cells = cells[: 2 * lines]
    half = -(-len(cells) // 2)
    pairs = [(cells[n], cells[half + n] if half + n < len(cells) else "") for n in range(half)]
    heading = _cell("Organ", "Volume", "Agreement of the networks", width)
    both = f"{heading}{'':{_GAP}}{heading}" if len(cells) > 1 else heading
    found = [_Line(text=both.rstrip(), is_heading=True)]
    found += [_Line(text=f"{first}{'':{_GAP}}{second}".rstrip()) for first, second in pairs]
    if left_out:
        found.append(_Line(text=f"... and {left_out} more organs, listed in report.json", color="#b00000"))
    return found


def _organ_cell(organ: Mapping[str, Any], width: int) -> str:
    volume = f"{organ['volume_ml']:.2f} ml" if organ["voxels"] else "not found"
    volume = "LEFT OUT" if organ.get("left_out") else volume
    differ = organ["disagreement"]
    spread = ""
    if differ is not None and organ["voxels"]:
        low, high = differ["volume_min_ml"], differ["volume_max_ml"]
        spread = f"Dice {differ['mean_dice']:.2f}, {low:.1f}-{high:.1f} ml"
    if organ.get("grade") and organ["voxels"]:
        spread = f"LOOK: {organ['grade']} {spread}".strip()
    return _cell(organ["name"], volume, spread, width)


def _cell(name: str, volume: str, spread: str, width: int) -> str:
    """Three texts in a cell of this many letters."""
    rest = width - 20 - 13 - 1
    return f"{_cut(name, 19):<20}{_cut(volume, 13):>13} {_cut(spread, rest):<{rest}}"


def _finding_lines(findings: Sequence[Mapping[str, Any]], lines: int) -> list[_Line]:
    """The findings, the worst first, in at most this many lines, with the number of those that do not fit."""
    if not findings:
        return [_Line(text="Findings: none", is_heading=True)]
    found = [_Line(text="Findings", is_heading=True)]
    ordered = sorted(findings, key=lambda one: _WORST_FIRST.index(one["level"]))
    for index, finding in enumerate(ordered):
        block = _wrapped(f"{finding['level'].upper():<8}{finding['message']} [{finding['code']}]", indent=8)
        is_last = index == len(ordered) - 1
        if len(found) + len(block) > lines - (0 if is_last else 1):
            text = f"... and {len(ordered) - index} more findings, listed in report.json"
            found.append(_Line(text=text, color="#b00000"))
            break
        color = "#b00000" if finding["level"] == "error" else "black"
        found += [_Line(text=text, color=color) for text in block]
    return found


def _model_lines(report: Mapping[str, Any]) -> list[_Line]:
    """Models and versions, so that the origin of a result can be traced."""
    texts = [f"{one['name']} {one['version']} sha256 {one['sha256']}" for one in report["models"]]
    lines = [_cut(text, _COLUMNS) for text in texts[:_MODEL_LINES]]
    if len(texts) > _MODEL_LINES:
        lines.append(f"... and {len(texts) - _MODEL_LINES} more models, listed in report.json")
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    run = f"Method {report['method']} on {report['device']}. {versions}"
    cohort = [_cut(text, _COLUMNS) for text in describe_cohort(report)][: 1 + _MODEL_LINES]
    return [
        *(_Line(text=text) for text in cohort),
        _Line(text="Models and versions", is_heading=True),
        *(_Line(text=text) for text in lines),
        *(_Line(text=text) for text in _wrapped(run)[:3]),
    ]


def _wrapped(text: str, indent: int = 0) -> list[str]:
    """Text broken into lines that fit, all but the first indented."""
    return textwrap.wrap(_drawable(text), _COLUMNS, subsequent_indent=" " * indent) or [""]


def _cut(text: str, letters: int) -> str:
    text = _drawable(text)
    return text if len(text) <= letters else f"{text[: letters - 1]}\u2026"


def _drawable(text: str) -> str:
    """The text with ``?`` in place of letters that the font may not have."""
    fits = (c if c == "\u2026" or (c.isprintable() and ord(c) < _LAST_LETTER) else "?" for c in text)
    return "".join(fits)


def _write(figure: Figure, line: _Line, y_pt: float) -> None:
    """Draw a line at the left margin with its baseline at a height in points; a dollar starts no formula."""
    figure.text(
        _MARGIN_PT / _WIDTH_PT,
        y_pt / _HEIGHT_PT,
        line.text,
        fontfamily=_FONT,
        fontsize=line.size_pt,
        fontweight="bold" if line.is_heading else "normal",
        color=line.color,
        va="baseline",
        parse_math=False,
    )
