"""Two bundles on the locked patients of OpenKBP, as the node would send their organs.

Prints the mean Dice, surface Dice (2 mm) and HD95 of every organ that both find, the mean difference, and p
of Wilcoxon's signed-rank test with Holm's correction: whether the second may replace the first. Then the
organs with a piece farther than 40 mm from their largest one, and the time.
Run: ``python benchmarks/bundles.py OPENKBP_FOLDER FIRST SECOND [--cases N] [--device cpu] [--untidied]``. A
bundle is a folder, such as ``orgseg_node/bundles/starter-hn``; N patients are the first N, without it all 15.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from orgseg_node.contouring.protocol import load_protocol
from orgseg_node.contouring.structures import apply_protocol
from orgseg_node.core.body import find_body
from orgseg_node.core.geometry import Grid
from orgseg_node.core.organs import load_organs
from orgseg_node.core.volume import LabelMap
from orgseg_node.inference.bundles.bundle import open_bundle
from orgseg_node.inference.loading import load_predictor
from orgseg_node.inference.predictor import InferenceSettings
from orgseg_node.shipped import shipped_config
from orgseg_training.datasets.case import SourceCase
from orgseg_training.datasets.openkbp import source_cases
from orgseg_training.evaluation.delivery import NODE_PROTOCOL, tidying_of
from orgseg_training.evaluation.predictions import Scoring
from orgseg_training.evaluation.results import CaseScore
from orgseg_training.evaluation.statistics import holm, paired_differences, signed_rank

_FAR_MM: Final = 40.0
_METRICS: Final = {"dsc": ("Dice", 3), "sdsc": ("surface Dice", 3), "hd95_mm": ("HD95 in mm", 1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A bundle on the patients.

    Attributes
    ----------
    scores : of every organ that was drawn
    distant : patient and organ of each organ with a distant piece
    seconds : of a patient, with body and metrics
    cpu_seconds : of a patient, of the networks alone
    """

    scores: Sequence[CaseScore]
    distant: Sequence[str]
    seconds: float
    cpu_seconds: float


def measure(folder: Path, cases: Sequence[SourceCase], device: str, *, is_tidied: bool) -> Measured:
    """Run a bundle on patients.

    Parameters
    ----------
    folder : of the bundle
    cases : the patients
    device : ``cpu``, ``cuda`` or ``auto``
    is_tidied : as the node sends organs; else as the networks leave them
    """
    table = load_organs(shipped_config("organs.toml"))
    predictor = load_predictor(open_bundle(folder), table, InferenceSettings(device=device))
    protocol = tidying_of(load_protocol(NODE_PROTOCOL))
    scoring = Scoring(model=folder.name)
    scores: list[CaseScore] = []
    distant: list[str] = []
    cpu = 0.0
    started = time.perf_counter()
    for case in cases:
        contents = case.read()
        volume, body = contents.volume, find_body(contents.volume)
        cpu -= time.process_time()
        found = predictor.predict(volume, body, lambda _done, _doing: None).label_map
        cpu += time.process_time()
        if is_tidied:
            found = apply_protocol(protocol, found, body.mask, table).label_map
        organs = {organ.key for organ in found.organs.values()}
        drawn = sorted(case.annotated & organs & contents.masks.keys())
        masks = [(organ, contents.masks[organ]) for organ in drawn]
        scores += scoring.compare(case, found, masks, volume.grid.spacing_mm)
        distant += [f"{case.name} {organ}" for organ in organs_with_distant_piece(found, volume.grid)]
    seconds = time.perf_counter() - started
    return Measured(
        scores=scores, distant=distant, seconds=seconds / len(cases), cpu_seconds=cpu / len(cases)
    )


def organs_with_distant_piece(found: LabelMap, grid: Grid) -> list[str]:
    """The organs with a piece farther than 40 mm from their largest one.

    Parameters
    ----------
    found : the organs of a patient
    grid : of the volume
    """
    return [
        organ.key
        for number, organ in found.organs.items()
        if _is_apart(np.equal(found.labels, number), grid.spacing_mm)
    ]


def _is_apart(mask: Any, spacing_mm: Sequence[float]) -> bool:
    pieces, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count < 2:
        return False
    largest = 1 + int(np.bincount(pieces[pieces > 0])[1:].argmax())
    distance = ndimage.distance_transform_edt(pieces != largest, spacing_mm)
    return any(float(distance[pieces == number].min()) > _FAR_MM for number in range(1, count + 1))


def compare_scores(first: Sequence[CaseScore], second: Sequence[CaseScore], metric: str) -> list[str]:
    """A line for each organ.

    Parameters
    ----------
    first, second : scores of both bundles
    metric : name of its column
    """
    pairs = _paired(first, second, metric)
    better = metric != "hd95_mm"
    differences = {
        organ: paired_differences(
            [new for _, new in values], [old for old, _ in values], higher_is_better=better
        )
        for organ, values in pairs.items()
    }
    corrected = holm([signed_rank(differences[organ]) for organ in pairs])
    _, digits = _METRICS[metric]
    lines = []
    for (organ, values), p in zip(pairs.items(), corrected, strict=True):
        known = [(old, new) for old, new in values if not (math.isnan(old) or math.isnan(new))]
        old, new = (statistics.mean(one) for one in zip(*known, strict=True))
        numbers = f"{old:>9.{digits}f}{new:>9.{digits}f}{new - old:>+16.{digits}f}"
        lines.append(f"{organ:<16}{len(values):>4}{numbers}{p:>10.4f}")
    return lines


def _paired(
    first: Sequence[CaseScore], second: Sequence[CaseScore], metric: str
) -> Mapping[str, list[tuple[float, float]]]:
    one, other = (
        {(s.organ, s.case): s.value(metric) for s in scores if s.status.is_scored}
        for scores in (first, second)
    )
    found: dict[str, list[tuple[float, float]]] = {}
    for organ, case in sorted(one.keys() & other.keys()):
        found.setdefault(organ, []).append((one[organ, case], other[organ, case]))
    return found


def print_comparison(first: Measured, second: Measured) -> None:
    """Print everything.

    Parameters
    ----------
    first, second : both bundles
    """
    for metric, (title, _) in _METRICS.items():
        print(f"{title:<16}{'n':>4}{'first':>9}{'second':>9}{'second - first':>16}{'p (Holm)':>10}")
        for line in compare_scores(first.scores, second.scores, metric):
            print(line)
    for name, one in (("first", first), ("second", second)):
        print(f"{name}: {len(one.distant)} organs with a distant piece. {', '.join(one.distant)}")
    ratio = second.cpu_seconds / first.cpu_seconds
    print(
        f"{first.seconds:.1f} and {second.seconds:.1f} s a patient, with body and metrics; CPU time of the"
        f" networks {first.cpu_seconds:.1f} and {second.cpu_seconds:.1f} s: ratio {ratio:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--cases", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--untidied", action="store_true")
    options = parser.parse_args()
    cases = [case for case in source_cases("openkbp", options.data, {}) if case.test][: options.cases]
    first, second = (
        measure(folder, cases, options.device, is_tidied=not options.untidied)
        for folder in (options.first, options.second)
    )
    print_comparison(first, second)


if __name__ == "__main__":
    main()
