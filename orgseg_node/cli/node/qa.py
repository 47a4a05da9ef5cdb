"""``orgseg qa``: what the clinical checks measured in a result, and what it was compared with."""

from __future__ import annotations

import json as json_format
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from orgseg_node.cli.console import out, print_json
from orgseg_node.cli.options import Json, open_store
from orgseg_node.errors import InputError, OptionInvalid

app = typer.Typer(name="qa", help="Explain the clinical checks of a result.", no_args_is_help=True)

REPORT = "report.json"


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
        Path | None, typer.Option("--config", help="The node's configuration; not needed for a folder.")
    ] = None,
    json: Json = False,
) -> None:
    """Show for each organ what was measured, the range of the reference, and what follows from it."""
    report = read_report(_report_of(job, config))
    if json:
        print_json({"organs": report["organs"], "anatomy": report.get("anatomy", [])})
        return
    console = out()
    rows = {row["organ"]: row for row in report.get("anatomy", [])}
    for organ in report["organs"]:
        console.print(f"[bold]{escape(organ['name'])}[/] {escape(verdict(organ))}")
        for finding in report["findings"]:
            if finding["organ"] == organ["key"]:
                console.print(f"  {escape(finding['message'])}")
        if organ["key"] in rows:
            _print_row(rows[organ["key"]])
    if not rows:
        console.print("This result was made before organs were compared with a reference.")


def verdict(organ: Mapping[str, Any]) -> str:
    """What follows from the checks of an organ of a report."""
    if organ.get("left_out"):
        return "left out: implausible"
    if not organ["voxels"]:
        return "not found"
    grade = organ.get("grade")
    return f"{grade}: look at it" if grade else "as expected"


def read_report(path: Path) -> dict[str, Any]:
    """The content of a report.json. Raises InputError if it cannot be read."""
    try:
        report: dict[str, Any] = json_format.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"There is no readable {REPORT} of this result.") from error
    return report


def _report_of(job: str, config: Path | None) -> Path:
    if (Path(job) / REPORT).is_file():
        return Path(job) / REPORT
    if config is None:
        raise OptionInvalid(f"'{job}' is no folder with {REPORT}; for a job of a node give --config.")
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands

    settings = load_config(config)
    with closing(open_store(settings, read_only=True)) as store:
        return report_path(settings.node.data_dir, store.job(job).job_id)


def report_path(data_dir: Path, job_id: str) -> Path:
    """Where the report of a job is, whether it exists or not."""
    from orgseg_node.node.store.data_folder import JOBS  # noqa: PLC0415  # quick start of other commands

    return data_dir / JOBS / job_id / "out" / REPORT


def _print_row(row: Mapping[str, Any]) -> None:
    if "worst" not in row:
        ranges = [(row["range_ml"], "ml"), (row["range_hu"], "HU")]
        limits = ", ".join(f"{each[0]:g} to {each[1]:g} {unit}" for each, unit in ranges if each)
        text = (
            f"  {row['volume_ml']:.2f} ml; no reference anatomy, only the ranges of the organ table: {limits}"
        )
        out().print(escape(text))
        return
    out().print(
        escape(
            f"  {row['volume_ml']:.2f} ml; farthest from {row['reference']} is '{row['worst']}', "
            f"{row['spreads']:.1f} spreads (unusual from {row['unusual_from']:.1f}, "
            f"implausible from {row['implausible_from']:.1f})."
        )
    )
    table = Table("measure", "here", "99 % of the reference", box=None, pad_edge=False)
    for name, (here, low, high) in row["values"].items():
        table.add_row(escape(name), here, f"{low} to {high}")
    out().print(table)
