"""The report of an experiment: all scores in one file, the tables and plots of the study, and the costs."""

from __future__ import annotations

import html
import statistics
from collections.abc import Sequence
from pathlib import Path

from orgseg_node.durable import atomic_file
from orgseg_training.curation.quality_control import quality_lines
from orgseg_training.durable import read_json, write_json
from orgseg_training.evaluation.plots import write_box_plots
from orgseg_training.evaluation.published_results import read_published
from orgseg_training.evaluation.results import read_cases, write_cases
from orgseg_training.evaluation.tables import all_tables
from orgseg_training.experiment.combined_bundle import SCORES
from orgseg_training.experiment.exclusions import count_reasons
from orgseg_training.experiment.export_bundles import score_names
from orgseg_training.experiment.workspace import Workspace
from orgseg_training.shipped import training_config

_PAPER_MODE = (
    "Mode “paper”: copies of a scan in several data sets are not looked for, so a patient may be on both"
    " sides of the split; the cross-validation of strategy 2 is scored against the set completed by strategy"
    " 1: this shows agreement with itself, not accuracy."
)


def write_report(workspace: Workspace) -> Path:
    """Write ``cases.parquet``, tables, box plots and ``report/index.html``; returns the page.

    Raises
    ------
    CasesInvalid
        If scores of a step are missing.
    """
    names = [name for network in workspace.networks for name in score_names(workspace, network)]
    names += [SCORES] if workspace.experiment.bundle else []
    scores = [score for name in names for score in read_cases(workspace.scores(name))]
    write_cases(scores, workspace.root / "cases.parquet")
    out = workspace.root / "report"
    out.mkdir(parents=True, exist_ok=True)
    tables = all_tables(scores, read_published(training_config("study/printed.csv")))
    for table in tables:
        table.write(out)
    pictures = write_box_plots(scores, out)
    seconds = median_seconds(workspace)
    write_json(out / "seconds.json", seconds)
    page = out / "index.html"
    with atomic_file(page) as part:
        part.write_text(
            _page(workspace, seconds, [table.html_fragment() for table in tables], pictures), encoding="utf-8"
        )
    return page


def median_seconds(workspace: Workspace) -> dict[str, float]:
    """Median seconds for a test scan, by strategy; networks of strategy 1 run one after the other."""
    if not workspace.experiment.strategy_2:
        return {"scans": 0}
    per_network = {
        network: read_json(workspace.root / "scores" / f"seconds-{network.name}.json")
        for network in workspace.networks
    }
    second = next(seconds for network, seconds in per_network.items() if network.strategy == 2)
    firsts = [
        seconds
        for network, seconds in per_network.items()
        if network.strategy == 1 and set(network.organs) & set(workspace.experiment.strategy_2)
    ]
    # only scans with times of every network can be compared
    common = sorted(set(second).intersection(*firsts))
    if not common:
        return {"scans": 0}
    return {
        "scans": len(common),
        "strategy_1": round(statistics.median(sum(seconds[key] for seconds in firsts) for key in common), 3),
        "strategy_2": round(statistics.median(second[key] for key in common), 3),
    }


def _curation_lines(workspace: Workspace) -> list[str]:
    """Sentences: what was left out and why, and which scans are copies of each other."""
    decisions = workspace.store.decisions
    lines = [
        f"Left out as “{reason}”: {scans} scans, {organs} organs of other scans."
        for reason, (scans, organs) in count_reasons(decisions).items()
    ]
    if decisions["signer"]:
        lines.append(f"The list of rejects was signed by {decisions['signer']}.")
    pairs = decisions["pairs"]
    outcome = "one of each was kept" if workspace.experiment.mode == "strict" else "all were kept"
    lines.append(f"{len(pairs)} pairs of copies were found" + (f"; {outcome}:" if pairs else "."))
    lines += [f"{one} and {other}: {kind}, {hu:.1f} HU apart" for one, other, kind, hu in pairs]
    return lines


def _list(title: str, lines: Sequence[str]) -> str:
    items = "".join(f"<li>{html.escape(text)}</li>" for text in lines)
    return f"<h2>{html.escape(title)}</h2><ul>{items}</ul>"


def _page(
    workspace: Workspace, seconds: dict[str, float], tables: list[str], pictures: Sequence[Path]
) -> str:
    experiment = workspace.experiment
    training = experiment.training
    strategies = "strategy 1 and strategy 2" if experiment.strategy_2 else "strategy 1"
    splits = workspace.splits
    lines = [
        f"{len(splits.development)} scans in {experiment.folds} folds, {len(splits.tested)} held out.",
        f"{len(workspace.trained_folds)} folds of each network were trained.",
        f"Trainer {training.trainer}, {training.epochs} x {training.iterations_per_epoch} iterations a fold.",
    ]
    if seconds["scans"]:
        lines.append(
            f"A scan takes {seconds['strategy_1']:.1f} s with the networks of strategy 1 one after the other,"
            f" {seconds['strategy_2']:.1f} s with that of strategy 2: median of {seconds['scans']:.0f} scans."
        )
    rejected = workspace.store.root / "rejected.json"
    if rejected.is_file():
        lines.append(f"{len(read_json(rejected))} scans could not be used; rejected.json lists the reasons.")
    findings = workspace.store.root / "findings.json"
    if findings.is_file():
        lines.append(f"{len(read_json(findings))} scans have unusual contours; findings.json lists them.")
    lines += _curation_lines(workspace)
    quality = _list("Quality control", quality_lines(workspace.quality_folder))
    if experiment.mode == "paper":
        lines.append(_PAPER_MODE)
    paragraphs = "".join(f"<p>{html.escape(text)}</p>" for text in lines)
    images = "".join(
        f'<img src="{html.escape(picture.name)}" alt="{html.escape(picture.stem)}">' for picture in pictures
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{html.escape(experiment.name)}</title>"
        "<style>body{font:15px sans-serif;max-width:70em;margin:2em auto}table{border-collapse:collapse}"
        "td,th{padding:.2em .6em;border-bottom:1px solid #ccc;text-align:left}img{max-width:100%}</style>"
        f"<h1>{html.escape(experiment.name)}: {strategies}</h1>{paragraphs}{quality}"
        + "".join(tables)
        + images
        + "</html>\n"
    )
