"""The power of the judgement of scans: patients of the region, other regions, and false headers.

Run: ``python -m benchmarks.qa.scans``; the data sets are in ``ORGSEG_TEST_DATA``. The reference is that of
``starter-hn``, whose training patients are not used here. The last lines are the goals; the exit status is
1 if one is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.qa.goals import Goal, conclude
from benchmarks.qa.patients import LOCKED, MORE, PIECES, cases, load
from benchmarks.qa.scan_series import HEAD_AND_NECK, STATEMENTS, misstate, other_regions, unpack
from orgseg_node.core.body import find_body
from orgseg_node.core.checks import Level
from orgseg_node.core.scan.grid import ScanGrid, scan_grid
from orgseg_node.core.scan.judgement import (
    PATIENT_POSITION_DOUBTFUL,
    SIDES_NOT_CONFIRMED,
    ScanJudgement,
    judge_scan,
)
from orgseg_node.core.scan.reference import ScanReference
from orgseg_node.core.volume import Volume
from orgseg_node.dicom.reading.reader import read_volume
from orgseg_node.dicom.reading.series import read_series
from orgseg_node.errors import BundleInvalid, OrgsegError
from orgseg_node.inference.bundles.bundle import open_bundle
from orgseg_node.inference.bundles.references import read_reference
from orgseg_node.shipped import shipped_bundles
from tools.demo_ct import make_demo_ct

BUNDLE: Final = "starter-hn"
HELD_AT_MOST, FLAGGED_AT_MOST = 0.02, 0.05
MISSED_AT_MOST: Final = 0.01  # mirror images that are sent as confirmed
SECONDS_AT_MOST: Final = 0.5
_SERIES_OF_PATIENTS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A patient of the region and what was found out about the scan.

    Attributes
    ----------
    name : of the case
    scan : the patient on the coarse grid
    judgement : of the scan as it is
    """

    name: str
    scan: ScanGrid
    judgement: ScanJudgement


def outcome(judgement: ScanJudgement) -> str:
    """What happens to a scan: held, flagged, contoured with sides not confirmed, or contoured."""
    if judgement.reasons:
        return "held"
    warnings = {finding.code for finding in judgement.findings if finding.level is Level.WARNING}
    if warnings - {SIDES_NOT_CONFIRMED}:
        return "flagged"
    return "sides not confirmed" if warnings else "contoured"


def is_silent(judgement: ScanJudgement) -> bool:
    """Whether a scan is contoured without a word about its position or its sides."""
    codes = {finding.code for finding in judgement.findings}
    return not judgement.reasons and not codes & {SIDES_NOT_CONFIRMED, PATIENT_POSITION_DOUBTFUL}


def patients(every: int, reference: ScanReference) -> Iterator[Judged]:
    """Patients of the region, without those of whom the images show only pieces.

    Parameters
    ----------
    every : every so many patients are used
    reference : of the bundle
    """
    for case in (*cases(LOCKED), *cases(MORE))[::every]:
        patient = None if case.name in PIECES else load(case)
        if patient is None:
            continue
        scan = scan_grid(Volume(grid=patient.grid, hu=patient.hu), patient.body)
        yield Judged(name=case.name, scan=scan, judgement=judge_scan(scan, reference, BUNDLE))


def good_scans(judged: Sequence[Judged]) -> list[Goal]:
    """Print what happens to scans of the region; the goals."""
    counts = Counter(outcome(each.judgement) for each in judged)
    print(f"\n{len(judged)} patients of the region, none of them in the reference")
    for name in ("contoured", "sides not confirmed", "flagged", "held"):
        print(f"  {name:22s} {counts[name]:4d}  {counts[name] / len(judged):6.1%}")
    for each in judged:
        if outcome(each.judgement) in {"flagged", "held"}:
            print(f"    {each.name}: {', '.join(sorted({f.code for f in each.judgement.findings}))}")
    return [
        _at_most(f"good scans {what}, {len(judged)}", counts[what] / max(len(judged), 1), limit)
        for what, limit in (("held", HELD_AT_MOST), ("flagged", FLAGGED_AT_MOST))
    ]


def _at_most(text: str, value: float, limit: float) -> Goal:
    return Goal(text=text, value=value, limit=limit, at_most=True)


