"""The report and the model card of a fine-tuning, in the words of the site."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orgseg_node.durable import write_durably
from orgseg_training.tuning.folds import Fold
from orgseg_training.tuning.scores import OrganRow


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneSummary:
    """What was trained on what, and how good it is.

    Attributes
    ----------
    site : name of the site's data set
    name, start : names of the new and of the old bundle
    rows : Dice of each organ of the network in the validation scans
    tuned : organs that were trained on the site's contours
    new : those of them that the old network did not know
    kept : organs of the network that follow the old network's own contours
    other : organs of the other networks of the bundle, which were not changed
    scans : number of scans that were used
    drawn : number of scans in which each tuned organ was drawn
    folds : training and validation scans of each network
    left_out : reason for each scan that could not be used
    """

    site: str
    name: str
    start: str
    rows: tuple[OrganRow, ...]
    tuned: tuple[str, ...]
    new: tuple[str, ...]
    kept: tuple[str, ...]
    other: tuple[str, ...]
    scans: int
    drawn: Mapping[str, int]
    folds: tuple[Fold, ...]
    left_out: Mapping[str, str]


def summary_lines(summary: TuneSummary) -> Iterator[str]:
    """The result as lines of text: first the organs, then what a person should know."""
    for row in summary.rows:
        if row.organ in summary.tuned or row.scans:
            before = "new" if row.old is None else f"{row.old:.3f} ->"
            after = "not drawn" if row.new is None else f"{row.new:.3f}"
            missed = f", not found in {row.missed}" if row.missed else ""
            kept = "" if row.organ in summary.tuned else " (kept, not trained on contours)"
            yield f"{row.organ}: Dice {before} {after} in {row.scans} validation scans{missed}{kept}"
    yield from _notes(summary)


def _notes(summary: TuneSummary) -> Iterator[str]:
    if summary.kept:
        yield f"Not trained on contours, kept as the old network draws them: {', '.join(summary.kept)}."
    if summary.other:
        yield f"In networks of their own, not changed: {', '.join(summary.other)}."
    if summary.left_out:
        yield f"{len(summary.left_out)} scans could not be used: {', '.join(sorted(summary.left_out))}."


def card_of(summary: TuneSummary, low: Sequence[str]) -> str:
    """The model card.

    Parameters
    ----------
    summary : of the fine-tuning
    low : organs that are hardly found
    """
    table = "\n".join(
        f"| {row.organ} | {summary.drawn.get(row.organ, 0)} | {row.scans}"
        f" | {_text(row.old)} | {_text(row.new)} |"
        for row in summary.rows
    )
    notes = "".join(f"* {line}\n" for line in _notes(summary))
    warning = f"\n**Hardly found, accepted anyway: {', '.join(low)}.**\n" if low else ""
    return f"""# {summary.name}

Trained from {summary.start} on {summary.scans} scans of the site {summary.site}.
Networks: {len(summary.folds)}.
Before it contours patients it must pass the gate (`orgseg-train site judge`).

Contours are automatic and unreviewed; they become a plan's contours only when a person has approved them.
{warning}
## Validation scans

Mean Dice through the node's own body contour and engine. No network was trained on the scans it is measured
on, but the best moment of its training was chosen on some of them, so it may be a little too good there.
The gate counts them, and the locked patients.

| organ | drawn in scans | validation scans | {summary.start} | {summary.name} |
|---|---|---|---|---|
{table}

{notes}"""


def write_report(summary: TuneSummary, path: Path, low: Sequence[str]) -> None:
    """Write the report as a page.

    Parameters
    ----------
    summary : of the fine-tuning
    path : of the page
    low : organs that are hardly found

    Raises
    ------
    DiskFull, StorageError
        If it cannot be written.
    """
    rows = "".join(
        f"<tr><td>{html.escape(row.organ)}</td><td>{_kind(summary, row.organ)}</td>"
        f"<td>{summary.drawn.get(row.organ, '')}</td><td>{row.scans}</td><td>{_text(row.old)}</td>"
        f"<td>{_text(row.new)}</td><td>{row.missed or ''}</td></tr>"
        for row in summary.rows
    )
    lines = [
        f"Trained from {summary.start} on {summary.scans} scans of {summary.site}.",
        *_notes(summary),
        *(f"{key}: {why}" for key, why in sorted(summary.left_out.items())),
    ]
    if low:
        lines.insert(0, f"Hardly found: {', '.join(low)}.")
    folds = "".join(
        f"<tr><td>{number}</td><td>{len(fold['train'])}</td>"
        f"<td>{html.escape(', '.join(fold['val']))}</td></tr>"
        for number, fold in enumerate(summary.folds, 1)
    )
    paragraphs = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    text = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{html.escape(summary.name)}</title>"
        "<style>body{font:15px sans-serif;max-width:60em;margin:2em auto}table{border-collapse:collapse}"
        "td,th{padding:.2em .8em;border-bottom:1px solid #ccc;text-align:left}</style>"
        f"<h1>{html.escape(summary.name)}</h1>{paragraphs}"
        "<h2>Dice in the validation scans</h2><table><tr><th>organ</th><th></th><th>drawn in</th>"
        f"<th>scans</th><th>{html.escape(summary.start)}</th><th>{html.escape(summary.name)}</th>"
        f"<th>not found in</th></tr>{rows}</table>"
        "<h2>Networks</h2><table><tr><th>network</th><th>trained on</th><th>validated on</th></tr>"
        f"{folds}</table></html>\n"
    )
    write_durably(path, text.encode(), mode=0o644)


def _kind(summary: TuneSummary, organ: str) -> str:
    if organ in summary.new:
        return "new organ"
    return "trained" if organ in summary.tuned else "kept"


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
