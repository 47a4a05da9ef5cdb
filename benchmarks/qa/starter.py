"""The starter's own results on its locked patients: which of its failures are flagged."""

from __future__ import annotations

import numpy as np

from benchmarks.qa.faults import dice
from benchmarks.qa.patients import LOCKED, cases, load
from benchmarks.qa.scoring import CLEAN, row
from orgseg_node.core.anatomy.plausibility import Comparison, judge_organs
from orgseg_node.core.anatomy.working_grid import WorkingGrid
from orgseg_node.core.body import find_body
from orgseg_node.core.checks import Grade
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap, Volume
from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_node.inference.loading import load_predictor
from orgseg_node.inference.predictor import InferenceSettings

_FAILED = 0.6  # Dice


def judged_results(bundle: ModelBundle, table: OrganTable, comparison: Comparison) -> None:
    """Run the bundle on its locked patients, judge the results, and print the failures.

    Parameters
    ----------
    bundle : the starter
    table : the organ table
    comparison : what the judge compares with
    """
    predictor = load_predictor(bundle, table, InferenceSettings(device="cpu"))
    failed, found, good, flagged = 0, 0, 0, 0
    print("\nresults of the starter on its locked patients with a Dice below 0.6")
    for case in cases(LOCKED):
        patient = load(case)
        if patient is None:
            continue
        volume = Volume(grid=patient.grid, hu=patient.hu)
        result = predictor.predict(volume, find_body(volume), lambda _part, _what: None).label_map
        scan = WorkingGrid(patient.grid, patient.hu, patient.body)
        judgement = judge_organs(result, scan, comparison)
        organs = {number: table[key] for key, number in patient.numbers.items()}
        clinical = LabelMap(grid=patient.grid, labels=patient.labels, organs=organs)
        doubtful = judge_organs(clinical, scan, comparison).grades
        numbers = {organ.key: number for number, organ in result.organs.items()}
        for key in patient.numbers:
            agreement = dice(np.equal(result.labels, numbers[key]), patient.mask(key))
            judged = row(patient.name, key, CLEAN, agreement, judgement)
            if agreement >= _FAILED:
                good, flagged = good + 1, flagged + judged.is_flagged
                continue
            if key in doubtful:
                print(f"  {patient.name} {key}: Dice {agreement:.2f}; its clinical contour is flagged itself")
                continue
            failed, found = failed + 1, found + judged.is_flagged
            what = judged.grade or "NOT FLAGGED"
            what = "left out" if judged.grade is Grade.IMPLAUSIBLE else what
            print(f"  {patient.name} {key}: Dice {agreement:.2f}, {what}. {judged.message}")
    print(
        f"real failures that are flagged: {found} of {failed}; of {good} good results {flagged} are flagged"
    )
