"""``orgseg models guide``, and ``orgseg models calibrate --guided``."""

from __future__ import annotations

import contextlib
import datetime as dt
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from orgseg_node.cli.console import FAILED, err, out, print_message, progress_bar
from orgseg_node.shipped import bundle_folders

if TYPE_CHECKING:
    from orgseg_node.inference.backends.guided_calibrating import (
        GuidedCandidate,
        GuidedResult,
        ReferenceCase,
    )


_SUSPICIONS = (0.05, 0.01)  # the lower one is measured where an organ is missed with the higher one


def guide(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a bundle.")],
    guide_name: Annotated[
        str, typer.Argument(metavar="GUIDE", help="Name of a bundle that finds the same organs.")
    ],
    *,
    step: Annotated[
        float,
        typer.Option(
            "--step",
            min=0.1,
            max=1.0,
            help="Step of the guide's tiles as a fraction of a tile; 1 is fastest.",
        ),
    ] = 1.0,
) -> None:
    """Give a bundle a guide: networks that find the organs first, so that its own search only there.

    The networks of GUIDE are copied into the bundle, which changes the bundle's hash. The guide is not used
    before 'orgseg models calibrate NAME CT_DIR... --guided' accepted it.
    """
    from orgseg_node.inference.bundles.bundle import find_bundle  # noqa: PLC0415
    from orgseg_node.inference.guide import attach_guide  # noqa: PLC0415  # heavy imports only when needed

    folders = bundle_folders()
    bundle = attach_guide(find_bundle(name, folders), find_bundle(guide_name, folders), step)
    out().print(f"[green]guide copied[/] into {escape(name)}; its hash is now {bundle.sha256}")
    missing = sorted(
        set(bundle.manifest.organs) - set(bundle.manifest.guide.organs if bundle.manifest.guide else ())
    )
    if missing:
        err().print(f"[yellow]not found by the guide[/] {escape(', '.join(missing))}")
    print_message(f"Next: orgseg models calibrate {name} CT_DIR... --guided")


def calibrate_guide(
    name: str, folders: Sequence[Path], *, backend: str, margin_mm: float, layout: str, sparse: bool
) -> None:
    """Measure runs of a bundle with its guide against runs without, and allow them if every organ agrees.

    Parameters
    ----------
    name : of the bundle
    folders : of one CT series each, or of a data set in nnU-Net's raw layout
    backend : ``exact`` or ``fast``
    margin_mm : margin around the organ of the guide
    layout : how tiles are laid; ``auto`` for the cheapest way that is accurate enough
    sparse : whether networks that must search the whole CT do so with few tiles first
    """
    from orgseg_node.inference.backends.guided_calibrating import (  # noqa: PLC0415
        measure_guided,
        open_guided_predictors,
    )
    from orgseg_node.inference.bundles.bundle import find_bundle  # noqa: PLC0415
    from orgseg_node.inference.bundles.writing import require_writable  # noqa: PLC0415
    from orgseg_node.inference.engine.layout import Layout  # noqa: PLC0415
    from orgseg_node.inference.guide import allow_guide  # noqa: PLC0415
    from orgseg_node.organ_table import organ_table  # noqa: PLC0415  # heavy imports only when needed

    bundle = find_bundle(name, bundle_folders())
    require_writable(bundle)
    layouts = list(Layout) if layout == "auto" else [Layout(layout)]
    for suspicion in _SUSPICIONS if sparse else (None,):
        with progress_bar() as on_progress, contextlib.redirect_stdout(sys.stderr):  # libraries print
            runs = open_guided_predictors(
                bundle, organ_table(), backend, margin_mm, layouts, sparse=sparse, suspicion=suspicion
            )
            today = dt.datetime.now().astimezone().date()
            measured = measure_guided(runs, _cases(folders), today, on_progress)
        _print(measured)
        if not measured.missed:
            break
    accepted = measured.accepted
    if accepted is None:
        for each in measured.candidates:
            short = "; ".join(each.calibration.shortcomings)
            err().print(f"[red]not accepted[/] with {each.calibration.describe()}: {escape(short)}")
        print_message(f"'{name}' is unchanged.")
        raise typer.Exit(FAILED)
    changed = allow_guide(bundle, accepted.calibration)
    out().print(
        f"[green]accepted[/] {escape(name)} may run guided, with {accepted.calibration.describe()}, "
        f"backend {backend}; its hash is now {changed.sha256}"
    )


def _cases(folders: Sequence[Path]) -> Iterator[ReferenceCase]:
    """The CTs of the folders; those of a data set in nnU-Net's raw layout with their contours."""
    from orgseg_node.dicom.reading.reader import read_volume  # noqa: PLC0415
    from orgseg_node.dicom.reading.series import read_series  # noqa: PLC0415
    from orgseg_node.inference.backends.guided_calibrating import ReferenceCase  # noqa: PLC0415
    from orgseg_node.inference.bundles.nnunet_cases import open_case_folder  # noqa: PLC0415
    from orgseg_node.organ_table import organ_table  # noqa: PLC0415

    for folder in folders:
        if (folder / "dataset.json").is_file():
            for case in open_case_folder(folder, {}, organ_table()).cases():
                yield ReferenceCase(ct=case.volume, contours=case.masks)
        else:
            yield ReferenceCase(ct=read_volume(read_series(folder)))


def _print(measured: GuidedResult) -> None:
    """Print a row for each organ with the agreement for each layout, then times."""
    first = measured.candidates[0].calibration
    count = len(first.references)
    table = Table(
        "organ",
        "found on",
        "missed on",
        *(column for each in measured.candidates for column in _columns(each)),
        title=f"Guided against unguided ({first.backend}), {count} CT(s)",
        title_justify="left",
    )
    for key, organ in first.organs.items():
        cells = []
        for each in measured.candidates:
            row = each.calibration.organs[key]
            cells += [f"{row.dice:.4f}", f"{row.whole_on} of {count}"]
        table.add_row(key, f"{organ.found_on} of {count}", str(organ.missed_on), *cells)
    console = out()
    console.print(table)
    console.print(f"unguided: {measured.predict_s:.1f} s")
    for each in measured.candidates:
        ratio = each.predict_s / max(measured.predict_s, 1e-9)
        console.print(
            f"guided, tiles {each.calibration.layout}: {each.predict_s:.1f} s, {ratio:.3f} of the unguided "
            f"time, {each.tiles:.3f} of its tiles, {each.differing} voxels differ"
        )
    for each in measured.candidates:
        for key, organ in each.calibration.organs.items():
            if (found := organ.contours) is not None:
                console.print(
                    f"against contours, tiles {each.calibration.layout}, {key}: Dice {found.unguided:.4f} "
                    f"unguided, {found.guided:.4f} guided, difference above {found.lower:.4f} "
                    f"({found.cts} CTs)"
                )
    if first.never_found:
        absent = ", ".join(first.never_found)
        err().print(f"[yellow]not proven[/] none of these CTs shows: {escape(absent)}")


def _columns(candidate: GuidedCandidate) -> tuple[str, str]:
    return f"Dice {candidate.calibration.layout}", f"whole CT {candidate.calibration.layout}"
