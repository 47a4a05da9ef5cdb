"""``orgseg segment``: contour the CT in a folder, without a DICOM node."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from orgseg_node.cli.bundle_choice import choose_bundles
from orgseg_node.cli.console import FAILED, err, out, print_findings, print_json, progress_bar
from orgseg_node.contouring.cohort_text import describe_cohort
from orgseg_node.shipped import bundle_folders

if TYPE_CHECKING:
    from orgseg_node.contouring.pipeline import Outcome


Method = Annotated[
    Literal["streaming", "whole", "chunked"],
    typer.Option(
        "--method",
        help="streaming: slab by slab, in bounded memory; whole: the same labels by nnU-Net's own predictor; "
        "chunked: in pieces along the body axis, as in the study.",
    ),
]
Backend = Annotated[
    Literal["exact", "fast", "compiled"],
    typer.Option(
        "--backend",
        help="exact: PyTorch; for calibrated bundles fast: OpenVINO on the CPU, compiled: PyTorch's "
        "compiler, for GPUs.",
    ),
]
Budget = Annotated[
    int | None,
    typer.Option(
        "--memory-budget-mb",
        min=1,
        help="Maximum main memory of streaming in MB; by default nearly all that is free.",
    ),
]
Guided = Annotated[
    bool,
    typer.Option(
        "--guided/--no-guided",
        help="Let the guide of a bundle find the organs first, where its calibration allows it.",
    ),
]
Skip = Annotated[
    bool | None,
    typer.Option(
        "--skip-outside-body/--no-skip-outside-body",
        help="Skip the region outside of the patient; by default only if the calibration allows it.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="Number of CPU threads; by default the number of cores."),
]
ProtocolName = Annotated[
    str,
    typer.Option(
        "--protocol",
        metavar="NAME",
        help="Name of a protocol (see 'orgseg protocols list'), or path of a TOML file.",
    ),
]


class Tps(StrEnum):
    """Planning systems; for a repeatable option, typer needs an enumeration."""

    GENERIC = "generic"
    ECLIPSE = "eclipse"
    RAYSTATION = "raystation"
    MONACO = "monaco"
    PINNACLE = "pinnacle"


TpsNames = Annotated[
    list[Tps] | None,
    typer.Option(
        "--tps",
        help="Also write an RTSTRUCT within the limits of this planning system; may be given several times.",
    ),
]
SegStored = Annotated[
    Literal["binary", "labelmap"],
    typer.Option(
        "--seg", help="How SEG.dcm stores the organs; labelmap is smaller, but older archives do not know it."
    ),
]
ChunkMm = Annotated[
    float, typer.Option("--chunk-mm", min=1, help="Length of a chunk in mm, for --method chunked.")
]
OverlapMm = Annotated[
    float, typer.Option("--overlap-mm", min=0, help="Overlap of chunks in mm, for --method chunked.")
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option("--device", help="Device on which the network runs.")
]


def segment(
    folder: Annotated[
        Path,
        typer.Argument(metavar="CT_DIR", exists=True, file_okay=False, help="Folder with one CT series."),
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT_DIR", file_okay=False, help="Folder for the files.")],
    *,
    bundle: Annotated[
        list[str] | None,
        typer.Option("--bundle", help="Model bundle; may be given several times. See 'orgseg models list'."),
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Path for a copy of report.json.")] = None,
    series: Annotated[
        str | None,
        typer.Option("--series", help="Series Instance UID, or a part of it, if there are several series."),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option("--part", help="Name or number of the volume, if the series contains several."),
    ] = None,
    protocol: ProtocolName = "default",
    tps: TpsNames = None,
    seg: SegStored = "binary",
    sr: Annotated[
        bool, typer.Option("--sr", help="Also write a structured report with the volumes.")
    ] = False,
    pdf: Annotated[bool, typer.Option("--pdf", help="Also write a one-page report as DICOM PDF.")] = False,
    method: Method = "streaming",
    backend: Backend = "exact",
    memory_budget_mb: Budget = None,
    skip_outside_body: Skip = None,
    guided: Guided = True,
    threads: Threads = None,
    chunk_mm: ChunkMm = 300.0,
    overlap_mm: OverlapMm = 50.0,
    device: Device = "auto",
    untrained_region: Annotated[
        bool,
        typer.Option(
            "--untrained-region",
            help="Contour also a scan whose region, patient position or kind is not that of the training; "
            "organs may be invented then.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report on stdout.")] = False,
) -> None:
    """Contour a CT: RTSTRUCT.dcm, SEG.dcm, labels.nii.gz, montage.png and report.json.

    The contours are automatic and not reviewed. The exit code is 1 if there is a finding of level error: the
    objects must not be used then without a person's decision.
    """
    from orgseg_node.cli.ct.protocols import load_checked_protocol  # noqa: PLC0415  # heavy imports only when needed
    from orgseg_node.contouring.anatomy_check import AnatomyRules  # noqa: PLC0415
    from orgseg_node.contouring.identity import ResultSettings, derive_job_id  # noqa: PLC0415
    from orgseg_node.contouring.object_roles import PDF, RTSTRUCT, SEG, SR  # noqa: PLC0415
    from orgseg_node.contouring.objects import RequestedObjects  # noqa: PLC0415
    from orgseg_node.contouring.pipeline import REPORT, Request, run  # noqa: PLC0415
    from orgseg_node.contouring.scan_check import ScanRules  # noqa: PLC0415
    from orgseg_node.dicom.objects.seg import SegKind  # noqa: PLC0415
    from orgseg_node.dicom.reading.series import read_series  # noqa: PLC0415
    from orgseg_node.durable import write_durably  # noqa: PLC0415
    from orgseg_node.inference.bundles.bundle import open_bundles  # noqa: PLC0415
    from orgseg_node.inference.bundles.references import open_references  # noqa: PLC0415
    from orgseg_node.inference.loading import open_predictor  # noqa: PLC0415  # torch is first needed in it
    from orgseg_node.inference.predictor import InferenceSettings  # noqa: PLC0415
    from orgseg_node.organ_table import organ_table  # noqa: PLC0415

    settings = InferenceSettings(
        method=method,
        backend=backend,
        memory_budget_mb=memory_budget_mb,
        skip_outside_body=skip_outside_body,
        guided=guided,
        threads=threads,
        chunk_mm=chunk_mm,
        overlap_mm=overlap_mm,
        device=device,
    )
    applied = load_checked_protocol(protocol)
    ct = read_series(folder, series, part)
    bundles = open_bundles(choose_bundles(bundle), bundle_folders())
    result_settings = ResultSettings(
        models=tuple(each.sha256 for each in bundles),
        method=settings.method_description,
        protocol_sha256=applied.sha256,
        seg=seg,
    )
    job_id = derive_job_id(ct.series_instance_uid, ct.content_sha256, result_settings)
    references = open_references([each.manifest.name for each in bundles], bundle_folders())
    optional = [role for role, is_requested in ((SR, sr), (PDF, pdf)) if is_requested]
    request = Request(
        series=ct,
        out=target,
        job_id=job_id,
        created=_created(target / REPORT, job_id),
        organs=organ_table(),
        protocol=applied,
        requested=RequestedObjects(
            roles=(RTSTRUCT, SEG, *optional, *(f"{RTSTRUCT}:{name}" for name in tps or ())),
            profile=applied.profile,
            seg=SegKind(seg.upper()),
        ),
        scans=ScanRules(references=references.scans, released=untrained_region),
        anatomy=AnatomyRules(references=references.anatomy),
    )
    with progress_bar() as on_progress, contextlib.redirect_stdout(sys.stderr):  # libraries print on stdout
        on_progress(0.0, "loading the network")
        predictor = open_predictor(bundles, settings, applied.needed_organs)
        outcome = run(request, predictor, lambda _step, *done: on_progress(*done))
    if report is not None:
        write_durably(report, outcome.report_path.read_bytes())
    if as_json:
        print_findings(outcome.findings)
        print_json(outcome.report)
    else:
        print_outcome(outcome)
    if outcome.held:
        raise typer.Exit(FAILED)


def print_outcome(outcome: Outcome) -> None:
    """Print organs with volumes and the paths of the files on stdout, findings on stderr."""
    print_findings(outcome.findings)
    rows = outcome.report["organs"]
    columns = ["organ", "key", "volume ml", "slices", "check"]
    if any(row["disagreement"] for row in rows):
        columns += ["Dice of folds", "ml of folds"]
    table = Table(*columns, title="Automatic, not reviewed", title_justify="left")
    for row in rows:
        volume = f"{row['volume_ml']:.1f}" if row["voxels"] > 0 else "-"
        cells = [
            row["name"],
            row["key"],
            volume,
            str(row["slices"]),
            checked(row),
            *_folds(row["disagreement"]),
        ]
        table.add_row(*cells[: len(columns)])
    console = out()
    console.print(table)
    for line in describe_cohort(outcome.report):
        console.print(escape(line), soft_wrap=True)
    for path in (*outcome.objects.values(), outcome.labels, outcome.montage, outcome.report_path):
        console.print(escape(str(path)))
    err().print(f"{outcome.report['method']} on {escape(outcome.report['device'])}")


def checked(row: Mapping[str, Any]) -> str:
    """What the checks say of an organ of a report, in the colours of the console."""
    if row.get("left_out"):
        return "[red]left out: implausible[/]"
    grade = row.get("grade")
    return f"[yellow]{grade}: look at it[/]" if grade else ""


def _folds(disagreement: Mapping[str, Any] | None) -> tuple[str, str]:
    """How far the folds of an ensemble agree on an organ: mean Dice, smallest and largest volume."""
    if disagreement is None:
        return "", ""
    low, high = disagreement["volume_min_ml"], disagreement["volume_max_ml"]
    return f"{disagreement['mean_dice']:.3f}", f"{low:.1f} to {high:.1f}"


def _created(report: Path, job_id: str) -> datetime:
    """Time of an earlier run of the same job into the folder, which gives the same objects; otherwise now."""
    try:
        earlier: Mapping[str, Any] = json.loads(report.read_bytes())
        if earlier["job_id"] == job_id:
            return datetime.fromisoformat(earlier["created"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no report, or of another program
    return datetime.now().astimezone().replace(microsecond=0)
