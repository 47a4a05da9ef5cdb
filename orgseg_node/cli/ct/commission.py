"""``orgseg commission``: what a planning system does with structure sets, and how good contours are here."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from orgseg_node.cli.bundle_choice import choose_bundles
from orgseg_node.cli.console import FAILED, err, out, print_json, progress_bar
from orgseg_node.cli.ct.segment import Backend, Device, ProtocolName, Skip, Threads
from orgseg_node.shipped import bundle_folders

if TYPE_CHECKING:
    from orgseg_node.commissioning.cases import ClinicalCase
    from orgseg_node.commissioning.results import ScanResult
    from orgseg_node.commissioning.session import Settings
    from orgseg_node.contouring.protocol import Protocol
    from orgseg_node.inference.bundles.bundle import ModelBundle
    from orgseg_node.inference.predictor import InferenceSettings

app = typer.Typer(
    name="commission", help="Commission planning systems and models in a hospital.", no_args_is_help=True
)


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


@app.command()
def site(
    cases: Annotated[
        Path,
        typer.Option(
            "--cases",
            exists=True,
            file_okay=False,
            help="Folder with CT and RTSTRUCT, a folder for each patient.",
        ),
    ],
    folder: Annotated[Path, typer.Option("--out", file_okay=False, help="Folder for the report.")],
    *,
    bundle: Annotated[
        list[str] | None,
        typer.Option("--bundle", help="Model bundle; may be given several times. See 'orgseg models list'."),
    ] = None,
    protocol: ProtocolName = "default",
    locked: Annotated[
        Path | None,
        typer.Option(
            "--locked",
            exists=True,
            dir_okay=False,
            help="lock.json of a site's data set: only its test scans are contoured.",
        ),
    ] = None,
    automatic: Annotated[
        bool,
        typer.Option("--automatic", help="Compare also with ROIs that a program made and nobody approved."),
    ] = False,
    untrained_region: Annotated[
        bool,
        typer.Option(
            "--untrained-region",
            help="Contour also scans whose region, patient position or kind is not that of the training.",
        ),
    ] = False,
    backend: Backend = "exact",
    skip_outside_body: Skip = None,
    threads: Threads = None,
    device: Device = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print the content of the report on stdout.")] = False,
) -> None:
    """Contour own patients as the node does, and compare with their clinical contours, organ by organ.

    Writes commissioning.html, commissioning.pdf, commissioning.json and the contours of each scan. It may be
    interrupted and started again; finished scans are kept. The exit code is 1 if no scan was measured.
    """
    from orgseg_node.cli.ct.protocols import load_checked_protocol  # noqa: PLC0415  # heavy imports only when needed
    from orgseg_node.commissioning.cases import find_cases, locked_scans  # noqa: PLC0415
    from orgseg_node.commissioning.session import Session, report_content, write_report  # noqa: PLC0415
    from orgseg_node.inference.bundles.bundle import open_bundles  # noqa: PLC0415
    from orgseg_node.inference.loading import open_predictor  # noqa: PLC0415  # torch is first needed in it
    from orgseg_node.inference.predictor import InferenceSettings  # noqa: PLC0415

    inference = InferenceSettings(
        backend=backend, skip_outside_body=skip_outside_body, threads=threads, device=device
    )
    applied = load_checked_protocol(protocol)
    bundles = open_bundles(choose_bundles(bundle), bundle_folders())
    settings = _settings(
        bundles, inference, (protocol, applied), automatic=automatic, untrained_region=untrained_region
    )
    only = locked_scans(locked) if locked is not None else None
    found, unusable = find_cases(cases)
    if only is not None:
        found = [case for case in found if case.name in only]
        unusable = [one for one in unusable if one.name in only]
    for one in unusable:
        err().print(f"not used: {one.folder.name}: {one.why}", markup=False)
    session = Session(folder, settings, lambda: open_predictor(bundles, inference, applied.needed_organs))

    def on_scan(case: ClinicalCase, result: ScanResult | None, why: str) -> None:
        done = "compared" if result is not None and result.organs else "nothing could be compared"
        err().print(f"{case.name}: {why or done}", markup=False)

    with progress_bar() as on_progress, contextlib.redirect_stdout(sys.stderr):  # libraries print on stdout
        done = session.run(found, on_scan, on_progress)
    content = report_content(
        settings, found, done, unusable, datetime.now().astimezone().replace(microsecond=0)
    )
    paths = write_report(folder, content, found, unusable)
    if json:
        print_json(content)
    else:
        _print_organs(content)
        for path in paths:
            out().print(escape(str(path)))
    if not content["scans"]["measured"]:
        raise typer.Exit(FAILED)


def _settings(
    bundles: Sequence[ModelBundle],
    inference: InferenceSettings,
    protocol: tuple[str, Protocol],
    *,
    automatic: bool,
    untrained_region: bool,
) -> Settings:
    from orgseg_node.commissioning.session import Settings  # noqa: PLC0415
    from orgseg_node.contouring.anatomy_check import AnatomyRules  # noqa: PLC0415
    from orgseg_node.contouring.scan_check import ScanRules  # noqa: PLC0415
    from orgseg_node.inference.bundles.references import open_references  # noqa: PLC0415
    from orgseg_node.inference.predictor import ModelIdentity  # noqa: PLC0415
    from orgseg_node.organ_table import organ_table  # noqa: PLC0415

    references = open_references([each.manifest.name for each in bundles], bundle_folders())
    return Settings(
        organs=organ_table(),
        protocol_name=protocol[0],
        protocol=protocol[1],
        models=tuple(
            ModelIdentity(
                name=each.manifest.name,
                version=each.manifest.version,
                sha256=each.sha256,
                intended_use=each.manifest.intended_use,
            )
            for each in bundles
        ),
        method=inference.method_description,
        scans=ScanRules(references=references.scans, released=untrained_region),
        anatomy=AnatomyRules(references=references.anatomy),
        automatic=automatic,
    )


def _print_organs(content: Mapping[str, Any]) -> None:
    """Print a line for each organ, with Dice and HD95."""
    console = out()
    scans = content["scans"]
    console.print(f"{scans['measured']} scans of {scans['patients']} patients were compared.")
    for row in content["organs"]:
        dice, distance = row["measures"]["dsc"], row["measures"]["hd95_mm"]
        interval = "" if dice["low"] is None else f" ({dice['low']:.3f} to {dice['high']:.3f})"
        hd95 = "-" if distance["mean"] is None else f"{distance['mean']:.1f} mm"
        console.print(
            f"  {row['organ']:26} n {row['patients']:3}  Dice {dice['mean']:.3f}{interval}  HD95 {hd95}"
            f"  missed {len(row['missed'])}",
            markup=False,
        )
