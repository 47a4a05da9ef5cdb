"""``orgseg-train``: the command line of the training package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orgseg_node.core.organs import load_organs
from orgseg_node.errors import OrgsegError
from orgseg_node.shipped import shipped_config
from orgseg_training.cli import curation, evaluate, experiment
from orgseg_training.datasets.openkbp import read_cases
from orgseg_training.democt import make_demo_ct
from orgseg_training.nnunet.run import Machine, Workspace
from orgseg_training.recipe import load_recipe
from orgseg_training.shipped import training_config
from orgseg_training.starter import train_starter
from orgseg_training.starter_evaluation import summary_table

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

_RECIPE = training_config("starter.toml")

Data = Annotated[Path, typer.Argument(help="Folder of the OpenKBP head-and-neck data set.")]
Work = Annotated[Path, typer.Argument(help="Working folder; an interrupted run goes on from here.")]
RecipeFile = Annotated[Path, typer.Option(help="What to train.")]


@app.callback()
def _root() -> None:
    """Train, measure and export models for orgseg_node."""


@app.command()
def starter(
    data: Data,
    work: Work,
    out: Annotated[Path, typer.Argument(help="Folder of the bundle to write; must not exist.")],
    recipe: RecipeFile = _RECIPE,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train the starter bundle, measure it on the locked patients and write it."""
    plan = load_recipe(recipe)
    workspace = Workspace(root=work.resolve())
    train_starter(plan, data, workspace, Machine(threads=threads, device=device))
    # torch is loaded only once the training processes are done with the memory
    from orgseg_node.inference.predictor import InferenceSettings  # noqa: PLC0415
    from orgseg_training.export import Export, export_bundle  # noqa: PLC0415

    organs = load_organs(shipped_config("organs.toml"))
    settings = InferenceSettings(device=device, threads=threads)
    export = Export(recipe=plan, workspace=workspace, organs=organs, settings=settings)
    scores = export_bundle(export, read_cases(data), out)
    typer.echo(summary_table(scores))


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
