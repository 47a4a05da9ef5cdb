"""``orgseg series``: show the series of a node and decide about them, also while it runs."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from orgseg_node.cli.console import ListedItem, local_time, out, print_items, print_json
from orgseg_node.cli.options import By, Config, Json, Why, attribution, open_store

if TYPE_CHECKING:
    from orgseg_node.node.store.model import Series
    from orgseg_node.node.store.series_overrides import SeriesOverride

app = typer.Typer(
    name="series", help="Show the series of the node, and decide about them.", no_args_is_help=True
)

Uid = Annotated[
    str, typer.Argument(metavar="SERIES", help="Series Instance UID, or any part that only one series has.")
]


@app.command("list")
def list_series(
    config: Config,
    state: Annotated[
        str,
        typer.Option("--state", help="List only series in this state, such as HOLD.", case_sensitive=False),
    ] = "",
    json: Json = False,
) -> None:
    """List series with their state, the newest last."""
    from orgseg_node.errors import OptionInvalid  # noqa: PLC0415
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.store.model import SeriesState  # noqa: PLC0415
    from orgseg_node.node.store.series_overrides import SeriesOverrides  # noqa: PLC0415

    known = {one.value for one in SeriesState}
    if state and state.upper() not in known:
        raise OptionInvalid(f"--state is one of {', '.join(sorted(known))}.")
    with closing(open_store(load_config(config), read_only=True)) as store:
        found = store.series(state=SeriesState(state.upper()) if state else None)
        orders = SeriesOverrides(store.database).all()
    if json:
        print_json({"series": [_plain(one, orders.get(one.series_uid)) for one in found]})
        return
    items = []
    for one in found:
        order = orders.get(one.series_uid)
        note = f"{one.reason} {one.note}".strip()
        below = [note, f"{order.kind}: {order.note}" if order else ""]
        counts = (str(one.instances), str(one.revision), local_time(one.last_received_at))
        cells = (one.series_uid, one.state.value, *counts)
        items.append(ListedItem(cells=cells, below=[line for line in below if line]))
    print_items(("series", "state", "images", "revision", "last received"), items)


@app.command()
def show(series: Uid, config: Config, json: Json = False) -> None:
    """Show one series: state, answer of its source, jobs and history."""
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415
    from orgseg_node.node.store.series_overrides import SeriesOverrides  # noqa: PLC0415
    from orgseg_node.node.store.source_answers import Answers  # noqa: PLC0415  # quick start of other commands

    with closing(open_store(load_config(config), read_only=True)) as store:
        found = store.find_series(series)
        uid = found.series_uid
        order = SeriesOverrides(store.database).all().get(uid)
        known = Answers(store.database).of(found)
        jobs, events = store.jobs_of(uid), store.events(uid)
    if json:
        print_json(
            {
                "series": _plain(found, order),
                "completeness": asdict(known) if known else None,
                "jobs": [{"job_id": job.job_id, "state": job.state.value} for job in jobs],
                "events": [asdict(event) for event in events],
            }
        )
        return
    console = out()
    console.print(f"[bold]{found.series_uid}[/] {found.state.value}, revision {found.revision}")
    console.print(f"{found.instances} images from {escape(found.calling_ae)}")
    if found.reason or found.note:
        console.print(escape(f"{found.reason} {found.note}".strip()))
    if order:
        console.print(escape(f"{order.kind}: {order.note}"))
    if known:
        console.print(escape(f"source: {known.answer}, {known.note}"))
    for job in jobs:
        console.print(f"job {job.job_id} {job.state.value}, revision {job.revision}")
    for event in events:
        console.print(f"  {local_time(event.at)} {escape(event.change)} {escape(event.note)}")


@app.command()
def force(series: Uid, config: Config, by: By = "", why: Why = "") -> None:
    """Judge a series now, also if slices are missing; its objects state that."""
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.store.series_overrides import SeriesOverrides  # noqa: PLC0415

    with closing(open_store(load_config(config))) as store:
        SeriesOverrides(store.database).force(store.find_series(series).series_uid, attribution(by, why))
    out().print("The node judges it in its next cycle; 'orgseg series show' shows the result.")


@app.command()
def judge(
    config: Config,
    series: Annotated[
        list[str] | None,
        typer.Argument(metavar="SERIES", help="Series Instance UIDs, or parts that only one series has."),
    ] = None,
    reason: Annotated[
        str, typer.Option("--reason", metavar="CODE", help="Every series held for it, such as RULE_HOLD.")
    ] = "",
    by: By = "",
    why: Why = "",
) -> None:
    """Judge series again by the rules, protocols and configuration that are in force now.

    For a series that is held, that a rule ignored, or whose job is in REVIEW, failed or is not sent yet.
    A running node uses a changed file only after 'orgseg node reload'.
    """
    from orgseg_node.errors import OptionInvalid  # noqa: PLC0415
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.intake.judging_again import judge_again  # noqa: PLC0415
    from orgseg_node.node.store.model import SeriesState  # noqa: PLC0415

    if bool(series) == bool(reason):
        raise OptionInvalid("Give series, or --reason.")
    with closing(open_store(load_config(config))) as store:
        held = [one for one in store.series(state=SeriesState.HOLD) if one.reason == reason.upper()]
        uids = [one.series_uid for one in (held if reason else map(store.find_series, series or ()))]
        for uid in uids:
            judge_again(store, uid, attribution(by, why))
    out().print(f"The node judges {len(uids)} series in its next cycle; 'orgseg jobs list' shows the result.")


@app.command()
def choose(
    series: Uid,
    config: Config,
    volume: Annotated[
        str,
        typer.Argument(metavar="[VOLUME]", help="Name or number of the volume; without it they are listed."),
    ] = "",
    by: By = "",
    why: Why = "",
) -> None:
    """Choose the volume to contour of a series held because it has several, such as phases of a 4DCT."""
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415
    from orgseg_node.node.store.series_overrides import SeriesOverrides  # noqa: PLC0415  # quick start of other commands

    with closing(open_store(load_config(config), read_only=not volume)) as store:
        found, overrides = store.find_series(series), SeriesOverrides(store.database)
        if volume:
            done = overrides.choose(found, volume, attribution(by, why))
            out().print(f"The node contours {escape(done.name)}, {done.slices} slices, in its next cycle.")
            return
        volumes = overrides.volumes(found)
    for one in volumes:
        out().print(f"{one.number}: {escape(one.name)}, {one.slices} slices")
    if not volumes:
        out().print("It is not held because it has several volumes.")


@app.command()
def wait(
    series: Uid,
    config: Config,
    minutes: Annotated[
        float, typer.Option("--minutes", min=0, help="Minutes to wait; by default until it is released.")
    ] = 0.0,
    by: By = "",
    why: Why = "",
) -> None:
    """Do not judge a series for some minutes, or until it is released."""
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415
    from orgseg_node.node.store.clock import utc_now  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.store.series_overrides import SeriesOverrides  # noqa: PLC0415

    until = utc_now() + timedelta(minutes=minutes) if minutes else None
    with closing(open_store(load_config(config))) as store:
        uid = store.find_series(series).series_uid
        SeriesOverrides(store.database).wait(uid, attribution(by, why), until)
    out().print(f"It waits {f'until {local_time(until)}' if until else 'until it is released'}.")


@app.command()
def release(series: Uid, config: Config, by: By = "", why: Why = "") -> None:
    """Release a waiting series, which is then judged as usual."""
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.store.series_overrides import SeriesOverrides  # noqa: PLC0415

    with closing(open_store(load_config(config))) as store:
        SeriesOverrides(store.database).release(store.find_series(series).series_uid, attribution(by, why))
    out().print("It is judged when it is stable.")


@app.command()
def settle(
    series: Uid,
    config: Config,
    keep: Annotated[str, typer.Option("--keep", help="Which image is kept: the first or the last received.")],
    by: By = "",
    why: Why = "",
) -> None:
    """Resolve a CONFLICT of images with the same UID: one is kept, the others go to quarantine."""
    from orgseg_node.errors import OptionInvalid  # noqa: PLC0415
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.intake.conflicts import Keep, resolve  # noqa: PLC0415

    if keep not in set(Keep):
        raise OptionInvalid("--keep is first or last.")
    settings = load_config(config)
    with closing(open_store(settings)) as store:
        uid = store.find_series(series).series_uid
        count = resolve(store, settings.node.data_dir, uid, Keep(keep), attribution(by, why))
    out().print(f"{count} files were moved to quarantine; the series is judged again.")


def _plain(series: Series, order: SeriesOverride | None) -> dict[str, Any]:
    return {**asdict(series), "state": series.state.value, "order": asdict(order) if order else None}
