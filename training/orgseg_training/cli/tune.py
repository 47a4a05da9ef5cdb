"""``orgseg-train site tune``: networks of a bundle trained further on the site's contours."""

from __future__ import annotations

import os
from difflib import get_close_matches
from typing import Annotated

import typer

from orgseg_node.errors import OptionInvalid
from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_training.cli.bundles import open_named
from orgseg_training.cli.progress import progress_display
from orgseg_training.cli.site import SiteFolder
from orgseg_training.nnunet.run import Machine
from orgseg_training.site.site import Site
from orgseg_training.tuning.recipe import RECIPES, with_steps
from orgseg_training.tuning.report import summary_lines
from orgseg_training.tuning.request import TuneFolder, TuneRequest
from orgseg_training.tuning.start import choose_start
from orgseg_training.tuning.tune import tune as run_tune


def tune(
    site: SiteFolder,
    bundle: Annotated[str, typer.Option("--from", help="Bundle to start from: its name, or its folder.")],
    organs: Annotated[
        str, typer.Option(help="Organs to train, keys of the organ table with commas; new ones are added.")
    ],
    name: Annotated[
        str, typer.Option(help="FAMILY@VERSION of the new bundle; by default the next number.")
    ] = "",
    separate: Annotated[
        bool,
        typer.Option(
            "--separate",
            help="The new network has only these organs; the old one stays for its others, byte by byte.",
        ),
    ] = False,
    recipe: Annotated[
        str, typer.Option(help="cpu, gpu, or trial: only to see whether everything works.")
    ] = "",
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Training steps, in place of those of the recipe.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=1, help="Limit of the training of each network; the schedule is shortened to it."),
    ] = None,
    folds: Annotated[
        int, typer.Option(min=1, max=10, help="Networks; with several, every patient validates once.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of every random choice.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = max(1, (os.cpu_count() or 2) - 1),
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    accept_low: Annotated[
        bool, typer.Option("--accept-low", help="Write the bundle even if an organ is hardly found.")
    ] = False,
) -> None:
    """Train a bundle further on the site's contours; repeat the command to continue after an interruption.

    Only the training cases are used. The new bundle is SITE/models/FAMILY@VERSION, its report
    SITE/tunes/FAMILY@VERSION/report.html.
    """
    opened = Site.open(site)
    chosen = recipe or ("gpu" if device == "cuda" else "cpu")
    if chosen not in RECIPES:
        raise OptionInvalid(f"--recipe {chosen}: there are {', '.join(RECIPES)}.")
    named = [organ.strip() for organ in organs.split(",") if organ.strip()]
    for organ in named:
        if organ not in opened.organs:
            similar = ", ".join(get_close_matches(organ, opened.organs)) or "see organs.toml"
            raise OptionInvalid(f"--organs: '{organ}' is no key of the organ table; similar ones: {similar}.")
    keys = set(opened.training_keys())
    cases = [case for case in opened.cases() if case.key in keys]
    start = choose_start(open_named(bundle, opened), named, separate=separate)
    schedule = RECIPES[chosen] if iterations is None else with_steps(RECIPES[chosen], iterations)
    label = name or _next_name(start.bundle, opened)
    request = TuneRequest(
        site=opened.settings.name,
        name=label,
        start=start,
        recipe=schedule,
        folds=folds,
        seed=seed,
        minutes=minutes,
        accept_low=accept_low,
    )
    drawn = sum(bool(case.drawn & set(named)) for case in cases)
    typer.echo(
        f"{label} from {start.bundle.manifest.name}: {drawn} of {len(cases)} training cases have such organs,"
        f" {schedule.steps} steps"
    )
    for line in _plan_lines(request):
        typer.echo(line)
    with progress_display() as display:
        done = run_tune(
            request,
            cases,
            opened.organs,
            Machine(threads=threads, device=device),
            folder=TuneFolder(root=opened.root / "tunes" / label),
            target=opened.root / "models" / label,
            listener=display,
        )
    for line in summary_lines(done.summary):
        typer.echo(line)
    typer.echo(f"{opened.root / 'tunes' / label / 'report.html'}")
    typer.echo(f"{done.bundle.path}")
    typer.echo(
        f"Then: orgseg models add {done.bundle.path}, and"
        f" orgseg-train site judge {opened.root} {bundle} {label}"
    )


def _next_name(bundle: ModelBundle, site: Site) -> str:
    """A tuning that was begun is continued; otherwise the next number of the family at this site."""
    family = bundle.manifest.name.partition("@")[0]
    number = 1
    while (site.root / "models" / f"{family}@{site.settings.name}-{number}").exists():
        number += 1
    return f"{family}@{site.settings.name}-{number}"


def _plan_lines(request: TuneRequest) -> list[str]:
    start = request.start
    lines = []
    if start.new:
        lines.append(f"New to the network: {', '.join(start.new)}")
    if start.kept:
        lines.append(f"Kept as the network draws them now: {', '.join(start.kept)}")
    others = [key for _, labels in start.other_parts for key in labels.values()]
    if others:
        lines.append(f"In networks of their own, not changed: {', '.join(others)}")
    return lines


def add_commands(site_app: typer.Typer) -> None:
    """Add this command to those of a site."""
    site_app.command()(tune)
