"""How often the gate passes or fails wrongly, on synthetic results of seven organs, beside the theory.

Equal candidates differ from the live model by noise only; worse ones are worse by exactly the margin in one
organ, which few may pass; spoiled candidates swap sides, shift one organ by 6 mm, or lack one.
Run: ``python benchmarks/gate.py [--gates 200] [--sd 0.03]``. The summary line is the last.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from orgseg_node.inference.bundles.gate_file import GateVerdict
from orgseg_training.evaluation.non_inferiority import Shown, bounds, needed_patients, pass_probability
from orgseg_training.gate.judgement import MARGIN_DICE, MARGIN_SURFACE, Rules, judge
from tests.support.models.gate_results import SEVEN, Gates, changed, found

RULES = Rules(organs=SEVEN)
SIZES = (12, 15, 20, 30, 50)
KINDS = ("normal", "heavy tails", "few bad failures")


def theory(patients: int, sd: float) -> float:
    """How often an equal candidate passes; both metrics of an organ have the same differences here."""
    return pass_probability(patients, [MARGIN_DICE] * len(SEVEN), [sd] * len(SEVEN))


def equal_candidates(patients: int, sd: float, gates: int) -> Counter[GateVerdict]:
    """The verdicts on candidates that are equal but for noise."""
    made = Gates(patients=patients, sd=sd)
    return Counter(judge(made.equal(seed), RULES).verdict for seed in range(gates))


def false_pass(kind: str, patients: int, gates: int) -> float:
    """How often one organ that is worse by exactly the margin is shown to be not worse."""
    chance = np.random.default_rng(patients)
    draws = {
        "normal": lambda: chance.normal(0, 0.03, patients),
        "heavy tails": lambda: chance.standard_t(4, patients) * 0.03 / np.sqrt(2),
        "few bad failures": lambda: 0.03 - chance.gamma(1.0, 0.03, patients),
    }
    passed = [bounds(draws[kind]() - MARGIN_DICE, seed=n).shows(MARGIN_DICE) for n in range(gates)]
    return float(np.mean([shown is Shown.NOT_WORSE for shown in passed]))


def spoiled_candidates(patients: int, sd: float) -> dict[str, tuple[GateVerdict, str]]:
    """The verdict on each spoiled candidate, with its first reason."""
    scans = Gates(patients=patients, sd=sd).equal(1)
    shifted = [
        replace(s, candidate={**s.candidate, "larynx": found(s.live["larynx"].comparison.dsc - 0.2, 9.0)})
        for s in scans
    ]
    candidates = {
        "sides swapped": changed(scans, {"parotid_left": found(0.0), "parotid_right": found(0.0)}),
        "larynx shifted by 6 mm": shifted,
        "esophagus missing": changed(scans, {"esophagus": None}),
    }
    judged = {name: judge(one, RULES) for name, one in candidates.items()}
    return {name: (one.verdict, one.reasons[0]) for name, one in judged.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gates", type=int, default=200)
    parser.add_argument("--sd", type=float, default=0.03)
    options = parser.parse_args()
    begun = time.monotonic()
    print(
        f"equal candidates, 7 organs, deviation {options.sd:g},"
        f" margins {MARGIN_DICE:g} and {MARGIN_SURFACE:g}"
    )
    print(f"{'patients':>9}{'theory':>9}{'PASS':>7}{'INCONCL.':>10}{'FAIL':>6}   (of 100)")
    wrong = 0.0
    for patients in SIZES:
        verdicts = equal_candidates(patients, options.sd, options.gates)
        share = {one: 100 * verdicts[one] / options.gates for one in GateVerdict}
        wrong = max(wrong, share[GateVerdict.FAIL])
        print(
            f"{patients:>9}{100 * theory(patients, options.sd):>9.0f}{share[GateVerdict.PASS]:>7.0f}"
            f"{share[GateVerdict.INCONCLUSIVE]:>10.0f}{share[GateVerdict.FAIL]:>6.1f}"
        )
    print("one organ worse by exactly the margin: shown to be not worse in so many of 100 (5 by theory)")
    print(
        f"{'patients':>9}" + "".join(f"{kind:>18}" for kind in ("normal", "heavy tails", "few bad failures"))
    )
    most = 0.0
    for patients in SIZES:
        rates = [100 * false_pass(kind, patients, 10 * options.gates) for kind in KINDS]
        most = max(most, *rates)
        print(f"{patients:>9}" + "".join(f"{rate:>18.1f}" for rate in rates))
    refused = spoiled_candidates(30, options.sd)
    for name, (verdict, reason) in refused.items():
        print(f"{name:24} {verdict.value:13} {reason}")
    twenty = equal_candidates(30, options.sd, 20)
    needed = needed_patients([MARGIN_DICE] * 7, [options.sd] * 7)
    caught = sum(verdict is GateVerdict.FAIL for verdict, _ in refused.values())
    print(
        f"20 equal candidates with 30 patients: {twenty[GateVerdict.PASS]} pass (theory"
        f" {20 * theory(30, options.sd):.1f}), {twenty[GateVerdict.FAIL]} fail wrongly;"
        f" needed patients {needed}; spoiled candidates refused {caught} of {len(refused)};"
        f" most false passes {most:.1f} %, most false failures {wrong:.1f} %;"
        f" {time.monotonic() - begun:.0f} s"
    )
    sys.exit(caught < len(refused))


if __name__ == "__main__":
    main()
