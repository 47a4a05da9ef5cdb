"""What the judge of organs finds: clinical contours as they are, and with injected faults.

Clinical contours of OpenKBP patients from whom the reference of the starter bundle was not made are judged
as they are and with injected faults. All limits come from the bundle, that is from its training patients.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks.qa.goals import Goal
from benchmarks.qa.patients import LOCKED, MORE, cases, load
from benchmarks.qa.scoring import CLEAN, Row, judged_rows
from benchmarks.qa.summary import goals, left_out, share, table
from orgseg_node.core.anatomy.plausibility import Comparison
from orgseg_node.core.organs import OrganTable, load_organs
from orgseg_node.errors import BundleInvalid
from orgseg_node.inference.bundles.bundle import ModelBundle, open_bundle
from orgseg_node.inference.bundles.references import read_reference
from orgseg_node.shipped import shipped_bundles, shipped_config

_LIST: Final = Path(__file__).with_name("wrong_references.txt")


def starter() -> tuple[ModelBundle, OrganTable, Comparison]:
    """The starter bundle, the organ table, and the reference that organs are compared with."""
    bundle = open_bundle(shipped_bundles() / "starter-hn")
    reference = read_reference(bundle).anatomy
    if reference is None:
        raise BundleInvalid("The starter bundle has no reference anatomy.")
    organs = load_organs(shipped_config("organs.toml"))
    return bundle, organs, Comparison(populations=[reference.population(None)])


def measure_contours(every: int) -> list[Goal]:
    """Measure and print; the goals.

    Parameters
    ----------
    every : every so many patients are used
    """
    _, organs, comparison = starter()
    chosen = (*cases(LOCKED), *cases(MORE))[::every]
    patients = [patient for case in chosen if (patient := load(case)) is not None]
    print(
        f"\n{len(patients)} patients, {len(chosen) - len(patients)} left out: only a piece is shown",
        flush=True,
    )
    rows: list[Row] = []
    for n, patient in enumerate(patients):
        others = [*patients[:n], *patients[n + 1 :]]
        rows += judged_rows(patient, others, organs, comparison)
    wrong = known_wrong()
    print(*table(rows), sep="\n")
    clean = [row for row in rows if row.kind == CLEAN]
    print(f"\nclinical contours that are flagged: {sum(r.is_flagged for r in clean)} of {len(clean)}")
    for row in clean:
        if row.is_flagged:
            note = wrong.get(f"{row.patient} {row.organ}", "")
            print(f"  {row.patient} {row.organ}: {row.message}{f' [known: {note}]' if note else ''}")
    print(f"left out as implausible: {100 * left_out(clean):.2f} % of clinical contours")
    print(f"all clinical contours, the wrong ones too: {100 * share(clean):.2f} % flagged", flush=True)
    return goals(rows, wrong)


def known_wrong() -> dict[str, str]:
    """Clinical contours that were looked at and are wrong, as ``patient organ``, with the reason."""
    lines = _LIST.read_text(encoding="utf-8").splitlines()
    rows = (line.split(": ", 1) for line in lines if not line.startswith("#"))
    return {parts[0]: parts[1] for parts in rows if len(parts) == 2}
