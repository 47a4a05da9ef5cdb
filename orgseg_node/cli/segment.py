"""``orgseg segment``: contour a folder with a CT, without any network."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from orgseg_node.cli.console import FAILED, err, out, print_json, progress_bar, tell_findings
from orgseg_node.cli.places import choose_bundles
from orgseg_node.shipped import bundle_folders

if TYPE_CHECKING:
    from orgseg_node.node.pipeline import Outcome


Method = Literal["whole", "chunked"]
Device = Literal["auto", "cpu", "cuda"]


def segment(
    folder: Annotated[
        Path,
        typer.Argument(metavar="CT_DIR", exists=True, file_okay=False, help="Folder with one CT series."),
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT_DIR", file_okay=False, help="Where the files go.")],
    *,
    bundle: Annotated[
        list[str] | None,
        typer.Option("--bundle", help="Model bundle; may be given several times. See 'orgseg models list'."),
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Write a copy of report.json here.")] = None,
    series: Annotated[str | None, typer.Option("--series", help="Series Instance UID, if several.")] = None,
    method: Annotated[Method, typer.Option("--method", help="Whole image, or chunks along z.")] = "whole",
    chunk_mm: Annotated[float, typer.Option("--chunk-mm", min=1, help="Length of a chunk.")] = 300.0,
    overlap_mm: Annotated[float, typer.Option("--overlap-mm", min=0, help="Overlap of chunks.")] = 50.0,
    device: Annotated[Device, typer.Option("--device", help="Where the network runs.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report on stdout.")] = False,
) -> None:
    """Contour a CT: RTSTRUCT.dcm, SEG.dcm, labels.nii.gz, montage.png and report.json.

    The contours are automatic and not reviewed. Exit code 1 when a finding of level error says that the
    objects must not be used without a person's decision.
    """
    from orgseg_node.dicom.series import read_series  # noqa: PLC0415  # heavy imports only when needed
    from orgseg_node.inference.predictor import InferenceSettings  # noqa: PLC0415
    from orgseg_node.node.landing import write_durably  # noqa: PLC0415
    from orgseg_node.node.pipeline import REPORT, Request, job_id_of, run  # noqa: PLC0415
    from orgseg_node.node.predictors import open_bundles, open_predictor  # noqa: PLC0415  # torch is first needed in it

    settings = InferenceSettings(method=method, chunk_mm=chunk_mm, overlap_mm=overlap_mm, device=device)
    ct = read_series(folder, series)
    bundles = open_bundles(choose_bundles(bundle), bundle_folders())
    job_id = job_id_of(ct, tuple(each.identity for each in bundles), settings.method_said)
    request = Request(series=ct, out=target, job_id=job_id, created=_created(target / REPORT, job_id))
    with progress_bar() as tell, contextlib.redirect_stdout(sys.stderr):  # libraries print what they like
        tell(0.0, "loading the network")
        outcome = run(request, open_predictor(bundles, settings), tell)
    if report is not None:
        write_durably(report, outcome.report_path.read_bytes())
    if as_json:
        tell_findings(outcome.findings)
        print_json(outcome.report)
    else:
        print_outcome(outcome)
    if outcome.held:
        raise typer.Exit(FAILED)


def print_outcome(outcome: Outcome) -> None:
    """Organs with volumes on stdout, findings on stderr, and where the files are."""
    tell_findings(outcome.findings)
    table = Table(
        "organ", "key", "volume ml", "slices", title="Automatic, not reviewed", title_justify="left"
    )
    for row in outcome.report["organs"]:
        found = row["voxels"] > 0
        table.add_row(
            row["name"], row["key"], f"{row['volume_ml']:.1f}" if found else "-", str(row["slices"])
        )
    console = out()
    console.print(table)
    for path in (outcome.rtstruct, outcome.seg, outcome.labels, outcome.montage, outcome.report_path):
        console.print(escape(str(path)))
    err().print(f"{outcome.report['method']} on {escape(outcome.report['device'])}")


def _created(report: Path, job_id: str) -> datetime:
    """Now, or when the same job was first run into the same folder: a re-run makes the same objects."""
    try:
        earlier: Mapping[str, Any] = json.loads(report.read_bytes())
        if earlier["job_id"] == job_id:
            return datetime.fromisoformat(earlier["created"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no report, or not one of ours
    return datetime.now().astimezone().replace(microsecond=0)
