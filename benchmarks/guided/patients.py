"""Guided runs on patients with clinical contours, as ``orgseg models calibrate --guided`` measures them."""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from benchmarks.qa.goals import Goal
from orgseg_node.inference.backends.guided.guide import GuidedRun
from orgseg_node.inference.backends.guided_calibrating import (
    ReferenceCase,
    measure_guided,
    open_guided_predictors,
)
from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_node.inference.bundles.nnunet_cases import CaseFolder, open_case_folder
from orgseg_node.inference.engine.layout import Layout
from orgseg_node.organ_table import organ_table


def locked_patients(data: Path) -> list[str]:
    """Patients of the test split of a data set, those with most organs drawn first."""
    with (data / "cases.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if "test" in row["source"]]
    return [row["case"] for row in sorted(rows, key=lambda row: sum(not cell for cell in row.values()))]


def calibrate_on_patients(
    bundle: ModelBundle, data: Path, count: int, layouts: Sequence[Layout], run: GuidedRun
) -> tuple[list[Goal], Layout | None]:
    """Measure guided against unguided runs, and both against the contours.

    Parameters
    ----------
    bundle : single-organ networks with a guide
    data : in nnU-Net's raw layout, with ``cases.csv``
    count : number of locked patients
    layouts : of tiles, the cheapest first
    run : margin of the boxes, and whether there is a sparse first pass; its layout is not used

    Returns
    -------
    the goal, and the cheapest layout that the calibration accepts; None if it accepts none
    """
    names = locked_patients(data)[:count]
    whole = open_case_folder(data, {}, organ_table())
    folder = CaseFolder(folder=data, names=tuple(names), organs=whole.organs)
    print(f"\n=== calibration on {len(names)} locked patients: {', '.join(names)} ===", flush=True)
    runs = open_guided_predictors(
        bundle,
        organ_table(),
        "exact",
        run.margin_mm,
        layouts,
        sparse=run.sparse,
        suspicion=run.suspicion,
    )
    cases = (ReferenceCase(ct=case.volume, contours=case.masks) for case in folder.cases())
    measured = measure_guided(runs, cases, dt.datetime.now().astimezone().date(), lambda *_: None)
    for each in measured.candidates:
        table = each.calibration
        print(
            f"tiles {table.layout}: {each.tiles:.3f} of the unguided tiles beside the guide's, "
            f"{each.differing} voxels differ"
        )
        for key, organ in table.organs.items():
            line = f"  {key:18s} lowest Dice with unguided {organ.dice:.4f}, on the whole CT {organ.whole_on}"
            if (found := organ.contours) is not None:
                line += (
                    f"; with contours {found.unguided:.4f} unguided, {found.guided:.4f} guided, difference "
                    f"above {found.lower:+.4f} ({found.cts} patients)"
                )
            print(line)
        print(f"  {'; '.join(table.shortcomings) or 'accepted'}", flush=True)
    accepted = measured.accepted
    goal = Goal(
        text=f"calibration on {len(names)} patients: layouts that are accepted",
        value=float(sum(not each.calibration.shortcomings for each in measured.candidates)),
        limit=1,
    )
    return [goal], None if accepted is None else Layout(accepted.calibration.layout)
