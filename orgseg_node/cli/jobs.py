"""``orgseg jobs``: what the node has done and is doing; it only reads, so the node may be running."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from orgseg_node.cli.console import out, print_json

if TYPE_CHECKING:
    from orgseg_node.node.jobs import Job
    from orgseg_node.node.store import Store

app = typer.Typer(name="jobs", help="See the node's jobs.", no_args_is_help=True)

Config = Annotated[Path, typer.Option("--config", help="The node's configuration, such as node.toml.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


@app.command("list")
def list_jobs(
    config: Config,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, the newest first.")] = 50,
    json: Json = False,
) -> None:
    """List jobs, the newest first, and the series that wait or are held."""
    store = _store(config)
    with closing(store):
        jobs = store.jobs(limit=limit)
        with_job = {job.series_uid for job in jobs}
        others = [series for series in store.series() if series.series_uid not in with_job]
    if json:
        print_json({"jobs": [_plain(job) for job in jobs], "series": [asdict(series) for series in others]})
        return
    table = Table("job", "state", "done", "slices", "created", "note")
    for job in jobs:
        created = f"{job.created_at:%Y-%m-%d %H:%M:%S}"
        done = f"{job.progress:.0%}"
        table.add_row(
            job.job_id, job.state.value, done, str(job.slices), created, escape(job.stage or job.note)
        )
    console = out()
    console.print(table)
    for series in others:
        why = escape(f"{series.reason} {series.note}".strip())
        console.print(f"{series.state.value} series {series.series_uid}: {series.instances} images. {why}")


@app.command()
def show(
    job: Annotated[str, typer.Argument(metavar="JOB", help="The job's number, or how it begins.")],
    config: Config,
    json: Json = False,
) -> None:
    """Show one job: its state, its history and its deliveries."""
    store = _store(config)
    with closing(store):
        found = store.job(job)
        events, deliveries = store.events(found.job_id), store.deliveries(found.job_id)
    if json:
        print_json(
            {
                "job": _plain(found),
                "events": [asdict(event) for event in events],
                "deliveries": [{**asdict(one), "outcome": one.outcome} for one in deliveries],
            }
        )
        return
    console = out()
    console.print(f"[bold]{found.job_id}[/] {found.state.value} {found.progress:.0%} {escape(found.stage)}")
    console.print(f"series {found.series_uid}, {found.slices} slices, bundles {', '.join(found.bundles)}")
    if found.reason:
        console.print(f"{found.reason}: {escape(found.note)}")
    for event in events:
        console.print(f"  {event.at:%Y-%m-%d %H:%M:%S} {escape(event.change)} {escape(event.note)}")
    for delivery in deliveries:
        text = f"  {delivery.role} to {delivery.destination}: {delivery.outcome}. {delivery.note}"
        console.print(escape(text.rstrip()))


def _plain(job: Job) -> dict[str, Any]:
    return {**asdict(job), "state": job.state.value}


def _store(config: Path) -> Store:
    from orgseg_node.node.config import load_config  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.store import Store  # noqa: PLC0415

    return Store(load_config(config).node.data_dir, read_only=True)
