"""``orgseg models calibrate``: measure on your CTs whether the fast mode of a bundle is accurate enough."""

from __future__ import annotations

import contextlib
import datetime as dt
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from orgseg_node.cli.console import FAILED, err, out, print_message, progress_bar
from orgseg_node.cli.ct.guide import calibrate_guide
from orgseg_node.shipped import bundle_folders

if TYPE_CHECKING:
    from orgseg_node.inference.backends.calibrating import CalibrationResult, Candidate
    from orgseg_node.inference.bundles.calibration import Calibration

PrecisionChoice = Literal["auto", "bf16", "f16", "f32"]


def calibrate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a bundle.")],
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="CT_DIR...",
            exists=True,
            file_okay=False,
            help="Folders of one CT series each; with --guided also data sets in nnU-Net's raw layout, whose "
            "contours count where the Dice alone is too low.",
        ),
    ],
    *,
    precision: Annotated[
        PrecisionChoice,
        typer.Option(
            "--precision", help="Number format of the fast mode; auto: the fastest that is accurate enough."
        ),
    ] = "auto",
    guided: Annotated[
        bool,
        typer.Option("--guided", help="Measure runs with the bundle's guide against runs without instead."),
    ] = False,
    backend: Annotated[
        Literal["exact", "fast", "compiled"] | None,
        typer.Option(
            "--backend",
            help="What may run the bundle afterwards: fast (OpenVINO on the CPU) or compiled (PyTorch's "
            "compiler, for GPUs). With --guided exact or fast: what both runs use. Default: fast; with "
            "--guided exact.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option("--device", help="With --backend compiled: the device that it counts for."),
    ] = "auto",
    margin_mm: Annotated[
        float,
        typer.Option(
            "--margin-mm", min=0, max=1000, help="With --guided: margin around the organ of the guide, in mm."
        ),
    ] = 5.0,
    layout: Annotated[
        Literal["auto", "few", "once", "nnunet"],
        typer.Option(
            "--layout", help="With --guided: how tiles are laid; auto: the cheapest that is accurate enough."
        ),
    ] = "auto",
    sparse: Annotated[
        bool,
        typer.Option(
            "--sparse/--no-sparse",
            help="With --guided: a network that must search the whole CT does so with few tiles first, and "
            "again only around what they show; where the guide led to other organs, only what it suspects is "
            "searched.",
        ),
    ] = True,
) -> None:
    """Compare the fast mode with the exact mode on your CTs, and allow it if every organ agrees.

    With --guided: compare runs in which the guide finds the organs first with runs on the whole CT. The
    result is written into the bundle's manifest, which changes the bundle's hash. If it is not accurate
    enough, nothing is written and the exit code is 1.
    """
    if guided:
        if backend == "compiled":
            raise typer.BadParameter("--guided takes --backend exact or fast")
        calibrate_guide(
            name, folders, backend=backend or "exact", margin_mm=margin_mm, layout=layout, sparse=sparse
        )
        return
    if backend == "exact":
        raise typer.BadParameter("--backend exact needs no calibration, except with --guided")
    mode = backend or "fast"
    from orgseg_node.dicom.reading.reader import read_volume  # noqa: PLC0415
    from orgseg_node.dicom.reading.series import read_series  # noqa: PLC0415
    from orgseg_node.inference.backends.calibrating import measure_agreement, open_mode_predictors  # noqa: PLC0415
    from orgseg_node.inference.bundles.bundle import find_bundle  # noqa: PLC0415
    from orgseg_node.inference.bundles.calibration import Precision  # noqa: PLC0415
    from orgseg_node.inference.bundles.writing import replace_calibration, require_writable  # noqa: PLC0415
    from orgseg_node.organ_table import organ_table  # noqa: PLC0415  # heavy imports only when needed

    bundle = find_bundle(name, bundle_folders())
    require_writable(bundle)
    series = [read_series(folder) for folder in folders]
    chosen = None if precision == "auto" else Precision(precision)
    with progress_bar() as on_progress, contextlib.redirect_stdout(sys.stderr):  # libraries print on stdout
        modes = open_mode_predictors(bundle, organ_table(), chosen, mode, device)
        volumes = (read_volume(each) for each in series)
        measured = measure_agreement(modes, volumes, dt.datetime.now().astimezone().date(), on_progress)
    _print(measured)
    accepted = measured.accepted
    if accepted is None:
        for each in measured.candidates:
            short = "; ".join(each.calibration.shortcomings)
            err().print(f"[red]not accepted[/] in {each.calibration.precision}: {escape(short)}")
        print_message(f"'{name}' is unchanged.")
        raise typer.Exit(FAILED)
    changed = replace_calibration(bundle, accepted.calibration)
    out().print(
        f"[green]accepted[/] {escape(name)} may run {mode}, in {accepted.calibration.precision}; "
        f"its hash is now {changed.sha256}"
    )


def _print(measured: CalibrationResult) -> None:
    """Print a row for each organ with the agreement in each precision, then times and limits."""
    first = measured.candidates[0].calibration
    count = len(first.references)
    table = Table(
        "organ",
        "found on",
        *(column for each in measured.candidates for column in _columns(each)),
        title=f"Against the exact mode: {first.software} {first.version}, {count} CT(s)",
        title_justify="left",
    )
    for key, organ in first.organs.items():
        cells = []
        for each in measured.candidates:
            cells += [f"{each.calibration.organs[key].dice:.6f}", str(each.differing[key])]
        table.add_row(key, f"{organ.found_on} of {count}", *cells)
    console = out()
    console.print(table)
    console.print(f"network, exact: {measured.network_s:.1f} s")
    for each in measured.candidates:
        ratio = each.network_s / max(measured.network_s, 1e-9)
        console.print(
            f"network, {each.calibration.precision}: {each.network_s:.1f} s, {ratio:.3f} of the exact time"
        )
    _print_limits(first)


def _columns(candidate: Candidate) -> tuple[str, str]:
    precision = candidate.calibration.precision
    return f"Dice {precision}", f"voxels that differ {precision}"


def _print_limits(calibration: Calibration) -> None:
    if calibration.never_found:
        absent = ", ".join(calibration.never_found)
        err().print(f"[yellow]not proven[/] none of these CTs shows: {escape(absent)}")
    outside = [f"{key} {o.outside_ml:.3g} ml" for key, o in calibration.organs.items() if o.outside_ml]
    if outside:
        print_message(f"Found outside of the patient: {', '.join(outside)}; this region will not be skipped.")
    else:
        print_message("No organ was found outside of the patient; this region may be skipped.")