def turned_scans(judged: Sequence[Judged], reference: ScanReference) -> list[Goal]:
    """Print what happens to each misstatement of the axes of these scans; the goals.

    Parameters
    ----------
    judged : patients of the region
    reference : of the bundle
    """
    print("\nThe same scans with misstated axes: held, with a warning, without a word")
    goals = []
    for axes in STATEMENTS[1:]:
        turned = [
            judge_scan(each.scan.flipped(z="z" in axes, y="y" in axes, x="x" in axes), reference, BUNDLE)
            for each in judged
        ]
        held = sum(bool(judgement.reasons) for judgement in turned)
        silent = sum(is_silent(judgement) for judgement in turned)
        print(f"  {axes:4s} {held:5d} {len(turned) - held - silent:5d} {silent:5d}", flush=True)
        text = f"scans with {axes} misstated sent without a word, {len(judged)}"
        goals.append(_at_most(text, silent / max(len(judged), 1), MISSED_AT_MOST))
    lowest = [
        (outcome(each.judgement) == "contoured", each.scan.z_mm[-1] - each.scan.z_mm[0]) for each in judged
    ]
    for low, high in ((0, 150), (150, 200), (200, 250), (250, 300), (300, 1000)):
        group = [confirmed for confirmed, length in lowest if low <= length < high]
        if group:
            print(f"  scans of {low} to {high} mm: sides confirmed in {sum(group)} of {len(group)}")
    return goals


def real_series(reference: ScanReference, scratch: Path) -> list[Goal]:
    """Print what happens to series of other regions and to false headers; the goals.

    Parameters
    ----------
    reference : of the bundle
    scratch : for unpacked and written series
    """
    others, misstated, true = [], [], []
    print("\nSeries of other regions and phantoms")
    for name, volume in other_regions(scratch):
        if isinstance(volume, OrgsegError):
            print(f"  {name:34s} not read: {volume.code}")
            continue
        result, codes = _judge(volume, reference)
        print(f"  {name:34s} {result}: {codes}")
        others.append(result != "held")
    print("\nReal head-and-neck series with misstated axes")
    for name, folder in _head_and_neck(scratch):
        for axes in STATEMENTS:
            series = misstate(folder, scratch / f"{name}-{axes or 'true'}", axes)
            result, codes = _judge(read_volume(read_series(series)), reference)
            print(f"  {name:16s} {axes or 'as it is':9s} {result}: {codes}")
            if axes:
                misstated.append(result in {"contoured", "flagged"})
            else:
                true.append(result == "held")
    return [
        _at_most(f"series of other regions contoured, of {len(others)}", sum(others), 0),
        _at_most(f"misstated series contoured without a word, of {len(misstated)}", sum(misstated), 0),
        _at_most(f"true series held, of {len(true)}", sum(true), 0),
    ]


def _head_and_neck(scratch: Path) -> Iterator[tuple[str, Path]]:
    yield HEAD_AND_NECK, unpack(HEAD_AND_NECK, scratch)
    for case in cases(LOCKED)[:_SERIES_OF_PATIENTS]:
        make_demo_ct(case.image, case.labels, scratch / case.name)
        yield case.name, scratch / case.name / "ct"


def _judge(volume: Volume, reference: ScanReference) -> tuple[str, str]:
    try:
        body = find_body(volume).mask
    except OrgsegError as error:
        return "held", error.code
    judgement = judge_scan(scan_grid(volume, body), reference, BUNDLE)
    codes = dict.fromkeys(finding.code for finding in judgement.findings)
    return outcome(judgement), ", ".join(codes) or "no finding"


def cost(reference: ScanReference, scratch: Path) -> list[Goal]:
    """Print the time that the judgement of a scan takes; the goals.

    Parameters
    ----------
    reference : of the bundle
    scratch : with the unpacked series
    """
    volume = read_volume(read_series(unpack(HEAD_AND_NECK, scratch)))
    body = find_body(volume).mask
    seconds = []
    for _ in range(5):
        started = time.process_time()
        judge_scan(scan_grid(volume, body), reference, BUNDLE)
        seconds.append(time.process_time() - started)
    k, j, i = volume.grid.shape
    took = statistics.median(seconds)
    print(f"\nTime of the judgement of {k} x {j} x {i} voxels: {took:.2f} s")
    return [_at_most("CPU seconds of the judgement of a scan", took, SECONDS_AT_MOST)]


def measure_scans(every: int) -> list[Goal]:
    """Measure and print; the goals.

    Parameters
    ----------
    every : every so many patients are used; all series are
    """
    reference = read_reference(open_bundle(shipped_bundles() / BUNDLE)).scan
    if reference is None:
        raise BundleInvalid("The starter bundle has no reference of scans.")
    judged = list(patients(every, reference))
    goals = [*good_scans(judged), *turned_scans(judged, reference)]
    with tempfile.TemporaryDirectory() as scratch:
        return [*goals, *real_series(reference, Path(scratch)), *cost(reference, Path(scratch))]


def main() -> None:
    """Measure all patients, print, and exit with the status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=1, help="use every n-th patient")
    sys.exit(conclude("qa scans", measure_scans(parser.parse_args().every)))


if __name__ == "__main__":
    main()
