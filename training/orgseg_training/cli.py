"""``orgseg-train``: the command line of the training package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orgseg_node.errors import OrgsegError
from orgseg_training.nnunet_run import Workspace
from orgseg_training.recipe import load_recipe
from orgseg_training.starter import train_starter

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

_RECIPE = Path(__file__).resolve().parent.parent / "config" / "starter.toml"


@app.callback()
def _root() -> None:
    """Train, measure and export models for orgseg_node."""


@app.command()
def starter(
    data: Annotated[Path, typer.Argument(help="Folder of the OpenKBP head-and-neck data set.")],
    work: Annotated[Path, typer.Argument(help="Working folder; an interrupted run goes on from here.")],
    recipe: Annotated[Path, typer.Option(help="What to train.")] = _RECIPE,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train the starter bundle."""
    train_starter(load_recipe(recipe), data, Workspace(root=work.resolve()), threads=threads, device=device)


def main() -> None:
    """Run the command line; errors become a sentence and an exit status."""
    try:
        app()
    except OrgsegError as error:
        typer.echo(f"{error}\n{error.next_step}", err=True)
        raise SystemExit(error.exit_status) from error
