"""``orgseg-train qc`` and ``rejects``: looking at scans, and the signed list of what is left out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from orgseg_node.core.organs import load_organs
from orgseg_node.shipped import shipped_config
from orgseg_training.curation.quality_control import look, summary
from orgseg_training.curation.quality_page import write_page
from orgseg_training.curation.rejects import make_key, sign, verified
from orgseg_training.datasets.case_store import CaseStore

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


def qc(
    out: Annotated[Path, typer.Option("--out", help="Working folder whose scans were taken in.")],
    who: Annotated[str, typer.Option(help="Your name, for entries of the list of rejects.")] = "",
) -> None:
    """Check all scans and draw their contours: qc/index.html with the worst first; what is drawn is kept."""
    store = CaseStore(out.resolve() / "store")
    folder = out.resolve() / "qc"
    organs = load_organs(shipped_config("organs.toml"))
    with typer.progressbar(length=len(store.keys()), label="scans") as bar:
        looked = look(store, folder, organs, done=lambda: bar.update(1))
    page = folder / "index.html"
    write_page(looked, page, who=who, when=datetime.now(UTC).astimezone().date())
    typer.echo(summary(looked))
    typer.echo(f"{page}")


def add_commands(app: typer.Typer) -> None:
    """Give the command line these commands."""
    app.command()(qc)
    app.add_typer(rejects_app, name="rejects")
