"""Two bundles on the locked patients of OpenKBP, through the node's own body contour and predictor.

Prints the mean Dice of every organ that both find, the mean difference, and p of Wilcoxon's signed-rank test
with Holm's correction: whether the second may replace the first.
Run: ``python benchmarks/bundles.py OPENKBP_FOLDER FIRST SECOND [--cases N] [--device cpu]``. A bundle is a
folder, such as ``orgseg_node/bundles/starter-hn``; N patients are the first N, without it all 15.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from orgseg_node.core.organs import load_organs
from orgseg_node.inference.bundles.bundle import open_bundle
from orgseg_node.inference.loading import load_predictor
from orgseg_node.inference.predictor import InferenceSettings
from orgseg_node.shipped import shipped_config
from orgseg_training.datasets.case import SourceCase
from orgseg_training.datasets.openkbp import source_cases
from orgseg_training.evaluation.predictions import Scoring
from orgseg_training.evaluation.statistics import holm, paired_differences, signed_rank

Dices = dict[tuple[str, str], float]
"""Dice of (organ, case)."""


def measure(folder: Path, cases: Sequence[SourceCase], device: str) -> tuple[Dices, float]:
    """The Dice of a bundle, and its time.

    Parameters
    ----------
    folder : of the bundle
    cases : the patients
    device : ``cpu``, ``cuda`` or ``auto``

    Returns
    -------
    the Dice by organ and case, and the seconds per patient
    """
    predictor = load_predictor(
        open_bundle(folder), load_organs(shipped_config("organs.toml")), InferenceSettings(device=device)
    )
    started = time.perf_counter()
    scores = Scoring(model=folder.name).predict_and_compare(predictor, cases)
    dices = {(s.organ, s.case): s.value("dsc") for s in scores if s.status.is_scored}
    return dices, (time.perf_counter() - started) / len(cases)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--cases", type=int)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    cases = [case for case in source_cases("openkbp", options.data, {}) if case.test][: options.cases]
    first, first_seconds = measure(options.first, cases, options.device)
    second, second_seconds = measure(options.second, cases, options.device)
    common = sorted(first.keys() & second.keys())
    rows = []
    for organ in sorted({organ for organ, _ in common}):
        pair = [[dices[key] for key in common if key[0] == organ] for dices in (first, second)]
        rows.append((organ, *pair, paired_differences(pair[1], pair[0], higher_is_better=True)))
    corrected = holm([signed_rank(differences) for *_, differences in rows])
    print(f"{'organ':<16}{'n':>4}{'first':>8}{'second':>8}{'second - first':>16}{'p (Holm)':>10}")
    for (organ, old, new, differences), p in zip(rows, corrected, strict=True):
        means = f"{statistics.mean(old):>8.3f}{statistics.mean(new):>8.3f}{differences.mean():>+16.3f}"
        print(f"{organ:<16}{len(old):>4}{means}{p:>10.4f}")
    ratio = second_seconds / first_seconds
    print(
        f"{first_seconds:.1f} and {second_seconds:.1f} s a patient, with body and metrics: ratio {ratio:.2f}"
    )


if __name__ == "__main__":
    main()
