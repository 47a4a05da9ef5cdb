"""``orgseg-train qc`` and ``rejects``: quality control of scans, and the signed list of what is left out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from orgseg_node.errors import OptionInvalid
from orgseg_training.cli.progress import progress_display
from orgseg_training.curation.quality_control import review_scans, summarise
from orgseg_training.curation.quality_page import write_page
from orgseg_training.curation.rejects import make_key, read_signed, sign
from orgseg_training.datasets.case_store import CaseStore
from orgseg_training.datasets.organ_table import organs_of_folder

ListFile = Annotated[Path, typer.Argument(help="The list, a TOML file.")]

rejects_app = typer.Typer(no_args_is_help=True, help="The signed list of scans and organs left out.")


@rejects_app.command()
def keygen(
    out: Annotated[Path, typer.Argument(help="The private key to write; keep it secret.")],
) -> None:
    """Make the key with which a person signs, as 'orgseg models keygen'; it prints the public key.

    One key is enough for a person: it signs lists of rejects, gate files and promotions.
    """
    typer.echo(make_key(out))
    typer.echo(
        f"Keep {out} to yourself. Put the public key into rejects_key, of site.toml or the experiment, and"
        " into [models.persons] of node.toml if you also sign gates and promotions.",
        err=True,
    )


@rejects_app.command("sign")
def sign_list(
    file: ListFile,
    *,
    key: Annotated[Path | None, typer.Option(help="Your private key, of keygen; it must be given.")] = None,
    name: Annotated[str, typer.Option(help="Name of the person who signs.")],
) -> None:
    """Sign a list; the signature is written next to it."""
    if key is None:
        raise OptionInvalid(
            "--key FILE is missing: the list is signed with your private key. 'orgseg-train rejects keygen "
            "FILE' makes one; its public key goes into rejects_key, of site.toml or the experiment."
        )
    typer.echo(f"{sign(file, key, name)}")
    typer.echo(f"Then: orgseg-train site ingest {file.parent}, or repeat the experiment's command.", err=True)


@rejects_app.command()
def verify(
    file: ListFile,
    public_key: Annotated[str, typer.Option(help="Public key of the person who must have signed.")],
) -> None:
    """Print who signed a list; fails if the list is not what was signed."""
    rejects, signer = read_signed(file, public_key)
    typer.echo(f"{len(rejects)} rejects, signed by {signer}")


def qc(
    out: Annotated[Path, typer.Option("--out", help="Working folder with ingested scans.")],
    who: Annotated[str, typer.Option(help="Your name, for entries of the reject list.")] = "",
) -> None:
    """Check all scans and draw their contours: qc/index.html, the worst first; unchanged scans are kept."""
    store = CaseStore(out.resolve() / "store")
    folder = out.resolve() / "qc"
    organs = organs_of_folder(out.resolve())
    with progress_display() as display:
        display.stage("scans checked", len(store.keys()))
        reviews = review_scans(store, folder, organs, on_scan_done=display.advance)
    page = folder / "index.html"
    write_page(reviews, page, who=who, when=datetime.now(UTC).astimezone().date())
    typer.echo(summarise(reviews))
    typer.echo(f"{page}")


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(qc)
    app.add_typer(rejects_app, name="rejects")
