"""``orgseg qa``: what the clinical checks measured in a result, and what it was compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from orgseg_node.cli.console import out, print_json
from orgseg_node.cli.node.result_report import REPORT, flags, read_report, report_path, verdict
from orgseg_node.cli.options import Json, open_store
from orgseg_node.contouring.cohort_text import describe_cohort
from orgseg_node.errors import OptionInvalid, ResultDeleted, ResultMissing

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(name="qa", help="Explain the clinical checks of a result.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def explain(
    job: Annotated[
        str,
        typer.Argument(
            metavar="JOB", help="Number of a job of the node, or the folder that 'orgseg segment' wrote."
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", envvar="ORGSEG_CONFIG", help="The node's configuration; not needed for a folder."
        ),
    ] = None,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Show every measure of every organ, not only what was flagged.")
    ] = False,
    json: Json = False,
) -> None:
    """Show what was flagged in a result and why, and for each organ its farthest measure.

    A flagged organ, and each measure outside of the range of the reference, is marked '!'.
    """
    report = read_report(_report_of(job, config))
    if json:
        print_json(
            {
                "organs": report["organs"],
                "anatomy": report.get("anatomy", []),
                "cohort": report.get("cohort"),
            }
        )
        return
    console = out()
    for line in describe_cohort(report):
        console.print(escape(line), soft_wrap=True)
    rows = {row["organ"]: row for row in report.get("anatomy", [])}
    width = max((len(organ["name"]) for organ in report["organs"]), default=0)
    flagged = flags(report)
    for organ in report["organs"]:
        is_flagged = organ["key"] in flagged
        row = rows.get(organ["key"])
        mark = "[red]![/]" if is_flagged else " "
        name = escape(organ["name"].ljust(width))
        line = f"{mark} [bold]{name}[/]  {escape(verdict(organ))}{escape(_farthest(row))}"
        console.print(line, soft_wrap=True)
        if is_flagged or everything:
            for finding in report["findings"]:
                if finding["organ"] == organ["key"]:
                    console.print(f"    {escape(finding['message'])}")
            _print_values(console, row, everything=everything)
    console.print(f"{len(flagged)} of {len(report['organs'])} organs are flagged (!).")
    if not rows:
        console.print("This result was made before organs were compared with a reference.")
    elif not everything:
        console.print("'--all' shows every measure of every organ.")


def _farthest(row: Mapping[str, Any] | None) -> str:
    """The measure of an organ that is farthest from the reference, or with what it was compared instead."""
    if row is None:
        return ""
    if "worst" not in row:
        ranges = [(row["range_ml"], "ml"), (row["range_hu"], "HU")]
        limits = ", ".join(f"{each[0]:g} to {each[1]:g} {unit}" for each, unit in ranges if each)
        return f", {row['volume_ml']:.2f} ml; no reference anatomy, only the organ table: {limits}"
    return (
        f", {row['volume_ml']:.2f} ml; farthest is '{row['worst']}', {row['spreads']:.1f} spreads "
        f"(unusual from {row['unusual_from']:.1f}, implausible from {row['implausible_from']:.1f})"
    )


def _print_values(console: Console, row: Mapping[str, Any] | None, *, everything: bool) -> None:
    """The measures of an organ with the range of the reference; only those outside of it, or all."""
    if row is None or "values" not in row:
        return
    shown = [(name, value, _is_outside(value)) for name, value in row["values"].items()]
    shown = [each for each in shown if everything or each[2]]
    if not shown:
        return
    table = Table("", "measure", "here", f"99 % of {row['reference']}", box=None, pad_edge=False)
    for name, (here, low, high), outside in shown:
        table.add_row("    [red]![/]" if outside else "", escape(name), here, f"{low} to {high}")
    console.print(table)


def _is_outside(value: Sequence[str]) -> bool:
    """Whether a measure, such as ``12 mm``, is outside of its range, given by its two ends."""
    here, low, high = (float(text.split()[0]) for text in value)
    return not low <= here <= high


def _report_of(job: str, config: Path | None) -> Path:
    """The report of a folder or a job. Raises OptionInvalid, UnknownJob, ResultMissing, ResultDeleted."""
    if (Path(job) / REPORT).is_file():
        return Path(job) / REPORT
    if config is None or Path(job).is_dir():
        raise OptionInvalid(f"'{job}' is no folder with {REPORT}; for a job of a node give --config.")
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands

    settings = load_config(config)
    with closing(open_store(settings, read_only=True)) as store:
        found = store.job(job)
        path = report_path(store, settings.node.data_dir, found.job_id)
    if path.is_file():
        return path
    if found.purged_at is not None:
        raise ResultDeleted
    raise ResultMissing(f"Job {found.job_id} is {found.state}.")
