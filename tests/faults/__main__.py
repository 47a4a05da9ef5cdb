"""``python -m tests.faults``: make every fault, print the table, and write docs/faults.md.

``--only WORD`` runs the faults whose name holds the word and writes only their rows again; ``--short`` leaves
the slow ones out and writes nothing. Exit status 1 if anything was not as expected.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from pathlib import Path

from orgseg_node.node.monitoring.logs import configure_logs
from tests.faults import callers, destinations, disk
from tests.faults.bench import Fault, NotRun

FAULTS = (*disk.FAULTS, *destinations.FAULTS, *callers.FAULTS)
_PAGE = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
_HEAD = """# What the node does when things go wrong

Written by `python -m tests.faults`, which makes each fault and looks. What is expected was written before
the run, in the code of the fault; a row that is not as expected is marked.

| fault | expected | seen |
|---|---|---|
"""


def row(fault: Fault) -> tuple[str, bool]:
    """Run one fault; what was seen, and whether it was as expected."""
    with tempfile.TemporaryDirectory(prefix="orgseg-fault-") as folder:
        try:
            return fault.trial(Path(folder)), True
        except NotRun as error:
            return f"not run: {error}", True
        except Exception as error:  # noqa: BLE001 (every failure is a row)
            traceback.print_exc()
            return f"NOT AS EXPECTED: {type(error).__name__} {error}".replace("\n", " "), False


def main() -> int:
    """Run with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    configure_logs("json", "error")
    lines: dict[str, str] = {}
    good = True
    for fault in FAULTS:
        if options.only not in fault.name or (options.short and fault.slow):
            continue
        seen, as_expected = row(fault)
        good &= as_expected
        lines[fault.name] = f"| {fault.name} | {fault.expected} | {seen} |"
        print(f"{fault.name}\n  expected: {fault.expected}\n  seen:     {seen}", flush=True)
    if not options.short:
        before = _PAGE.read_text("utf-8").splitlines() if _PAGE.exists() else []
        old = {line.split(" | ")[0].removeprefix("| "): line for line in before if line.startswith("| ")}
        rows = (lines.get(fault.name) or old.get(fault.name) for fault in FAULTS)
        _PAGE.write_text(_HEAD + "\n".join(line for line in rows if line) + "\n", encoding="utf-8")
    print(f"{'OK' if good else 'FAILED'}: {len(lines)} faults")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
