"""``orgseg audit``: the history, and the proof that nobody changed it."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from orgseg_node.cli.console import out, say

app = typer.Typer(name="audit", help="See and verify the node's history.", no_args_is_help=True)

Config = Annotated[Path, typer.Option("--config", help="The node's configuration, such as node.toml.")]


@app.command()
def verify(
    config: Config,
    expect: Annotated[
        str, typer.Option("--expect", help="A head noted earlier; the chain must still go through it.")
    ] = "",
) -> None:
    """Go through the chain of hashes over the history; exit code 1 if anything was changed or removed."""
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
    say(f"{count} events.")
