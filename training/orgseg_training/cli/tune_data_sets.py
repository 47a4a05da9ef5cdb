"""``orgseg-train tune``: a network of a bundle trained further on data sets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from orgseg_node.errors import BundleExists, OptionInvalid
from orgseg_node.inference.bundles.bundle import ModelBundle, find_bundle, open_bundle
from orgseg_node.shipped import bundle_folders
from orgseg_training.cli.progress import progress_display
from orgseg_training.datasets.case_store import CaseStore, StoredCase
from orgseg_training.datasets.organ_table import organs_of_folder
from orgseg_training.durable import write_json
from orgseg_training.evaluation.results import write_cases
from orgseg_training.evaluation.tables import dice_table
from orgseg_training.nnunet.run import Machine
from orgseg_training.tuning.data_sets import (
    TuningFile,
    divide_scans,
    implausible_volumes,
    read_data_sets_file,
    scans_that_validate,
    store_scans,
)
from orgseg_training.tuning.publish import publish, score_held_out
from orgseg_training.tuning.report import summary_lines
from orgseg_training.tuning.request import BundleTexts, TuneFolder, TuneRequest
from orgseg_training.tuning.start import Start, alone, choose_start
from orgseg_training.tuning.tune import tune


def tune_data_sets(
    config: Annotated[Path, typer.Option("--config", help="The training, a TOML file.")],
    out: Annotated[Path, typer.Option("--out", help="Working folder; an interrupted run continues here.")],
    start: Annotated[
        str,
        typer.Option("--from", help="Bundle to start from, in place of that of the file: name or folder."),
    ] = "",
    database: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FOLDER: folder of a data set of the file on this machine."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=1, help="Limit of the training; the schedule is shortened to it.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = max(1, (os.cpu_count() or 2) - 1),
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    accept_low: Annotated[
        bool, typer.Option("--accept-low", help="Write the bundle even if an organ is hardly found.")
    ] = False,
    validate_only: Annotated[
        bool,
        typer.Option(
            "--validate-only", help="Stop before the held-out scans are used, to compare trainings."
        ),
    ] = False,
) -> None:
    """Train a bundle further on data sets, and measure it once on the scans that were held out.

    The result is OUT/models/NAME. Repeat the command to continue after an interruption.
    """
    root = out.resolve()
    file = read_data_sets_file(config, TuningFile, folders_of(database or [], "--database"))
    table, store = organs_of_folder(root), CaseStore(root)
    target = root / "models" / file.bundle.name
    if target.exists():
        raise BundleExists(f"'{target.name}' exists.")
    for line in store_scans(file.databases, store, table):
        typer.echo(line)
    cases, tests = divide_scans(file.databases, store.cases())
    cases = _plausible(file, cases, root)
    request = TuneRequest(
        site=", ".join(each.name for each in file.databases),
        name=f"{file.bundle.name}@{file.bundle.version}",
        start=_start(file, start),
        recipe=file.recipe,
        folds=file.networks,
        seed=file.seed,
        minutes=minutes,
        accept_low=accept_low,
        validation=scans_that_validate(file, cases),
        stay=file.bundle.stay,
        texts=BundleTexts(
            title=file.bundle.title,
            intended_use=file.intended_use,
            trained_on=file.bundle.trained_on,
            licence=file.licence,
        ),
    )
    machine = Machine(threads=threads, device=device)
    trained = root / "trained" / request.name
    if not trained.exists():
        with progress_display() as display:
            done = tune(
                request, cases, table, machine,
                folder=TuneFolder(root=root / "tune"), target=trained, listener=display,
            )  # fmt: skip
        for line in summary_lines(done.summary):
            typer.echo(line)
    if validate_only:
        typer.echo(f"{trained}, not measured on the scans that were held out")
        return
    scores = score_held_out(open_bundle(trained), tests, table, machine)
    write_cases(scores, root / "held_out.parquet")
    typer.echo(dice_table(scores))
    typer.echo(f"{publish(file, open_bundle(trained), scores, target).path}")


def _start(file: TuningFile, bundle: str) -> Start:
    opened = _open(bundle or file.start)
    if file.bundle.alone:
        return alone(choose_start(opened, file.organs, separate=True))
    return choose_start(opened, file.organs)


def folders_of(assignments: Sequence[str], option: str) -> dict[str, Path]:
    """Folders by name, from ``NAME=FOLDER``.

    Parameters
    ----------
    assignments : of the command line
    option : that they were given with, for the message

    Raises
    ------
    OptionInvalid
        If one is not ``NAME=FOLDER``.
    """
    found = {}
    for assignment in assignments:
        name, equals, folder = assignment.partition("=")
        if not equals:
            raise OptionInvalid(f"{option} {assignment}: write NAME=FOLDER.")
        found[name] = Path(folder).expanduser().resolve()
    return found


def _open(text: str) -> ModelBundle:
    path = Path(text)
    return open_bundle(path.resolve()) if path.is_dir() else find_bundle(text, bundle_folders())


def _plausible(file: TuningFile, cases: list[StoredCase], root: Path) -> list[StoredCase]:
    """The scans without the organs of an implausible volume, which are listed in ``implausible.json``."""
    if file.volumes is None:
        return cases
    found = implausible_volumes(cases, file.volumes)
    write_json(root / "implausible.json", found)
    count = sum(len(organs) for organs in found.values())
    typer.echo(f"{count} contours of an implausible volume are not used, see implausible.json.")
    return [case.without(found.get(case.key, {})) for case in cases]


def add_commands(app: typer.Typer) -> None:
    """Add this command."""
    app.command("tune")(tune_data_sets)
