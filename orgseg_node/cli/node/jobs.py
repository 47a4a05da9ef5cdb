"""``orgseg jobs``: show the jobs of a node and decide about them, also while it runs."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from orgseg_node.cli.console import out, print_json
from orgseg_node.cli.options import By, Config, Json, Why, attribution, open_store

if TYPE_CHECKING:
    from orgseg_node.node.processing.job_commands import JobCommands
    from orgseg_node.node.store.model import Job
    from orgseg_node.node.store.store import Store

app = typer.Typer(name="jobs", help="Show the jobs of the node, and decide about them.", no_args_is_help=True)

Number = Annotated[str, typer.Argument(metavar="JOB", help="Number of the job, or its first digits.")]


@app.command("list")
def list_jobs(
    config: Config,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Number of jobs, the newest first.")] = 50,
    json: Json = False,
) -> None:
    """List jobs, the newest first, and the series without a job."""
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
    job: Number,
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
    if found.remark:
        console.print(escape(found.remark))
    if found.deaths:
        console.print(f"Processes that ended unexpectedly in it: {found.deaths}")
    for event in events:
        console.print(f"  {event.at:%Y-%m-%d %H:%M:%S} {escape(event.change)} {escape(event.note)}")
    for delivery in deliveries:
        text = f"  {delivery.role} to {delivery.destination}: {delivery.outcome}. {delivery.note}"
        console.print(escape(text.rstrip()))


@app.command()
def dead(config: Config, json: Json = False) -> None:
    """List the dead letters: jobs that failed finally, with reason and next step."""
    from orgseg_node.node.store.model import JobState  # noqa: PLC0415  # quick start of other commands

    with closing(_store(config)) as store:
        jobs = store.jobs(states={JobState.FAILED})
    if json:
        print_json({"jobs": [{**_plain(job), "then": _next_step(job)} for job in jobs]})
        return
    console = out()
    for job in jobs:
        console.print(f"[bold]{job.job_id}[/] {job.reason} {job.updated_at:%Y-%m-%d %H:%M:%S}")
        console.print(f"  {escape(job.note)}")
        console.print(f"  Next step: {escape(_next_step(job))}")
    if not jobs:
        console.print("There is none.")


@app.command()
def retry(job: Number, config: Config, by: By = "", why: Why = "") -> None:
    """Repeat a failed or cancelled job: only the sending if its objects exist, otherwise all of it."""
    with closing(_writing(config)) as store:
        _print(_commands(store).retry(job, attribution(by, why)))


@app.command()
def cancel(job: Number, config: Config, by: By = "", why: Why = "") -> None:
    """Stop a job; objects that were not sent yet are not sent."""
    with closing(_writing(config)) as store:
        done = _commands(store).cancel(job, attribution(by, why))
        deliveries = store.deliveries(done.job_id)
    _print(done)
    for delivery in deliveries:
        out().print(escape(f"  {delivery.role} to {delivery.destination}: {delivery.state.value}"))


@app.command()
def approve(job: Number, config: Config, by: By = "", why: Why = "") -> None:
    """Release a job in REVIEW; the node then sends its objects."""
    with closing(_writing(config)) as store:
        done = _commands(store).approve(job, attribution(by, why))
    out().print(f"{done.job_id} is approved; the node sends it within its next cycle.")


@app.command()
def reject(job: Number, config: Config, by: By = "", why: Why = "") -> None:
    """Reject a job in REVIEW; its objects are not sent."""
    with closing(_writing(config)) as store:
        _print(_commands(store).reject(job, attribution(by, why)))


@app.command()
def resend(
    job: Number,
    config: Config,
    destination: Annotated[
        str,
        typer.Option(
            "--destination", metavar="NAME", help="Send only there; by default to all earlier destinations."
        ),
    ] = "",
    by: By = "",
    why: Why = "",
) -> None:
    """Send the objects of a job again, with the same UIDs."""
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands

    settings = load_config(config)
    with closing(open_store(settings)) as store:
        found = store.job(job)
        before = sorted({delivery.destination for delivery in store.deliveries(found.job_id)})
        names = [destination] if destination else [name for name in before if name in settings.destinations]
        roles = {name: settings.destination(name).roles for name in names}
        _print(_commands(store).resend(found.job_id, attribution(by, why), roles))


def _next_step(job: Job) -> str:
    """The command that continues a failed job."""
    return f"orgseg jobs retry {job.job_id}, when the problem above is solved"


def _print(job: Job) -> None:
    out().print(f"{job.job_id} is {job.state.value}: {escape(job.note)}")


def _commands(store: Store) -> JobCommands:
    from orgseg_node.node.processing.job_commands import JobCommands  # noqa: PLC0415  # quick start of other commands

    return JobCommands(store)


def _writing(config: Path) -> Store:
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands

    return open_store(load_config(config))


def _plain(job: Job) -> dict[str, Any]:
    return {**asdict(job), "state": job.state.value}


def _store(config: Path) -> Store:
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.store.database import Database  # noqa: PLC0415
    from orgseg_node.node.store.store import Store  # noqa: PLC0415

    return Store(Database(load_config(config).database_location, read_only=True))
