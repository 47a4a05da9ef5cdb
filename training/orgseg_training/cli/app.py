"""``orgseg-train``: the command line of the training package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orgseg_node.errors import OrgsegError
from orgseg_training.cli import curation, evaluate, experiment
from orgseg_training.datasets.openkbp import read_cases
from orgseg_training.democt import make_demo_ct

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Data = Annotated[Path, typer.Argument(help="Folder of the OpenKBP head-and-neck data set.")]


@app.callback()
def _root() -> None:
    """Train, measure and export models for orgseg_node."""


@app.command()
def demo_ct(
    data: Data,
    out: Annotated[Path, typer.Argument(help="Folder to write the series and its reference contours to.")],
    patient: Annotated[str, typer.Option(help="A locked patient.")] = "OKBP_265",
) -> None:
    """Make the demonstration CT: one locked patient as a derived DICOM series under a fictitious name."""
    case = next(case for case in read_cases(data) if case.name == patient)
    make_demo_ct(case.image, case.labels, out)
    typer.echo(f"{out}")


evaluate.add_commands(app)
experiment.add_commands(app)
curation.add_commands(app)


def main() -> None:
    """Run the command line; errors become a sentence and an exit status."""
    try:
        app()
    except OrgsegError as error:
        typer.echo(f"{error}\n{error.next_step}", err=True)
        raise SystemExit(error.exit_status) from error
