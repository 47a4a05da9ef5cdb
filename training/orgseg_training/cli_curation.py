"""``orgseg-train rejects``: the signed list of what is not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orgseg_training.curation.rejects import make_key, sign, verified

ListFile = Annotated[Path, typer.Argument(help="The list, a TOML file.")]

rejects_app = typer.Typer(no_args_is_help=True, help="The signed list of scans and organs left out.")


@rejects_app.command()
def keygen(
    out: Annotated[Path, typer.Argument(help="The private key to write; keep it to yourself.")],
) -> None:
    """Make a key for signing; prints the public key that the experiment names."""
    typer.echo(make_key(out))


@rejects_app.command("sign")
def sign_list(
    file: ListFile,
    key: Annotated[Path, typer.Option(help="Private key of keygen.")],
    name: Annotated[str, typer.Option(help="Who signs.")],
) -> None:
    """Sign a list; the signature is written beside it."""
    typer.echo(f"{sign(file, key, name)}")


@rejects_app.command()
def verify(file: ListFile, public_key: Annotated[str, typer.Option(help="Whose signature counts.")]) -> None:
    """Say who signed a list, or fail if it is not what was signed."""
    rejects, signer = verified(file, public_key)
    typer.echo(f"{len(rejects)} rejects, signed by {signer}")


def add_commands(app: typer.Typer) -> None:
    """Give the command line these commands."""
    app.add_typer(rejects_app, name="rejects")
