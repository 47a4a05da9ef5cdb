"""``orgseg jobs``: what the node does and has done, and what a person says about it, also while it runs."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from orgseg_node.cli.console import out, print_json
from orgseg_node.cli.node.persons import By, Config, Json, Why, memory, signed

if TYPE_CHECKING:
    from orgseg_node.node.processing.job_commands import JobCommands
    from orgseg_node.node.store.model import Job
    from orgseg_node.node.store.store import Store

app = typer.Typer(name="jobs", help="See the node's jobs, and decide about them.", no_args_is_help=True)

Number = Annotated[str, typer.Argument(metavar="JOB", help="The job's number, or how it begins.")]


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
        console.print(f"Processes that died over it: {found.deaths}")
    for event in events:
        console.print(f"  {event.at:%Y-%m-%d %H:%M:%S} {escape(event.change)} {escape(event.note)}")
    for delivery in deliveries:
        text = f"  {delivery.role} to {delivery.destination}: {delivery.outcome}. {delivery.note}"
        console.print(escape(text.rstrip()))


@app.command()
def dead(config: Config, json: Json = False) -> None:
    """List the dead letter: jobs that failed for good, why, and what to do."""
    from orgseg_node.node.store.model import JobState  # noqa: PLC0415  # quick start of other commands

    with closing(_store(config)) as store:
        jobs = store.jobs(states={JobState.FAILED})
    if json:
        print_json({"jobs": [{**_plain(job), "then": _then(job)} for job in jobs]})
        return
    console = out()
    for job in jobs:
        console.print(f"[bold]{job.job_id}[/] {job.reason} {job.updated_at:%Y-%m-%d %H:%M:%S}")
        console.print(f"  {escape(job.note)}")
        console.print(f"  Then: {escape(_then(job))}")
    if not jobs:
        console.print("There is none.")


@app.command()
def retry(job: Number, config: Config, by: By = "", why: Why = "") -> None:
    """Start a job again that failed or was cancelled: the sending if it came so far, else all of it."""
    with closing(_writing(config)) as store:
        _tell(_commands(store).retry(job, signed(by, why)))


@app.command()
def cancel(job: Number, config: Config, by: By = "", why: Why = "") -> None:
    """Stop a job; what it has not sent yet is not sent."""
    with closing(_writing(config)) as store:
        done = _commands(store).cancel(job, signed(by, why))
        deliveries = store.deliveries(done.job_id)
    _tell(done)
    for delivery in deliveries:
        out().print(escape(f"  {delivery.role} to {delivery.destination}: {delivery.state.value}"))


@app.command()
def approve(job: Number, config: Config, by: By = "", why: Why = "") -> None:
    """Let a job go that waits in REVIEW; the node sends it at its next look."""
    with closing(_writing(config)) as store:
        done = _commands(store).approve(job, signed(by, why))
    out().print(f"{done.job_id} is approved; the node sends it at its next look.")


@app.command()
def reject(job: Number, config: Config, by: By = "", why: Why = "") -> None:
    """Have nothing sent of a job that waits in REVIEW."""
    with closing(_writing(config)) as store:
        _tell(_commands(store).reject(job, signed(by, why)))


@app.command()
def resend(
    job: Number,
    config: Config,
    destination: Annotated[
        str, typer.Option("--destination", metavar="NAME", help="Only there; else to all it was sent to.")
    ] = "",
    by: By = "",
    why: Why = "",
) -> None:
    """Send the objects of a job once more: the very same, under the same UIDs."""
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands

    settings = load_config(config)
    with closing(memory(settings)) as store:
        found = store.job(job)
        before = sorted({delivery.destination for delivery in store.deliveries(found.job_id)})
        names = [destination] if destination else [name for name in before if name in settings.destinations]
        places = {name: settings.destination(name).roles for name in names}
        _tell(_commands(store).resend(found.job_id, signed(by, why), places))


def _then(job: Job) -> str:
    """The command that goes on with a failed job."""
    return f"orgseg jobs retry {job.job_id}, when what is said above is done"


def _tell(job: Job) -> None:
    out().print(f"{job.job_id} is {job.state.value}: {escape(job.note)}")


def _commands(store: Store) -> JobCommands:
    from orgseg_node.node.processing.job_commands import JobCommands  # noqa: PLC0415  # quick start of other commands

    return JobCommands(store)


def _writing(config: Path) -> Store:
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands

    return memory(load_config(config))


def _plain(job: Job) -> dict[str, Any]:
    return {**asdict(job), "state": job.state.value}


def _store(config: Path) -> Store:
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.store.database import Database  # noqa: PLC0415
    from orgseg_node.node.store.store import Store  # noqa: PLC0415

    return Store(Database(load_config(config).database_location, read_only=True))
