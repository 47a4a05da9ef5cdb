"""``orgseg commission``: test material that shows what a planning system does with structure sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from orgseg_node.cli.console import out, print_json

app = typer.Typer(name="commission", help="Make test material for commissioning.", no_args_is_help=True)


@app.callback()
def _commission() -> None:
    """Make `tps` a command of this group, although it is the only one."""


@app.command()
def tps(
    folder: Annotated[
        Path, typer.Option("--out", file_okay=False, help="Folder for the material; must be new or empty.")
    ],
    json: Annotated[bool, typer.Option("--json", help="Print the true volumes as JSON on stdout.")] = False,
) -> None:
    """Write a phantom CT, structure sets in each encoding, their true volumes and a sheet to fill in.

    Import them into the planning system once and compare; README.md in the folder describes how.
    """
    from dataclasses import asdict  # noqa: PLC0415  # quick start

    from orgseg_node.dicom.kit.writing import write_kit  # noqa: PLC0415

    if folder.exists() and any(folder.iterdir()):
        raise typer.BadParameter(f"'{folder}' is not empty.", param_hint="--out")
    kit = write_kit(folder)
    if json:
        print_json([asdict(row) for row in kit.volumes])
        return
    console = out()
    console.print(f"[green]written[/] {escape(str(folder))}: {len(kit.ct)} CT slices")
    for path in kit.structure_sets.values():
        console.print(f"  {escape(path.name)}")
    console.print("Next: open README.md there; it describes what to import and what to compare.")
