"""``orgseg backup``: keep a copy of a node, and make a node of it again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from orgseg_node.cli.console import out

if TYPE_CHECKING:
    from orgseg_node.node.operations.backup import Backup

app = typer.Typer(name="backup", help="Back a node up, and restore it.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the backup.")]


@app.command()
def create(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that does not exist yet.")],
    config: Annotated[Path, typer.Option("--config", help="The node's configuration, such as node.toml.")],
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy received images where a hard link would do as well.")
    ] = False,
) -> None:
    """Back the node up, which may be running: database, received images, results and configuration.

    What is accepted after the database was read is not in it. It holds patient data; keep it on another disk.
    """
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415
    from orgseg_node.node.operations.backup import create_backup  # noqa: PLC0415  # quick start of other commands

    _tell(create_backup(load_config(config), config, folder.absolute(), copy=copy), folder)


@app.command()
def verify(folder: Folder) -> None:
    """Hold every file of a backup against its hash; exit code 1 if one is missing, changed or too many."""
    from orgseg_node.node.operations.backup import verify_backup  # noqa: PLC0415  # quick start of other commands

    _tell(verify_backup(folder), folder)


@app.command()
def restore(
    folder: Folder,
    data_dir: Annotated[Path, typer.Option("--data-dir", help="A new folder; it must not hold anything.")],
) -> None:
    """Make a data folder from a backup, verified first. Then set data_dir in node.toml and start the node."""
    from orgseg_node.node.operations.backup import restore_backup  # noqa: PLC0415  # quick start of other commands

    _tell(restore_backup(folder, data_dir.absolute()), data_dir)


def _tell(backup: Backup, folder: Path) -> None:
    megabytes = backup.size_bytes / 1e6
    out().print(
        f"{escape(str(folder))}: {len(backup.files)} files, {megabytes:.1f} MB,"
        f" of {backup.created_at:%Y-%m-%d %H:%M:%S} UTC, configuration {backup.revision}"
    )
