"""``orgseg jobs``: show the jobs of a node and decide about them, also while it runs."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from orgseg_node.cli.console import local_time, out, print_json
from orgseg_node.cli.node.job_list import command_end, delivery_lines, document, print_list, start_of
from orgseg_node.cli.node.result_report import flagged_organs
from orgseg_node.cli.options import By, Config, Json, Why, attribution, open_store, person_of

if TYPE_CHECKING:
    from orgseg_node.node.operations.overview import Identity
    from orgseg_node.node.processing.job_commands import JobCommands
    from orgseg_node.node.store.model import Job
    from orgseg_node.node.store.store import Store

app = typer.Typer(name="jobs", help="Show the jobs of the node, and decide about them.", no_args_is_help=True)

Number = Annotated[
    str, typer.Argument(metavar="JOB", help="Number of the job, or any part that only one job has.")
]


@app.command("list")
def list_jobs(
    config: Config,
    *,
    patient: Annotated[
        str,
        typer.Option("--patient", metavar="TEXT", help="Only with this patient ID, or this in the name."),
    ] = "",
    study: Annotated[
        str,
        typer.Option(
            "--study", metavar="TEXT", help="Only of this accession number, or with this in the study UID."
        ),
    ] = "",
    since: Annotated[
        str,
        typer.Option("--since", metavar="WHEN", help="Only what changed since: 12h, 3d or 2026-11-28."),
    ] = "",
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="Number of lines, besides those that need a person.")
    ] = 50,
    json: Json = False,
) -> None:
    """List jobs, and series that have none or need a person; what needs a person first, then the newest.

    Each has its state in one line, and below it what happened, organs to look at, and the next command.
    Patient and study are looked up in the images that are still here. Descriptions are on a terminal only.
    """
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.operations.overview import identity_of, is_of, overview  # noqa: PLC0415
    from orgseg_node.node.store.clock import utc_now  # noqa: PLC0415

    settings, now = load_config(config), utc_now()
    start = start_of(since, now)
    with closing(open_store(settings, read_only=True)) as store:
        entries = [one for one in overview(settings, store, now) if start is None or one.changed_at >= start]

        @cache
        def identity(series_uid: str) -> Identity | None:
            return identity_of(settings.node.data_dir, store.instances_of(series_uid))

        if patient or study:
            entries = [
                one for one in entries if is_of(identity(one.series.series_uid), patient=patient, study=study)
            ]
        first = [one for one in entries if one.needs_person]
        shown = first + [one for one in entries if not one.needs_person][:limit]
        data_dir = settings.node.data_dir
        flags = {one.job.job_id: flagged_organs(store, data_dir, one.job.job_id) for one in shown if one.job}
        if json:
            print_json(document(shown, flags))
            return
        uids = {one.series.series_uid for one in shown}
        identities = {uid: identity(uid) for uid in uids} if sys.stdout.isatty() else None
        print_list(shown, flags, identities, command_end=command_end(config))


@app.command()
def show(
    job: Number,
    config: Config,
    json: Json = False,
) -> None:
    """Show one job: its state, its history and its deliveries."""
    from orgseg_node.contouring.object_roles import IMAGE  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands

    store = _store(config)
    with closing(store):
        found = store.job(job)
        events, deliveries = store.events(found.job_id), store.deliveries(found.job_id)
        checked = flagged_organs(store, load_config(config).node.data_dir, found.job_id)
    if json:
        print_json(
            {
                "checked": checked,
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
    for name, text in checked.items():
        console.print(f"[yellow]{escape(name)}: {escape(text)}[/]")
    if found.deaths:
        console.print(f"Processes that ended unexpectedly in it: {found.deaths}")
    for event in events:
        if event.note.startswith(IMAGE):  # there are hundreds; the line about their deliveries has them all
            continue
        console.print(f"  {local_time(event.at)} {escape(event.change)} {escape(event.note)}")
    for line in delivery_lines(deliveries):
        console.print(f"  {escape(line)}")


@app.command()
def dead(config: Config, json: Json = False) -> None:
    """List the dead letters: jobs that failed finally, with reason and next step."""
    from orgseg_node.node.store.model import JobState  # noqa: PLC0415  # quick start of other commands

    with closing(_store(config)) as store:
        jobs = store.jobs(states={JobState.FAILED})
        undelivered = {job.job_id: _undelivered(store, job) for job in jobs}
    if json:
        then = [
            {**_plain(job), "undelivered": undelivered[job.job_id], "then": _next_step(job)} for job in jobs
        ]
        print_json({"jobs": then})
        return
    console = out()
    for job in jobs:
        console.print(f"[bold]{job.job_id}[/] {job.reason} {local_time(job.updated_at)}")
        console.print(f"  {escape(job.note)}")
        for line in undelivered[job.job_id]:
            console.print(f"  {escape(line)}")
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
    for line in delivery_lines(deliveries):
        out().print(f"  {escape(line)}")


@app.command()
def approve(job: Number, config: Config, by: By = "", why: Why = "") -> None:
    """Release a job in REVIEW: the node sends its objects, or contours the scan if that was held."""
    from orgseg_node.errors import SCAN_CODES  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415

    settings = load_config(config)
    with closing(open_store(settings)) as store:
        commands = _commands(store)
        done = commands.approve(job, attribution(by, why), person_of(by))
        missing = settings.review.persons - len(commands.approvals(done))
    if missing > 0:
        out().print(f"{done.job_id} is approved by you; {missing} more must approve it before it is sent.")
        return
    then = "contours" if done.reason in SCAN_CODES else "sends"
    out().print(f"{done.job_id} is approved; the node {then} it within its next cycle.")


@app.command("drop-organ")
def drop_organ(
    job: Number,
    organ: Annotated[
        str,
        typer.Argument(metavar="ORGAN", help="Name or key of the organ, or of another structure of the job."),
    ],
    config: Config,
    by: By = "",
    why: Annotated[
        str,
        typer.Option("--why", "--reason", metavar="TEXT", help="Reason; needed, and kept in the history."),
    ] = "",
) -> None:
    """Leave an organ out of a job in REVIEW: its objects are made anew without it and say so.

    What the protocol derives from it is left out, too. The job stays in REVIEW; earlier approvals are void.
    """
    from orgseg_node.errors import OptionInvalid  # noqa: PLC0415
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.review.dropping import OrganDropper  # noqa: PLC0415

    if not why.strip():
        raise OptionInvalid("This command needs a reason: --why TEXT.")
    settings = load_config(config)
    with closing(open_store(settings)) as store:
        dropper = OrganDropper(store, settings.node.data_dir, persons=settings.review.persons)
        done = dropper.drop(job, organ, attribution(by, why))
    out().print(
        f"{done.job.job_id} has new objects without {escape(', '.join(done.names))};"
        " it waits for 'orgseg jobs approve'."
    )


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
    from orgseg_node.contouring.object_roles import CT  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415
    from orgseg_node.node.processing.job_objects import planning_ct  # noqa: PLC0415

    settings = load_config(config)
    with closing(open_store(settings)) as store:
        found = store.job(job)
        before = sorted({delivery.destination for delivery in store.deliveries(found.job_id)})
        names = [destination] if destination else [name for name in before if name in settings.destinations]
        roles = {name: settings.destination(name).roles for name in names}
        images = []
        if found.purged_at is None and any(CT in wanted for wanted in roles.values()):
            written = store.attempts.objects(found.job_id)
            images = planning_ct(store, settings.node.data_dir, found, written)
        _print(_commands(store).resend(found.job_id, attribution(by, why), roles, images))


def _undelivered(store: Store, job: Job) -> list[str]:
    """What could not be delivered, where, and why."""
    return delivery_lines(one for one in store.deliveries(job.job_id) if one.state.value == "FAILED")


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

    return open_store(load_config(config), read_only=True)
