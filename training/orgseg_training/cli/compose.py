"""``orgseg-train compose``: one bundle of networks of several bundles."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from orgseg_node.errors import BundleExists
from orgseg_node.inference.bundles.bundle import ModelBundle, open_bundle
from orgseg_training.cli.tune_data_sets import folders_of
from orgseg_training.datasets.case_store import CaseStore, StoredCase
from orgseg_training.datasets.organ_table import organs_of_folder
from orgseg_training.errors import TrainingSettingsInvalid
from orgseg_training.evaluation.results import write_cases
from orgseg_training.evaluation.tables import dice_table
from orgseg_training.gate.membership import Membership
from orgseg_training.nnunet.run import Machine
from orgseg_training.tuning.compose import CompositionFile, compose
from orgseg_training.tuning.data_sets import divide_scans, read_data_sets_file, store_scans
from orgseg_training.tuning.publish import publish, score_held_out


def compose_bundles(
    config: Annotated[Path, typer.Option("--config", help="What is taken from where, a TOML file.")],
    out: Annotated[Path, typer.Option("--out", help="Working folder.")],
    source: Annotated[list[str], typer.Option(help="NAME=FOLDER: a bundle that the file names.")],
    database: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FOLDER: folder of a data set of the file on this machine."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = max(1, (os.cpu_count() or 2) - 1),
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    validate_only: Annotated[
        bool,
        typer.Option("--validate-only", help="Stop before the held-out scans are used, to compare bundles."),
    ] = False,
) -> None:
    """Make one bundle of the networks of several, and measure it once on the scans that were held out.

    The result is OUT/models/NAME; with --validate-only it is OUT/composed, without a measurement.
    """
    root = out.resolve()
    file = read_data_sets_file(config, CompositionFile, folders_of(database or [], "--database"))
    bundles = {name: open_bundle(folder) for name, folder in folders_of(source, "--source").items()}
    target, composed = root / "models" / file.bundle.name, root / "composed"
    if target.exists():
        raise BundleExists(f"'{target.name}' exists.")
    shutil.rmtree(composed, ignore_errors=True)
    bundle = compose(file, bundles, composed, card="Not measured.")
    if validate_only:
        typer.echo(f"{composed}, not measured on the scans that were held out")
        return
    table, store = organs_of_folder(root), CaseStore(root)
    for line in store_scans(file.databases, store, table):
        typer.echo(line)
    _, tests = divide_scans(file.databases, store.cases())
    require_unseen(bundle, tests)
    scores = score_held_out(bundle, tests, table, Machine(threads=threads, device=device))
    write_cases(scores, root / "held_out.parquet")
    typer.echo(dice_table(scores))
    typer.echo(f"{publish(file, bundle, scores, target).path}")


def require_unseen(bundle: ModelBundle, tests: Sequence[StoredCase]) -> None:
    """Refuse to measure a bundle on scans of which its networks say that they were trained on them.

    Raises
    ------
    TrainingSettingsInvalid
        With all such scans.
    """
    membership = Membership.of(bundle)
    if seen := [case.key for case in tests if membership.has_seen(case)]:
        raise TrainingSettingsInvalid(f"Networks were trained on scans of the test: {', '.join(seen)}.")


def add_commands(app: typer.Typer) -> None:
    """Add this command."""
    app.command("compose")(compose_bundles)
