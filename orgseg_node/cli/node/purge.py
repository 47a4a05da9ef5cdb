"""``orgseg purge``: show what retention would delete."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from orgseg_node.cli.console import out, print_json
from orgseg_node.cli.options import Config, Json


def purge(
    config: Config,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only show; required, because the running node deletes by itself."),
    ] = False,
    json: Json = False,
) -> None:
    """Show the delivered jobs whose files the node would delete now, and the files in quarantine.

    Files of a job that was not delivered are never deleted, also if the disk is full.
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
    console.print(f"{len(quarantine)} files in quarantine; the node never deletes them.")


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
