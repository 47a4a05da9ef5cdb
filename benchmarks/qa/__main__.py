"""The measured power of the clinical checks: faults that are found, and correct contours that are flagged.

The parts are measured one after the other; the goals of all of them are the last lines, and the exit status
is 1 if one is missed. By default every fourth patient is used; with `--all` each one.

    python -m benchmarks.qa                    # every fourth patient, all parts
    python -m benchmarks.qa --all              # all patients
    python -m benchmarks.qa --only contours    # one part; may be given several times
"""

from __future__ import annotations

import argparse
import sys
import time

from benchmarks.qa.body import measure_body
from benchmarks.qa.contours import measure_contours
from benchmarks.qa.goals import Goal, conclude
from benchmarks.qa.scans import measure_scans
from benchmarks.qa.starter import measure_starter

PARTS = ("contours", "scans", "body", "starter")
EVERY, EVERY_BODY = 4, 24


def main() -> None:
    """Measure, print, and exit with the status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=EVERY, help="use every n-th patient")
    parser.add_argument("--all", action="store_true", help="use all patients")
    parser.add_argument("--only", action="append", choices=PARTS, help="measure this part only")
    options = parser.parse_args()
    every = 1 if options.all else options.every
    goals: list[Goal] = []
    for part in options.only or PARTS:
        begun, wall = time.process_time(), time.perf_counter()
        goals += _measure(part, every)
        seconds = time.process_time() - begun
        print(f"\n{part}: {seconds:.0f} s of CPU, {time.perf_counter() - wall:.0f} s", flush=True)
    sys.exit(conclude("qa", goals))


def _measure(part: str, every: int) -> list[Goal]:
    print(f"\n=== {part} ===", flush=True)
    if part == "contours":
        return measure_contours(every)
    if part == "scans":
        return measure_scans(every)
    if part == "body":
        return measure_body(max(1, EVERY_BODY * every // EVERY))
    return measure_starter()


if __name__ == "__main__":
    main()
