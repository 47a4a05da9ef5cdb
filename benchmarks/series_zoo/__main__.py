"""The zoo of awkward CT series: how the node and other tools read each of them.

Every series is synthetic, and the HU of each pixel depend on its position in the patient, so that a displaced
volume is detected. The node must read each series exactly (the HU of every pixel at its true position, every
contour within 0.01 mm of its slice and true to the pixel) or refuse it with the right code. Exits 1 if the
node is silently wrong or differs from the expectation. The last line is a summary.

    python -m benchmarks.series_zoo                    # and SimpleITK, dicom2nifti and rt-utils
    python -m benchmarks.series_zoo --ours             # the node alone
    python -m benchmarks.series_zoo --only tilt        # series with the word in their name
    python -m benchmarks.series_zoo --keep FOLDER      # and keep the files there
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

from benchmarks.series_zoo.assess_node import assess_node
from benchmarks.series_zoo.assessment import Assessment, Outcome
from benchmarks.series_zoo.case import ZooCase
from benchmarks.series_zoo.catalogue import ZOO
from benchmarks.series_zoo.other_tools import OTHER_TOOLS, OtherTool
from orgseg_node.core.organs import load_organs
from orgseg_node.shipped import shipped_config

NODE = "orgseg_node"
_NAME_WIDTH, _NODE_WIDTH, _TOOL_WIDTH = 56, 34, 25  # widths of the columns


def main() -> int:
    """Run the zoo; the exit status."""
    options = _options()
    cases = [case for case in ZOO if options.only.lower() in case.name.lower()]
    tools = (NODE,) if options.ours else (NODE, *OTHER_TOOLS)
    start = time.monotonic()
    print(_line("series", tools))
    with tempfile.TemporaryDirectory() as temporary:
        found = _run(cases, tools, options.keep or Path(temporary), Path(temporary))
    print()
    for tool in tools:
        counts = Counter(str(assessments[tool].outcome) for assessments in found)
        print(f"{tool:14}" + ", ".join(f"{n} {outcome}" for outcome, n in counts.most_common()))
    return _summary(cases, [assessments[NODE] for assessments in found], time.monotonic() - start)


def _run(
    cases: Sequence[ZooCase], tools: Sequence[str], folder: Path, temporary: Path
) -> list[Mapping[str, Assessment]]:
    label = load_organs(shipped_config("organs.toml"))["liver"]
    found: list[Mapping[str, Assessment]] = []
    with contextlib.ExitStack() as stack:
        other_tools = {
            name: stack.enter_context(OtherTool(name, temporary)) for name in tools if name != NODE
        }
        for number, case in enumerate(cases):
            files = folder / f"{number:02}"
            stacks = case.build(files)
            assessments = {NODE: assess_node(files, stacks, label)}
            assessments |= {name: tool.assess(files, stacks) for name, tool in other_tools.items()}
            found.append(assessments)
            print(_line(case.name, [str(assessments[tool]) for tool in tools]))
            if not case.is_as_expected(assessments[NODE]):
                print(f"    NOT AS EXPECTED ({case.expected}) {assessments[NODE].note}")
            sys.stdout.flush()
    return found


def _line(name: str, cells: Sequence[str]) -> str:
    node, *others = cells
    rest = "".join(f"{cell:{_TOOL_WIDTH}}" for cell in others)
    return f"{name:{_NAME_WIDTH}}{node:{_NODE_WIDTH}}{rest}".rstrip()


def _summary(cases: Sequence[ZooCase], node: Sequence[Assessment], seconds: float) -> int:
    wrong = sum(v.outcome in {Outcome.WRONG, Outcome.INCOMPLETE} for v in node)
    other = sum(not case.is_as_expected(assessment) for case, assessment in zip(cases, node, strict=True))
    counts = Counter(assessment.outcome for assessment in node)
    worst = max((v.error_mm for v in node if v.outcome in {Outcome.EXACT, Outcome.PARTS}), default=0.0)
    print(
        f"{NODE}: {len(cases)} series, {wrong} silently wrong, {counts[Outcome.EXACT]} exact, "
        f"{counts[Outcome.PARTS]} refused with exact parts, {counts[Outcome.REFUSED]} refused, "
        f"{counts[Outcome.CRASHED]} crashed, {other} not as expected; "
        f"worst position {worst:.4f} mm; {seconds:.0f} s"
    )
    return 1 if wrong or other else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ours", action="store_true", help="the node alone, without other tools")
    parser.add_argument("--only", default="", metavar="WORD", help="series with this word in their name")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write the series here and keep them")
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
