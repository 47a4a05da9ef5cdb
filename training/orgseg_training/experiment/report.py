"""The end of an experiment: all measurements in one file, the study's tables and pictures, what it cost."""

from __future__ import annotations

import html
import statistics
from collections.abc import Sequence
from pathlib import Path

from orgseg_node.durable import atomic_file
from orgseg_training.curation.quality_control import said_of_quality
from orgseg_training.durable import read_json, write_json
from orgseg_training.evaluation.plots import write_box_plots
from orgseg_training.evaluation.published_results import read_printed
from orgseg_training.evaluation.results import read_cases, write_cases
from orgseg_training.evaluation.tables import all_tables
from orgseg_training.experiment.combined_bundle import SCORES
from orgseg_training.experiment.exclusions import counted
from orgseg_training.experiment.export_bundles import scores_of
from orgseg_training.experiment.workspace import Work
from orgseg_training.shipped import training_config

_WEAK = """Mode “paper”: copies of a scan in several data sets are not looked for, so a patient may be on both
sides of the split; the cross-validation of strategy 2 is scored against what strategy 1 completed: this shows
agreement with itself, not accuracy."""


def report(work: Work) -> Path:
    """Write ``cases.parquet``, tables, box plots and ``report/index.html``; the page.

    Raises
    ------
    CasesInvalid
        If a step was not scored.
    """
    names = [name for network in work.networks for name in scores_of(work, network)]
    names += [SCORES] if work.experiment.bundle else []
    scores = [score for name in names for score in read_cases(work.scores(name))]
    write_cases(scores, work.root / "cases.parquet")
    out = work.root / "report"
    out.mkdir(parents=True, exist_ok=True)
    made = all_tables(scores, read_printed(training_config("study/printed.csv")))
    for table in made:
        table.write(out)
    pictures = write_box_plots(scores, out)
    seconds = seconds_of(work)
    write_json(out / "seconds.json", seconds)
    page = out / "index.html"
    with atomic_file(page) as part:
        part.write_text(
            _page(work, seconds, [table.html_fragment() for table in made], pictures), encoding="utf-8"
        )
    return page


def seconds_of(work: Work) -> dict[str, float]:
    """Median seconds of a test scan, by strategy: all networks of the first one after the other."""
    if not work.experiment.strategy_2:
        return {"scans": 0}
    per_network = {
        network: read_json(work.root / "scores" / f"seconds-{network.name}.json") for network in work.networks
    }
    second = next(took for network, took in per_network.items() if network.strategy == 2)
    firsts = [
        took
        for network, took in per_network.items()
        if network.strategy == 1 and set(network.organs) & set(work.experiment.strategy_2)
    ]
    # only scans that every network was measured on can be compared
    common = sorted(set(second).intersection(*firsts))
    if not common:
        return {"scans": 0}
    return {
        "scans": len(common),
        "strategy_1": round(statistics.median(sum(took[key] for took in firsts) for key in common), 3),
        "strategy_2": round(statistics.median(second[key] for key in common), 3),
    }


def _curation(work: Work) -> list[str]:
    """What was left out and why, and which scans are copies of each other."""
    decisions = work.store.decisions
    said = [
        f"Left out as “{reason}”: {scans} scans, {organs} organs of other scans."
        for reason, (scans, organs) in counted(decisions).items()
    ]
    if decisions["signer"]:
        said.append(f"The list of rejects was signed by {decisions['signer']}.")
    pairs = decisions["pairs"]
    done = "one of each was kept" if work.experiment.mode == "strict" else "all were kept"
    said.append(f"{len(pairs)} pairs of copies were found" + (f"; {done}:" if pairs else "."))
    said += [f"{one} and {other}: {how}, {hu:.1f} HU apart" for one, other, how, hu in pairs]
    return said


def _list(title: str, said: Sequence[str]) -> str:
    lines = "".join(f"<li>{html.escape(text)}</li>" for text in said)
    return f"<h2>{html.escape(title)}</h2><ul>{lines}</ul>"


def _page(work: Work, seconds: dict[str, float], tables: list[str], pictures: Sequence[Path]) -> str:
    experiment = work.experiment
    training = experiment.training
    strategies = "strategy 1 and strategy 2" if experiment.strategy_2 else "strategy 1"
    splits = work.splits
    said = [
        f"{len(splits.development)} scans in {experiment.folds} folds, {len(splits.tested)} held back.",
        f"{len(work.trained_folds)} folds of each network were trained.",
        f"Trainer {training.trainer}, {training.epochs} x {training.iterations_per_epoch} iterations a fold.",
    ]
    if seconds["scans"]:
        said.append(
            f"A scan takes {seconds['strategy_1']:.1f} s with the networks of strategy 1 one after the other,"
            f" {seconds['strategy_2']:.1f} s with that of strategy 2: median of {seconds['scans']:.0f} scans."
        )
    rejected = work.store.root / "rejected.json"
    if rejected.is_file():
        said.append(f"{len(read_json(rejected))} scans could not be used; rejected.json says why.")
    said += _curation(work)
    quality = _list("Quality control", said_of_quality(work.quality))
    if experiment.mode == "paper":
        said.append(_WEAK)
    paragraphs = "".join(f"<p>{html.escape(text)}</p>" for text in said)
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
