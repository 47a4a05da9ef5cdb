"""The measured power of the clinical checks: faults that are found, and correct contours that are flagged.

Clinical contours of OpenKBP patients from whom the reference of the starter bundle was not made are judged as
they are and with injected faults, then the starter's own results on its locked patients. All limits come from
the bundle, that is from its training patients. The last lines say which goals are reached; the exit status is
1 if one is missed.

    python -m benchmarks.qa                  # all patients
    python -m benchmarks.qa --every 4        # every fourth patient
    python -m benchmarks.qa --no-network     # without the results of the starter
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmarks.qa.patients import LOCKED, MORE, cases, load
from benchmarks.qa.scoring import CLEAN, Row, judged_rows
from benchmarks.qa.starter import judged_results
from benchmarks.qa.summary import goals, left_out, share, table
from orgseg_node.core.anatomy.plausibility import Comparison
from orgseg_node.core.organs import load_organs
from orgseg_node.errors import BundleInvalid
from orgseg_node.inference.bundles.bundle import open_bundle
from orgseg_node.inference.bundles.references import read_reference
from orgseg_node.shipped import shipped_bundles, shipped_config

_LIST = Path(__file__).with_name("wrong_references.txt")


def main() -> None:
    """Measure, print, and exit with the status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=1, help="use every n-th patient")
    parser.add_argument("--no-network", action="store_true", help="without the results of the starter")
    options = parser.parse_args()
    begun = time.perf_counter()
    bundle = open_bundle(shipped_bundles() / "starter-hn")
    reference = read_reference(bundle).anatomy
    if reference is None:
        raise BundleInvalid("The starter bundle has no reference anatomy.")
    organs = load_organs(shipped_config("organs.toml"))
    comparison = Comparison(populations=[reference.population(None)])
    chosen = (*cases(LOCKED), *cases(MORE))[:: options.every]
    patients = [patient for case in chosen if (patient := load(case)) is not None]
    print(
        f"{len(patients)} patients, {len(chosen) - len(patients)} left out: only a piece is shown", flush=True
    )
    rows: list[Row] = []
    for n, patient in enumerate(patients):
        others = [*patients[:n], *patients[n + 1 :]]
        rows += judged_rows(patient, others, organs, comparison)
    wrong = _known_wrong()
    print(*table(rows), sep="\n")
    clean = [row for row in rows if row.kind == CLEAN]
    print(f"\nclinical contours that are flagged: {sum(r.is_flagged for r in clean)} of {len(clean)}")
    for row in clean:
        if row.is_flagged:
            note = wrong.get(f"{row.patient} {row.organ}", "")
            print(f"  {row.patient} {row.organ}: {row.message}{f' [known: {note}]' if note else ''}")
    if not options.no_network:
        judged_results(bundle, organs, comparison)
    print(f"\nleft out as implausible: {100 * left_out(clean):.2f} % of clinical contours")
    print(f"all clinical contours, the wrong ones too: {100 * share(clean):.2f} % flagged")
    print(f"{time.perf_counter() - begun:.0f} s")
    reached = goals(rows, wrong)
    for text, value, is_reached in reached:
        print(f"{'reached' if is_reached else 'MISSED '} {text}: {value:.3f}")
    missed = sum(not is_reached for _, _, is_reached in reached)
    print(f"qa: {len(reached) - missed} of {len(reached)} goals reached")
    sys.exit(1 if missed else 0)


def _known_wrong() -> dict[str, str]:
    """Clinical contours that were looked at and are wrong, with the reason."""
    lines = _LIST.read_text(encoding="utf-8").splitlines()
    rows = (line.split(": ", 1) for line in lines if not line.startswith("#"))
    return {parts[0]: parts[1] for parts in rows if len(parts) == 2}


if __name__ == "__main__":
    main()
