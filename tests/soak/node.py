"""The node of the soak: ``python -m tests.soak.node NODE.toml``; the real one with the child of the soak."""

from __future__ import annotations

import sys
from pathlib import Path

from orgseg_node.node.config.load import load_config
from orgseg_node.node.service import run_node

if __name__ == "__main__":
    run_node(
        load_config(Path(sys.argv[1])),
        child_command=(sys.executable, "-m", "tests.soak.child"),
        tick_s=0.2,
    )
