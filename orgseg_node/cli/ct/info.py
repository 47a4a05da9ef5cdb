"""``orgseg info``: describe the series in a folder, or why they are refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from orgseg_node.cli.console import COLORS, FAILED, out, print_json
from orgseg_node.cli.options import Json
from orgseg_node.errors import NoSeries, OrgsegError, SeveralPatients

if TYPE_CHECKING:
    from orgseg_node.dicom.reading.series import Inventory


def info(
    folder: Annotated[
        Path, typer.Argument(metavar="CT_DIR", exists=True, file_okay=False, help="Folder with DICOM files.")
    ],
    json: Json = False,
    slices: Annotated[
        bool, typer.Option("--slices", help="Show each slice: position, gap, HU scale.")
    ] = False,
) -> None:
    """Describe each series in a folder, or why it is refused.

    The exit code is 1 if a series is refused or none can be used.
    """
    from orgseg_node.dicom.reading.describe import describe, slice_table  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.dicom.reading.series import choose, files_in, survey  # noqa: PLC0415

    files = files_in(folder)
    if not files:
        raise NoSeries(f"'{folder}' is empty.")
    inventory = survey(files)
    accepted = [describe(one) for one in inventory.accepted]
    if slices:
        accepted = [
            described | {"slice_table": slice_table(one)}
            for described, one in zip(accepted, inventory.accepted, strict=True)
        ]
    document = _document(inventory, accepted)
    if json:
        print_json(document)
    else:
        _print(document)
    if inventory.refused or inventory.patients > 1:
        raise typer.Exit(FAILED)
    if not inventory.accepted:
        choose(inventory)  # raises the reason


def _document(inventory: Inventory, accepted: list[dict[str, Any]]) -> dict[str, Any]:
    refused = [
        {"series_instance_uid": refusal.series_instance_uid, "files": refusal.files, **_error(refusal.error)}
        for refusal in inventory.refused
    ]
    problems = []
    if inventory.patients > 1:
        problems.append(_error(SeveralPatients(f"There are {inventory.patients}.")))
    return {
        "accepted": accepted,
        "refused": refused,
        "set_aside": dict(inventory.set_aside),
        "problems": problems,
    }


def _error(error: OrgsegError) -> dict[str, Any]:
    return {"code": error.code, "sentence": error.sentence, "next_step": error.next_step}


def _print(document: dict[str, Any]) -> None:
    console = out()
    for series in document["accepted"]:
        _print_series(series)
    for refusal in document["refused"]:
        name = refusal["series_instance_uid"] or "a file of no series"
        console.print(f"[red]refused[/] {name} ({refusal['files']} files)")
        _print_error(refusal)
    for problem in document["problems"]:
        console.print("[red]refused[/] the folder as a whole")
        _print_error(problem)
    for reason, count in sorted(document["set_aside"].items()):
        console.print(f"[yellow]set aside[/] {count} files: {escape(reason)}")


def _print_series(series: dict[str, Any]) -> None:
    console = out()
    console.print(f"[green]CT series[/] {series['series_instance_uid']}")
    if series["part"]:
        console.print(f"  part: {escape(series['part'])}")
    row_mm, column_mm = series["pixel_spacing_mm"]
    size = f"{series['slices']} slices of {series['rows']} x {series['columns']} pixels"
    console.print(f"  {size}, {row_mm:g} x {column_mm:g} mm, every {series['slice_spacing_mm']:g} mm")
    if not series["is_regular"]:
        _print_irregular(series)
    console.print(f"  position {series['patient_position'] or 'not given'}", end=", ")
    console.print(f"z from {series['first_slice_z_mm']:g} to {series['last_slice_z_mm']:g} mm")
    console.print(f"  {', '.join(series['transfer_syntaxes'])}")
    for finding in series["findings"]:
        level = finding["level"]
        console.print(f"  [{COLORS[level]}]{level}[/] {finding['code']}: {escape(finding['message'])}")
    if "slice_table" in series:
        _print_slices(series["slice_table"])


def _print_irregular(series: dict[str, Any]) -> None:
    properties = [f"gaps from {series['narrowest_gap_mm']:g} to {series['widest_gap_mm']:g} mm"]
    if series["missing_slices"]:
        properties.append(f"slices missing: {series['missing_slices']}")
    if series["tilt_deg"]:
        properties.append(f"gantry tilt {series['tilt_deg']:g} degrees")
    planes, spacing = series["grid_shape"][0], series["grid_spacing_mm"][0]
    out().print(f"  {', '.join(properties)}; the network sees {planes} planes every {spacing:g} mm")


def _print_slices(slices: list[dict[str, Any]]) -> None:
    """Print one line of plain text for each slice."""
    console = out()
    head = ("slice", "instance", "frame", "height mm", "gap mm", "sideways mm", "HU scale", "notes")
    console.print(_line(head), highlight=False, soft_wrap=True)
    for one in slices:
        across, down = one["sideways_mm"]
        gap = "" if one["gap_mm"] is None else f"{one['gap_mm']:.3f}"
        instance, frame = (("" if one[key] is None else str(one[key])) for key in ("instance", "frame"))
        cells = (
            str(one["slice"]),
            instance,
            frame,
            f"{one['height_mm']:.3f}",
            gap,
            f"{across:.3f} {down:.3f}",
            f"{one['slope']:g} {one['intercept']:+g}",
            "; ".join(one["notes"]),
        )
        console.print(_line(cells), highlight=False, markup=False, soft_wrap=True)


def _line(cells: tuple[str, ...]) -> str:
    *numbers, notes = cells
    widths = (5, 8, 5, 10, 8, 15, 12)
    return f"  {' '.join(f'{cell:>{width}}' for cell, width in zip(numbers, widths, strict=True))}  {notes}"


def _print_error(error: dict[str, Any]) -> None:
    console = out()
    console.print(f"  {error['code']}: {escape(error['sentence'])}")
    console.print(f"  Next step: {escape(error['next_step'])}")
