"""The zoo of awkward CT series: what this node makes of each, and what others make of it.

Every series is synthetic, and the HU of each pixel tell where in the patient it belongs, so that a picture in
the wrong place shows. Each must be exact (every pixel's HU at its true place, every contour within 0.01 mm of
its slice and true to the pixel) or refused with the right code. Exits 1 when anything of ours is silently
wrong or otherwise than expected. The last line is a summary.

    python -m benchmarks.series_zoo                    # with SimpleITK, dicom2nifti and rt-utils beside it
    python -m benchmarks.series_zoo --ours             # this node alone
    python -m benchmarks.series_zoo --only tilt        # series with the word in their name
    python -m benchmarks.series_zoo --keep FOLDER      # and leave the files there
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.series_zoo.catalogue import ZOO
from benchmarks.series_zoo.ours import judge_ours
from benchmarks.series_zoo.rivals import RIVALS, Rival
from benchmarks.series_zoo.row import Row
from benchmarks.series_zoo.verdict import Outcome, Verdict
from orgseg_node.core.organs import load_organs
from orgseg_node.shipped import shipped_config

OURS = "orgseg_node"
_NAME, _OURS, _RIVAL = 56, 34, 25  # widths of the columns


def main() -> int:
    """Run the zoo; the exit status."""
    options = _options()
    rows = [row for row in ZOO if options.only.lower() in row.name.lower()]
    tools = (OURS,) if options.ours else (OURS, *RIVALS)
    start = time.monotonic()
    print(_line("series", tools))
    with tempfile.TemporaryDirectory() as scratch:
        found = _run(rows, tools, options.keep or Path(scratch), Path(scratch))
    print()
    for tool in tools:
        counts = Counter(str(verdicts[tool].outcome) for verdicts in found)
        print(f"{tool:14}" + ", ".join(f"{n} {outcome}" for outcome, n in counts.most_common()))
    return _summary(rows, [verdicts[OURS] for verdicts in found], time.monotonic() - start)


def _run(
    rows: Sequence[Row], tools: Sequence[str], folder: Path, scratch: Path
) -> list[Mapping[str, Verdict]]:
    label = load_organs(shipped_config("organs.toml"))["liver"]
    found: list[Mapping[str, Verdict]] = []
    with contextlib.ExitStack() as stack:
        rivals = {tool: stack.enter_context(Rival(tool, scratch)) for tool in tools if tool != OURS}
        for number, row in enumerate(rows):
            place = folder / f"{number:02}"
            stacks = row.build(place)
            verdicts = {OURS: judge_ours(place, stacks, label)}
            verdicts |= {tool: rival.judge(place, stacks) for tool, rival in rivals.items()}
            found.append(verdicts)
            print(_line(row.name, [str(verdicts[tool]) for tool in tools]))
            if not row.is_met_by(verdicts[OURS]):
                print(f"    NOT AS EXPECTED ({row.wanted}) {verdicts[OURS].note}")
            sys.stdout.flush()
    return found


def _line(name: str, cells: Sequence[str]) -> str:
    ours, *others = cells
    return f"{name:{_NAME}}{ours:{_OURS}}{''.join(f'{cell:{_RIVAL}}' for cell in others)}".rstrip()


def _summary(rows: Sequence[Row], ours: Sequence[Verdict], seconds: float) -> int:
    wrong = sum(v.outcome in {Outcome.WRONG, Outcome.INCOMPLETE} for v in ours)
    other = sum(not row.is_met_by(verdict) for row, verdict in zip(rows, ours, strict=True))
    counts = Counter(verdict.outcome for verdict in ours)
    worst = max((v.error_mm for v in ours if v.outcome in {Outcome.EXACT, Outcome.PARTS}), default=0.0)
    print(
        f"{OURS}: {len(rows)} series, {wrong} silently wrong, {counts[Outcome.EXACT]} exact, "
        f"{counts[Outcome.PARTS]} asked about with exact parts, {counts[Outcome.REFUSED]} refused, "
        f"{counts[Outcome.CRASHED]} crashed, {other} not as expected; "
        f"worst place {worst:.4f} mm; {seconds:.0f} s"
    )
    return 1 if wrong or other else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ours", action="store_true", help="this node alone, without the others")
    parser.add_argument("--only", default="", metavar="WORD", help="series with this word in their name")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write the series here and leave them")
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
