"""``orgseg dossier``: the papers for the approval of the node."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from orgseg_node.cli.console import local_time, out
from orgseg_node.cli.options import Config, open_store
from orgseg_node.errors import OptionInvalid


def dossier(
    config: Config,
    folder: Annotated[Path, typer.Option("--out", file_okay=False, help="New folder for the papers.")],
    results: Annotated[
        Path | None,
        typer.Option(
            "--results", exists=True, dir_okay=False, help="Results of the tests: pytest --junitxml FILE."
        ),
    ] = None,
    commissioning: Annotated[
        Path | None,
        typer.Option(
            "--commissioning", exists=True, file_okay=False, help="Folder of 'orgseg commission site'."
        ),
    ] = None,
) -> None:
    """Write the papers for approval: model cards, gates, commissioning, feedback, risks, versions.

    Everything in them is what this node knows and measured. What only the hospital can say is marked as a
    blank and counted on the first page.
    """
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.dossier.evidence import Evidence, read_commissioning  # noqa: PLC0415
    from orgseg_node.node.dossier.pages import INDEX, dossier_pages, write_dossier  # noqa: PLC0415
    from orgseg_node.node.dossier.risks import read_results  # noqa: PLC0415
    from orgseg_node.node.store.clock import utc_now  # noqa: PLC0415

    if folder.is_dir() and any(folder.iterdir()):
        raise OptionInvalid(f"{folder} is not empty.")
    checked = load_config(config)
    evidence = Evidence(
        tests=read_results(results) if results is not None else None,
        commissioning=read_commissioning(commissioning) if commissioning is not None else {},
    )
    with closing(open_store(checked, read_only=True)) as store:
        pages = dossier_pages(checked, store.database, evidence, local_time(utc_now()))
    write_dossier(pages, folder)
    out().print(f"{len(pages)} files in {folder}; begin with {INDEX}.", markup=False)
