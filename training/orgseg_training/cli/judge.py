"""``orgseg-train site judge`` and ``ratings``: the gate of a candidate, and blinded ratings."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from orgseg_node.contouring.protocol import load_protocol
from orgseg_node.durable import make_folder, write_durably
from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_node.inference.bundles.gate_file import GateVerdict, render_gate
from orgseg_node.inference.predictor import InferenceSettings
from orgseg_node.shipped import bundle_folders
from orgseg_node.signing import read_key
from orgseg_training.cli.bundles import open_named
from orgseg_training.cli.progress import progress_display
from orgseg_training.durable import lock_folder
from orgseg_training.evaluation.delivery import NODE_PROTOCOL
from orgseg_training.gate.next_step import next_step
from orgseg_training.gate.page import render_html, render_pdf
from orgseg_training.gate.rating_sheet import RatedContours, RatingSheet, write_sheet
from orgseg_training.gate.ratings import keep_ratings, kept_ratings, ratings_folder, read_sheet
from orgseg_training.gate.runs import Runner
from orgseg_training.gate.session import GateResult, GateSession, ScanToJudge
from orgseg_training.site.site import Site

SiteFolder = Annotated[Path, typer.Argument(metavar="SITE", help="The site's folder.")]


def judge(
    site: SiteFolder,
    live: Annotated[str, typer.Argument(metavar="LIVE", help="The live bundle: its name or folder.")],
    candidate: Annotated[
        str, typer.Argument(metavar="CANDIDATE", help="The new bundle: its name or folder.")
    ],
    *,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            dir_okay=False,
            help="Your private key of 'orgseg models keygen'; without it nothing is signed.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", file_okay=False, help="Folder of the result; by default SITE/gate."),
    ] = None,
    claim: Annotated[
        list[str] | None,
        typer.Option("--claim", help="Organ that is claimed to be better; may be given several times."),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say how many patients are needed and what would be run.")
    ] = False,
    sheet: Annotated[
        int, typer.Option("--rating-sheet", min=0, help="Also write a blinded rating sheet of so many scans.")
    ] = 0,
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol", help="Protocol of the node, whose tidying is applied first: its name, or its file."
        ),
    ] = NODE_PROTOCOL,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option("--device", help="Device on which the networks run.")
    ] = "auto",
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Number of CPU threads.")] = None,
) -> None:
    """Judge whether a bundle may replace the live one: gate.json, gate.html and gate.pdf.

    Both contour the locked patients, and out of fold the others. It may be interrupted and started again;
    what was contoured is kept. The exit code is 1 unless the verdict is PASS.
    """
    from orgseg_node.inference.loading import load_predictor  # noqa: PLC0415  # torch is first needed here

    opened = Site.open(site)
    if key is not None:
        read_key(key)  # before hours of computing
    session = GateSession(
        site=opened,
        live=open_named(live, opened),
        candidate=open_named(candidate, opened),
        runner=Runner(
            folder=opened.root / "gate" / "runs",
            organs=opened.organs,
            settings=InferenceSettings(device=device, threads=threads),
            protocol=load_protocol(protocol),
            open_networks=lambda bundle, settings: load_predictor(bundle, opened.organs, settings),
        ),
        organs=opened.organs,
        claimed=claim or (),
        protocol_name=Path(protocol).name,
    )
    scans = session.scans()
    missing_runs = session.uncached_runs(scans)
    missing = [key for key in session.live.manifest.organs if key not in session.candidate.manifest.organs]
    if missing:
        typer.echo(f"The candidate lacks {', '.join(missing)}: it will fail.")
    typer.echo(session.power(scans).sentence)
    typer.echo(f"{len(scans)} scans, {missing_runs} of {2 * len(scans)} runs are left.")
    if plan:
        typer.echo(
            "If too few would pass: add patients and lock again, or tune with --folds 5, or with --separate"
            " and fewer organs. Then: the same command without --plan, and with --key."
        )
        return
    make_folder(session.folder)
    with lock_folder(session.folder):
        with progress_display() as display:
            display.stage("scans contoured", 2 * len(scans))
            result = session.run(scans, lambda: datetime.now().astimezone(), lambda _: display.advance())
        folder = out or session.folder
        keys = ratings_folder(session.folder)
        rated = kept_ratings(keys, session.live.sha256, session.candidate.sha256)
        _write(result, folder, key, rated)
        printed = None
        if sheet:
            printed = write_sheet(
                _rated(session, scans[:sheet]),
                session.live.manifest.organs,
                {"live": session.live.identity, "candidate": session.candidate.identity},
                folder,
                keys,
            )
    if rated:
        typer.echo(f"With the ratings of {', '.join(dict.fromkeys(one['sheet'] for one in rated))}.")
    for line in () if printed is None else _sheet_lines(printed, opened.root):
        typer.echo(line)
    _print(result, folder, signed=key is not None)
    typer.echo(
        next_step(
            result.judgement,
            session.candidate.manifest.name,
            folder / "gate.json",
            folder=None if _is_installed(session.candidate) else session.candidate.path,
            signed=key is not None,
        )
    )
    if result.judgement.verdict is not GateVerdict.PASS:
        raise typer.Exit(1)


def ratings(
    site: SiteFolder,
    filled: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="The filled CSV of a rating sheet.")
    ],
) -> None:
    """Read a filled rating sheet back; the next judge of the same two bundles puts it into its gate file."""
    opened = Site.open(site)
    keys = ratings_folder(opened.root / "gate")
    found = read_sheet(keys, filled)
    file = keep_ratings(keys, found)
    typer.echo(f"Sheet {found.sheet}: {found.rated} of {found.rated + len(found.unrated)} lines are rated.")
    if found.unrated:
        typer.echo(f"Left out, because they have no rating: {', '.join(found.unrated)}")
    for one in found.organs:
        if not one.pairs:
            typer.echo(f"{one.organ}: no scan has ratings of both contours")
            continue
        p = "" if math.isnan(one.p) else f", p {one.p:.3f}"
        typer.echo(f"{one.organ}: n {one.pairs}, live {one.live:.2f}, candidate {one.candidate:.2f}{p}")
    for role in ("live", "candidate"):
        of = found.bundles[role]
        typer.echo(f"{role}: {of['name']} version {of['version']}, sha256 {of['sha256']}")
    typer.echo(f"{file}")
    typer.echo(
        f"Then: orgseg-train site judge {opened.root} {found.bundles['live']['name']}"
        f" {found.bundles['candidate']['name']} --key KEY (or their folders); only a gate of exactly these"
        " two bundles takes the ratings over."
    )


def _write(result: GateResult, folder: Path, key: Path | None, rated: list[dict[str, Any]]) -> None:
    """Write page and PDF, and last the gate file: if it is there, all are."""
    content = dict(result.content) | ({"ratings": rated} if rated else {})
    make_folder(folder)
    write_durably(folder / "gate.html", render_html(content))
    write_durably(folder / "gate.pdf", render_pdf(content))
    write_durably(folder / "gate.json", render_gate(content, key))


def _sheet_lines(sheet: RatingSheet, site: Path) -> tuple[str, ...]:
    return (
        f"Rating sheet {sheet.name}: {sheet.page} to print, {sheet.table} to fill in, 1 to 5 for each organ.",
        f"Its key is {sheet.key}: whoever rates must not see it.",
        f"When it is filled in: orgseg-train site ratings {site} {sheet.table}",
    )


def _rated(session: GateSession, scans: tuple[ScanToJudge, ...]) -> list[RatedContours]:
    items = []
    for scan in scans:
        for role in ("live", "candidate"):
            labels, numbers = session.run_of(scan, role).labels(scan.case)
            items.append(RatedContours(case=scan.case, role=role, labels=labels, numbers=numbers))
    return items


def _is_installed(bundle: ModelBundle) -> bool:
    return bundle.path.resolve().parent in {folder.resolve() for folder in bundle_folders()}


def _print(result: GateResult, folder: Path, *, signed: bool) -> None:
    for one in result.judgement.organs:
        low = "too few" if math.isnan(one.dice.low) else f"at least {one.dice.low:+.3f}"
        typer.echo(
            f"{one.organ:24} {one.verdict.value:13} n {one.dice.patients:3}  Dice {one.live_dice:.3f} ->"
            f" {one.candidate_dice:.3f}, {low} (allowed {-one.margins.dice:+.3f})"
        )
    for reason in result.judgement.reasons:
        typer.echo(f"- {reason}")
    typer.echo(f"{folder / 'gate.html'}")
    unsigned = "" if signed else " (not signed: it promotes nothing)"
    typer.echo(f"{result.judgement.verdict.value}{unsigned}")
