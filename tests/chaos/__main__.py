"""``python -m tests.chaos``: kill the node, its children, its senders and its destination, and count.

Exit status 0 if nothing was lost, doubled or left behind; 1 if anything was; the summary is the last line.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.checker import check
from tests.chaos.run import run
from tests.chaos.spoils import SPOILS
from tests.chaos.world import Size, world
from tests.support.peers.postgres import cluster


def main() -> int:
    """Run with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=40)
    parser.add_argument("--senders", type=int, default=4)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=20.0, help="most time for the killing")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--short", action="store_true", help="8 series and 24 kills")
    parser.add_argument("--spoil", choices=SPOILS, help="break a promise at the end: the checker must see it")
    parser.add_argument("--keep", type=Path, help="an empty folder to work in, which is kept")
    options = parser.parse_args()
    size = Size(
        series=options.series,
        senders=options.senders,
        pause_s=options.kills * 2.0 * options.senders / options.series,
    )
    kills = options.kills
    if options.short:
        size, kills = Size(series=8, senders=options.senders, pause_s=10.0), 24
    folder = options.keep or Path(tempfile.mkdtemp(prefix="orgseg-chaos-"))
    try:
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(cluster()) if options.database == "postgresql" else None
            made = stack.enter_context(world(folder / "world", size, server))
            report = run(made, kills=kills, seed=options.seed, limit_s=options.minutes * 60)
            if options.spoil:
                SPOILS[options.spoil](made)
                report.findings = check(made)
        print(report.text())
        return 1 if report.findings.problems else 0
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
