"""``orgseg-train evaluate``, ``tables`` and ``study check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orgseg_node.core.organs import OrganTable
from orgseg_node.errors import EvaluationError, LabelsInvalid, StorageError
from orgseg_training.datasets.organ_table import shipped_organs, with_own_organs
from orgseg_training.evaluation.plots import write_box_plots
from orgseg_training.evaluation.published_results import inconsistencies, read_published
from orgseg_training.evaluation.results import read_cases, write_cases
from orgseg_training.evaluation.scoring import Evaluation, read_case_list, read_label_numbers, read_tolerances
from orgseg_training.evaluation.tables import all_tables, cost_table
from orgseg_training.shipped import training_config

study_app = typer.Typer(no_args_is_help=True, help="The values printed in the study.")
_PRINTED = training_config("study/printed.csv")
_COST = training_config("study/cost.csv")

Printed = Annotated[Path, typer.Option(help="Values printed in the study.")]


def evaluate(
    reference: Annotated[Path, typer.Option(help="Folder of CASE.nii.gz, the reference.")],
    prediction: Annotated[Path, typer.Option(help="Folder of CASE.nii.gz with the same names and grids.")],
    out: Annotated[Path, typer.Option(help="Per-case results to write (Parquet).")],
    model: Annotated[str, typer.Option(help="Name of the model, as in the tables.")] = "model",
    subset: Annotated[str, typer.Option(help="cv, 1, 2, 3 as in the study, or any other name.")] = "test",
    labels: Annotated[
        Path | None, typer.Option(help="Organ and number: TOML, or dataset.json as next to the references.")
    ] = None,
    prediction_labels: Annotated[
        Path | None, typer.Option(help="The same for the predictions, if their numbers differ.")
    ] = None,
    cases: Annotated[
        Path | None,
        typer.Option(
            help="CSV: case and any of group,db,subset,child,labelled. Without it all organs count."
        ),
    ] = None,
    tolerances: Annotated[Path, typer.Option(help="Tolerance of each organ.")] = training_config(
        "tolerances.toml"
    ),
    own_organs: Annotated[
        Path | None, typer.Option(help="Organs of your own, in the form of the organ table.")
    ] = None,
    append: Annotated[bool, typer.Option(help="Add to the results in the file.")] = False,
) -> None:
    """Compare predictions with references, organ by organ."""
    organs = shipped_organs() if own_organs is None else with_own_organs(own_organs)
    earlier = read_cases(out) if append and out.exists() else ()
    evaluation = Evaluation(
        reference=reference,
        prediction=prediction,
        numbers=_numbers(reference, labels, prediction_labels, organs),
        model=model,
        subset=subset,
        cases=read_case_list(cases) if cases else {},
        tolerances=read_tolerances(tolerances, organs),
    )
    scores = (*earlier, *evaluation.scores())
    write_cases(scores, out)
    typer.echo(f"{len(scores)} lines in {out}")


def _numbers(
    reference: Path, labels: Path | None, prediction_labels: Path | None, organs: OrganTable
) -> dict[str, tuple[int, int]]:
    candidates = [folder / "dataset.json" for folder in (reference, reference.parent)]
    found = labels or next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise LabelsInvalid("There is no dataset.json next to the references, and no --labels.")
    theirs = read_label_numbers(found, organs)
    ours = read_label_numbers(prediction_labels, organs) if prediction_labels else theirs
    common = {organ: (number, ours[organ]) for organ, number in theirs.items() if organ in ours}
    if not common:
        raise LabelsInvalid("References and predictions have no organ in common.")
    return common


def tables(
    results: Annotated[Path, typer.Argument(metavar="CASES", help="Per-case results (Parquet).")],
    out: Annotated[Path, typer.Option(help="Folder to write tables and pictures to.")],
    printed: Printed = _PRINTED,
    cost: Annotated[Path, typer.Option(help="CSV: step,jobs,gpu_hours_each,device.")] = _COST,
) -> None:
    """Make the tables of the study (CSV, HTML, LaTeX) and box plots from per-case results."""
    scores = read_cases(results)
    written = (*all_tables(scores, read_published(printed)), cost_table(cost))
    try:
        files = [path for table in written for path in table.write(out)]
        files += write_box_plots(scores, out)
    except StorageError as error:
        raise EvaluationError(f"{out.name} cannot be written to: {error.detail}") from error
    typer.echo(f"{len(files)} files in {out}")


@study_app.command()
def check(printed: Printed = _PRINTED) -> None:
    """List printed values that are inconsistent with each other."""
    rows = read_published(printed)
    found = inconsistencies(rows)
    for one in found:
        typer.echo(f"{one.row.name}: {one.reason}")
    typer.echo(f"{len({one.row.name for one in found})} of {len(rows)} rows are inconsistent")


@study_app.callback()
def _study() -> None:
    """The values printed in the study."""


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(evaluate)
    app.command()(tables)
    app.add_typer(study_app, name="study")
