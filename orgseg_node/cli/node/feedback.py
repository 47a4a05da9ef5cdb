"""``orgseg feedback``: structure sets that came back, and how they differ from what was delivered."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from contextlib import closing
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orgseg_node.cli.console import ListedItem, local_time, out, print_items, print_json, print_message
from orgseg_node.cli.options import By, Config, Json, Why, attribution, open_store

if TYPE_CHECKING:
    from orgseg_node.node.feedback.charts import OrganChart
    from orgseg_node.node.feedback.model import Feedback, OrganFeedback

app = typer.Typer(
    name="feedback", help="Structure sets that came back from the planning system.", no_args_is_help=True
)

Number = Annotated[int, typer.Argument(metavar="NUMBER", min=1, help="Number in 'orgseg feedback list'.")]

_COLUMNS = ("number", "state", "job", "sender", "received")
_ORGAN_COLUMNS = ("organ", "ROI", "outcome", "Dice", "sDice 2mm", "HD95 mm", "APL mm", "ml", "slices edited")


@app.callback()
def _group() -> None:
    pass


@app.command("list")
def list_feedback(
    config: Config,
    job: Annotated[str, typer.Option("--job", help="Only of this job.")] = "",
    json: Json = False,
) -> None:
    """List what came back, the newest first, with the state in which each structure set ended."""
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.feedback.model import SENTENCES  # noqa: PLC0415
    from orgseg_node.node.feedback.rows import FeedbackRows  # noqa: PLC0415

    with closing(open_store(load_config(config), read_only=True)) as store:
        found = FeedbackRows(store.database).all(job_id=store.job(job).job_id if job else "")
    if json:
        print_json({"feedback": [asdict(one) for one in found]})
        return
    items = [
        ListedItem(cells=_row(one), below=[f"{SENTENCES[one.state]} {one.note}".strip()])
        for one in reversed(found)
    ]
    print_items(_COLUMNS, items)
    counts = Counter(one.state.value for one in found)
    text = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    out().print(f"{len(found)} structure sets came back{f': {text}' if text else ''}.")


@app.command()
def show(number: Number, config: Config, json: Json = False) -> None:
    """Show one structure set that came back: each organ with its measures, and every ROI without a match."""
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415
    from orgseg_node.node.feedback.model import SENTENCES  # noqa: PLC0415
    from orgseg_node.node.feedback.rows import FeedbackRows  # noqa: PLC0415

    with closing(open_store(load_config(config), read_only=True)) as store:
        rows = FeedbackRows(store.database)
        feedback, organs = rows.one(number), rows.organs(number)
    if json:
        print_json({**asdict(feedback), "organs": [asdict(organ) for organ in organs]})
        return
    console = out()
    console.print(
        f"{number}: {feedback.state}. {SENTENCES[feedback.state]} {feedback.note}".strip(), markup=False
    )
    if feedback.job_id:
        console.print(f"Compared with {feedback.role or 'nothing'} of job {feedback.job_id}.", markup=False)
    items = [
        ListedItem(cells=_organ_row(organ), below=[organ.note] if organ.note else []) for organ in organs
    ]
    print_items(_ORGAN_COLUMNS, items)


@app.command()
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="RTSTRUCT file.")],
    config: Config,
) -> None:
    """Take a structure set from a file, as if the planning system had sent it, and measure it."""
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415
    from orgseg_node.node.feedback.desk import FeedbackDesk  # noqa: PLC0415
    from orgseg_node.node.feedback.model import SENTENCES  # noqa: PLC0415

    checked = load_config(config)
    with closing(open_store(checked)) as store, FeedbackDesk(checked, store) as desk:
        number = desk.add_file(file)
        if number is None:
            print_message("This structure set came back before; nothing was changed.")
            return
        desk.work()
        feedback = desk.rows.one(number)
    out().print(
        f"{number}: {feedback.state}. {SENTENCES[feedback.state]} {feedback.note}".strip(), markup=False
    )


@app.command()
def again(
    number: Number,
    config: Config,
    job: Annotated[
        str, typer.Option("--job", help="The job whose contours it comes from, if that is not certain.")
    ] = "",
    by: By = "",
    why: Why = "",
) -> None:
    """Have a structure set looked at and measured again, for example after its CT was contoured."""
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415
    from orgseg_node.node.feedback.desk import FeedbackDesk  # noqa: PLC0415
    from orgseg_node.node.feedback.model import SENTENCES  # noqa: PLC0415

    checked = load_config(config)
    with closing(open_store(checked)) as store, FeedbackDesk(checked, store) as desk:
        job_id = store.job(job).job_id if job else ""
        desk.rows.again(number, attribution(by, why), job_id=job_id)
        desk.work()
        feedback = desk.rows.one(number)
    out().print(
        f"{number}: {feedback.state}. {SENTENCES[feedback.state]} {feedback.note}".strip(), markup=False
    )


@app.command()
def export(config: Config) -> None:
    """Print a line for each organ of each structure set that came back, as CSV, without patient data."""
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415
    from orgseg_node.node.feedback.model import OrganFeedback  # noqa: PLC0415
    from orgseg_node.node.feedback.rows import FeedbackRows  # noqa: PLC0415

    with closing(open_store(load_config(config), read_only=True)) as store:
        rows = FeedbackRows(store.database)
        sets = rows.all()
        organs = {one.number: rows.organs(one.number) for one in sets}
    names = [field.name for field in fields(OrganFeedback) if field.name not in {"roi", "note"}]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*names, "state", "job_id", "planner", "received_at"])
    for one in sets:
        for organ in organs[one.number]:
            values: dict[str, Any] = asdict(organ)
            plain = ["" if values[name] == -1.0 else values[name] for name in names]
            writer.writerow([*plain, one.state, one.job_id, one.planner, one.received_at.isoformat()])


@app.command("training-source")
def training_source(
    config: Config,
    folder: Annotated[Path, typer.Option("--out", file_okay=False, help="New folder for CT and RTSTRUCT.")],
    *,
    unchanged: Annotated[
        bool,
        typer.Option(
            "--with-unchanged", help="Take organs that nobody edited, too; feedback.csv says so of each."
        ),
    ] = False,
) -> None:
    """Write the CT and RTSTRUCT of every structure set that counts, for the site's data set.

    Organs that nobody edited are left out: they are the model's own contours and no independent truth.
    """
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415
    from orgseg_node.node.feedback.training_source import write_training_source  # noqa: PLC0415

    checked = load_config(config)
    with closing(open_store(checked, read_only=True)) as store:
        done = write_training_source(store, checked.node.data_dir, folder, with_unchanged=unchanged)
    console = out()
    console.print(f"{len(done.cases)} cases in {folder}, a folder for each.", markup=False)
    if unchanged:
        console.print("Organs that nobody edited are among them: they are no independent truth.")
    else:
        console.print(f"{done.unchanged} organs that nobody edited were left out.")
    for numbers, why in (
        (done.without_ct, "their CT is deleted already"),
        (done.nothing_edited, "no organ was edited or added"),
    ):
        if numbers:
            console.print(f"Left out, as {why}: {', '.join(map(str, numbers))}.", markup=False)


@app.command("charts")
def show_charts(
    config: Config,
    organ: Annotated[str, typer.Option("--organ", help="Key of one organ, such as parotid_left.")] = "",
    folder: Annotated[
        Path | None, typer.Option("--out", file_okay=False, help="Folder for a picture of each chart.")
    ] = None,
    json: Json = False,
) -> None:
    """Show the control chart of each organ, measure and model in one line; '!' marks alarms."""
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415
    from orgseg_node.node.feedback.charts import charts  # noqa: PLC0415

    checked = load_config(config)
    with closing(open_store(checked, read_only=True)) as store:
        found = charts(store.database, checked.feedback, organ=organ)
    if folder is not None:
        from orgseg_node.durable import make_folder, write_durably  # noqa: PLC0415
        from orgseg_node.node.feedback.pictures import draw_chart, picture_name  # noqa: PLC0415

        make_folder(folder)
        for one in found:
            write_durably(folder / picture_name(one), draw_chart(one))
    if json:
        print_json({"charts": [asdict(one) for one in found]})
        return
    print_items(
        ("organ", "measure", "cases", "limits (3 sigma)", "last 10", "alarms", "warnings", "model"),
        [ListedItem(cells=_chart_row(one), is_marked=bool(one.chart.alarms)) for one in found],
    )
    if folder is not None:
        out().print(f"{len(found)} pictures in {folder}.", markup=False)


@app.command()
def planners(config: Config, json: Json = False) -> None:
    """Show how much each person edits each organ; '!' marks where that fades with time.

    Persons are numbers, which only this node can make from a name.
    """
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415
    from orgseg_node.node.feedback.planners import planner_edits  # noqa: PLC0415

    with closing(open_store(load_config(config), read_only=True)) as store:
        found = planner_edits(store.database)
    if json:
        print_json({"planners": [asdict(one) for one in found]})
        return
    items = []
    for one in found:
        means = one.fading.moving_mean
        moved = f"{means[0]:.0%} -> {means[-1]:.0%}" if means else "too few cases"
        cells = (one.planner, one.organ, str(len(one.edits)), moved)
        items.append(ListedItem(cells=cells, is_marked=one.fading.is_fading))
    print_items(("person", "organ", "cases", "slices edited, first and last 10 cases"), items)


def _chart_row(one: OrganChart) -> tuple[str, ...]:
    chart = one.chart
    limits = chart.limits
    band = "too few cases"
    if limits is not None:
        low, high = limits.band(3.0)
        band = f"{low:.3g} to {high:.3g}{', provisional' if limits.is_provisional else ''}"
    last = chart.values[-10:]
    warnings = len(chart.signals) - len(chart.alarms)
    return (
        one.organ, one.measure, str(len(chart.values)), band, f"{sum(last) / len(last):.3g}",
        str(len(chart.alarms)), str(warnings), one.model,
    )  # fmt: skip


def _row(one: Feedback) -> tuple[str, ...]:
    return (
        str(one.number),
        one.state.value,
        one.job_id or "-",
        one.sender,
        local_time(one.received_at),
    )


def _organ_row(organ: OrganFeedback) -> tuple[str, ...]:
    measures = (organ.dice, organ.surface_dice_2mm, organ.hd95_mm, organ.added_path_mm)
    digits = (3, 3, 1, 0)
    values = [f"{value:.{n}f}" if value >= 0 else "-" for value, n in zip(measures, digits, strict=True)]
    volumes = f"{organ.delivered_ml:.1f} -> {organ.approved_ml:.1f}" if organ.is_measured else "-"
    edited = f"{organ.slices_edited:.0%}" if organ.slices_edited >= 0 else "-"
    return (organ.organ or "-", organ.roi, organ.outcome, *values, volumes, edited)
