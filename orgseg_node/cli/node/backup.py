"""``orgseg backup``: back a node up, verify the backup, and restore it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from orgseg_node.cli.console import local_time, out
from orgseg_node.cli.options import Config

if TYPE_CHECKING:
    from orgseg_node.node.operations.backup import Backup

app = typer.Typer(
    name="backup", help="Back a node up, verify the backup, and restore it.", no_args_is_help=True
)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the backup.")]


@app.command()
def create(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder for the backup; it must not exist yet.")
    ],
    config: Config,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy received images even where hard links are possible.")
    ] = False,
) -> None:
    """Back up database, received images, results and configuration of a node, which may be running.

    Images that are accepted after the database was read are not included. The backup contains patient data;
    keep it on another disk.
    """
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415
    from orgseg_node.node.operations.backup import create_backup  # noqa: PLC0415  # quick start of other commands

    _print(create_backup(load_config(config), config, folder.absolute(), copy=copy), folder)


@app.command()
def verify(folder: Folder) -> None:
    """Compare every file of a backup with its hash. The exit code is 1 if any is missing, changed or new."""
    from orgseg_node.node.operations.backup import verify_backup  # noqa: PLC0415  # quick start of other commands

    _print(verify_backup(folder), folder)


@app.command()
def restore(
    folder: Folder,
    data_dir: Annotated[
        Path, typer.Option("--data-dir", help="New data folder; it must be empty or not exist.")
    ],
) -> None:
    """Verify a backup and make a data folder from it. Then set data_dir in node.toml and start the node."""
    from orgseg_node.node.operations.backup import restore_backup  # noqa: PLC0415  # quick start of other commands

    _print(restore_backup(folder, data_dir.absolute()), data_dir)


def _print(backup: Backup, folder: Path) -> None:
    megabytes = backup.size_bytes / 1e6
    out().print(
        f"{escape(str(folder))}: {len(backup.files)} files, {megabytes:.1f} MB,"
        f" of {local_time(backup.created_at)}, configuration {backup.revision}"
    )
