"""The starter's own results on its locked patients: which failures are flagged, and what judging costs."""

from __future__ import annotations

import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.qa.contours import known_wrong, starter
from benchmarks.qa.faults import Patient, dice
from benchmarks.qa.goals import Goal
from benchmarks.qa.patients import LOCKED, cases, load
from benchmarks.qa.predictions import KeptPredictions
from benchmarks.qa.scan_series import HEAD_AND_NECK, unpack
from benchmarks.qa.scoring import CLEAN, Row, row
from orgseg_node.contouring.protocol import load_protocol
from orgseg_node.contouring.structures import apply_protocol
from orgseg_node.core.anatomy.plausibility import Comparison, judge_organs
from orgseg_node.core.anatomy.working_grid import WorkingGrid
from orgseg_node.core.body import find_body
from orgseg_node.core.checks import Grade
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.reading.reader import read_volume
from orgseg_node.dicom.reading.series import read_series

_FAILED: Final = 0.6  # Dice
_COST, _MEGABYTES = 0.03, 100.0  # at most, of the time of the networks, and of memory


def measure_starter() -> list[Goal]:
    """Run the bundle on its locked patients, tidy and judge as the node does; print and give the goals."""
    bundle, table, comparison = starter()
    kept = KeptPredictions(bundle=bundle, table=table)
    failed: list[Row] = []
    good: list[Row] = []
    references: list[Row] = []
    print(f"\nresults of the starter on its locked patients with a Dice below {_FAILED}")
    for case in cases(LOCKED):
        patient = load(case)
        if patient is None:
            continue
        scan = WorkingGrid(patient.grid, patient.hu, patient.body)
        result = _tidied(kept.of(patient)[0], patient, table)
        judgement = judge_organs(result, scan, comparison)
        organs = {number: table[key] for key, number in patient.numbers.items()}
        clinical = LabelMap(grid=patient.grid, labels=patient.labels, organs=organs)
        doubted = judge_organs(clinical, scan, comparison)
        drawn = {key: row(patient.name, key, CLEAN, 1.0, doubted) for key in patient.numbers}
        references += drawn.values()
        numbers = {organ.key: number for number, organ in result.organs.items()}
        for key, reference in drawn.items():
            agreement = dice(np.equal(result.labels, numbers[key]), patient.mask(key))
            judged = row(patient.name, key, CLEAN, agreement, judgement)
            if agreement >= _FAILED:
                good.append(judged)
                continue
            if not reference.is_flagged:
                failed.append(judged)
            print(f"  {_failure(judged, reference)}", flush=True)
    _print_flagged(f"good results (Dice from {_FAILED})", good)
    _print_flagged("clinical contours", references)
    found = sum(each.is_flagged for each in failed)
    print(f"real failures that are flagged: {found} of {len(failed)}")
    return _cost(kept, comparison)


def _tidied(found: LabelMap, patient: Patient, table: OrganTable) -> LabelMap:
    """The organs as the default protocol leaves them, which is what the node judges."""
    return apply_protocol(load_protocol("default"), found, patient.body, table).label_map


def _failure(judged: Row, reference: Row) -> str:
    """A failure, and how far result and clinical contour are from the reference, in units of the limit."""
    return (
        f"{judged.patient} {judged.organ}: Dice {judged.dice:.2f}, {_what(judged)}; "
        f"at {judged.score:.2f} of the limit, its clinical contour at {reference.score:.2f}"
        f"{' (flagged itself)' if reference.is_flagged else ''}. {judged.message}"
    )


def _what(judged: Row) -> str:
    return "left out" if judged.grade is Grade.IMPLAUSIBLE else str(judged.grade or "NOT FLAGGED")


def _print_flagged(what: str, rows: list[Row]) -> None:
    wrong = known_wrong()
    flagged = [each for each in rows if each.is_flagged]
    print(f"{what} that are flagged: {len(flagged)} of {len(rows)}")
    for each in flagged:
        note = wrong.get(f"{each.patient} {each.organ}", "")
        known = f" [known: {note}]" if note else ""
        print(f"  {each.patient} {each.organ}: Dice {each.dice:.2f}, {_what(each)}. {each.message}{known}")


def _cost(kept: KeptPredictions, comparison: Comparison) -> list[Goal]:
    """Time and memory of the judgement of a real series, for the time of its networks."""
    with tempfile.TemporaryDirectory() as scratch:
        volume = read_volume(read_series(unpack(HEAD_AND_NECK, Path(scratch))))
    body = find_body(volume).mask
    empty = np.zeros(volume.grid.shape, dtype=np.uint8)
    patient = Patient(name=HEAD_AND_NECK, hu=volume.hu, body=body, labels=empty, numbers={}, grid=volume.grid)
    result, whole = kept.of(patient)
    begun = time.process_time()
    judge_organs(result, WorkingGrid(volume.grid, volume.hu, body), comparison)
    took = time.process_time() - begun
    tracemalloc.start()
    judge_organs(result, WorkingGrid(volume.grid, volume.hu, body), comparison)
    megabytes = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    k, j, i = volume.grid.shape
    what = f"{k} x {j} x {i} voxels with {len(result.organs)} organs"
    print(f"judging {what}: {took:.2f} s of CPU, {megabytes:.0f} MB; the networks: {whole:.0f} s")
    return [
        Goal(
            text="time of the judgement for that of the networks",
            value=took / whole,
            limit=_COST,
            at_most=True,
        ),
        Goal(text="memory of the judgement in MB", value=megabytes, limit=_MEGABYTES, at_most=True),
    ]
