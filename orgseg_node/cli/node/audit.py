"""``orgseg audit``: the history of the node, and the proof that it is unchanged."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from typing import Annotated

import typer

from orgseg_node.cli.console import out, print_message
from orgseg_node.cli.options import Config

app = typer.Typer(name="audit", help="Verify and export the history of the node.", no_args_is_help=True)


@app.command()
def verify(
    config: Config,
    expect: Annotated[
        str,
        typer.Option("--expect", help="Head of an earlier verification; the chain must still contain it."),
    ] = "",
) -> None:
    """Verify the hash chain of the history. The exit code is 1 if anything was changed or removed."""
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415
    from orgseg_node.node.store.audit import Audit  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.store.database import Database  # noqa: PLC0415
    from orgseg_node.node.store.store import Store  # noqa: PLC0415

    with closing(Store(Database(load_config(config).database_location, read_only=True))) as store:
        audit = Audit(store.database)
        head, waiting = audit.verify(expect), audit.unsealed()
    console = out()
    console.print(f"{head.link} events are as they were sealed; {waiting} are not sealed yet.")
    console.print(f"head {head}")


@app.command()
def export(config: Config) -> None:
    """Print the history as JSON lines, oldest first, without any patient data."""
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415
    from orgseg_node.node.store.audit import Audit  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.store.database import Database  # noqa: PLC0415
    from orgseg_node.node.store.store import Store  # noqa: PLC0415

    count = 0
    with closing(Store(Database(load_config(config).database_location, read_only=True))) as store:
        for line in Audit(store.database).export():
            sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
    print_message(f"{count} events.")
