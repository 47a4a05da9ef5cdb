"""``orgseg purge``: what retention would delete."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from orgseg_node.cli.console import out, print_json


def purge(
    config: Annotated[Path, typer.Option("--config", help="The node's configuration, such as node.toml.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell; needed, for the running node deletes by itself.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Tell which delivered jobs the node would delete the files of now, and what is kept in quarantine.

    Nothing that was not delivered is ever deleted, however full the disk is.
    """
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415
    from orgseg_node.node.processing.retention import to_purge  # noqa: PLC0415
    from orgseg_node.node.store.clock import utc_now  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.store.data_folder import (  # noqa: PLC0415
        INBOX,
        JOBS,
        QUARANTINE,
    )
    from orgseg_node.node.store.database import Database  # noqa: PLC0415
    from orgseg_node.node.store.store import Store  # noqa: PLC0415

    if not dry_run:
        raise typer.BadParameter("The running node deletes by itself, once an hour; use --dry-run.")
    checked = load_config(config)
    data = checked.node.data_dir
    with closing(Store(Database(checked.database_location, read_only=True))) as store:
        jobs = to_purge(store, checked, utc_now())
    sizes = {
        job.job_id: _bytes(data / INBOX / job.series_uid) + _bytes(data / JOBS / job.job_id) for job in jobs
    }
    quarantine = [p for p in (data / QUARANTINE).glob("*") if p.is_file()]
    if json:
        kept = {"files": len(quarantine), "bytes": sum(p.stat().st_size for p in quarantine)}
        print_json({"retention_days": checked.retention.days, "jobs": sizes, "quarantine": kept})
        return
    console = out()
    for job_id, size in sizes.items():
        console.print(f"{job_id} {size / 1e6:.1f} MB")
    console.print(
        f"{len(jobs)} jobs, {sum(sizes.values()) / 1e6:.1f} MB; retention is {checked.retention.days:g} days."
    )
    console.print(f"{len(quarantine)} files in quarantine; they are never deleted by the node.")


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
