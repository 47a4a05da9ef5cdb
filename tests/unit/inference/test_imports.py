"""torch and nnU-Net are loaded only where networks are computed: all other modules start without them."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

from orgseg_node import inference

_COMPUTING = ("orgseg_node.inference.engine", "orgseg_node.inference.backends")
_PROGRAM = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    loaded = {"torch", "nnunetv2"} & sys.modules.keys()
    assert not loaded, f"{name} imports {loaded}"
"""


def test_modules_outside_engine_and_backends_never_import_torch() -> None:
    names = [
        module.name
        for module in pkgutil.walk_packages(inference.__path__, "orgseg_node.inference.")
        if not module.name.startswith(_COMPUTING)
    ]
    expected = {"predictor", "preparing", "chunks", "orientation", "merging", "loading", "bundles.manifest"}
    assert {f"orgseg_node.inference.{name}" for name in expected} <= set(names)
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *names], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
