"""How good a bundle is on patients it has never seen, through the very path the node uses."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from orgseg_node.core.body import find_body
from orgseg_node.core.metrics import dice
from orgseg_node.inference.predictor import Predictor
from orgseg_training.datasets.nifti import read_labels, read_volume
from orgseg_training.datasets.openkbp import LABELS, Case


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One organ in one patient.

    Attributes
    ----------
    case, organ : which
    dice : 0 to 1
    volume_ml, reference_ml : predicted and drawn volume
    """

    case: str
    organ: str
    dice: float
    volume_ml: float
    reference_ml: float


def evaluate(predictor: Predictor, cases: Iterable[Case]) -> tuple[Score, ...]:
    """Score every organ that was drawn in every given patient; what was not drawn is not scored."""
    return tuple(score for case in cases for score in _evaluate_case(predictor, case))


def _evaluate_case(predictor: Predictor, case: Case) -> Iterable[Score]:
    volume = read_volume(case.image)
    found = predictor.predict(volume, find_body(volume), _silent).label_map
    reference = read_labels(case.labels)
    numbers = {organ.key: label for label, organ in found.organs.items()}
    voxel_ml = volume.grid.voxel_ml
    for organ in sorted(case.drawn & numbers.keys()):
        ours, theirs = found.mask(numbers[organ]), reference == LABELS[organ]
        yield Score(
            case=case.name,
            organ=organ,
            dice=dice(ours, theirs),
            volume_ml=round(float(ours.sum()) * voxel_ml, 2),
            reference_ml=round(float(theirs.sum()) * voxel_ml, 2),
        )


def _silent(_done: float, _doing: str) -> None:
    pass


def write_scores(scores: Sequence[Score], path: Path) -> None:
    """Write one line for each organ and patient as CSV."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, [f.name for f in fields(Score)])
        writer.writeheader()
        writer.writerows(asdict(score) | {"dice": f"{score.dice:.4f}"} for score in scores)


def summary_table(scores: Sequence[Score]) -> str:
    """A Markdown table: organ, patients, mean, standard deviation, median and worst Dice."""
    lines = ["| organ | patients | Dice mean | sd | median | worst |", "|---|---|---|---|---|---|"]
    for organ in sorted({score.organ for score in scores}):
        values = [s.dice for s in scores if s.organ == organ and not math.isnan(s.dice)]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        lines.append(
            f"| {organ} | {len(values)} | {statistics.mean(values):.3f} | {spread:.3f} "
            f"| {statistics.median(values):.3f} | {min(values):.3f} |"
        )
    return "\n".join(lines)
