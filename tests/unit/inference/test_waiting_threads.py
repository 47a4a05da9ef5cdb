"""Threads that wait for each other leave their core to other programs, unless the site wants otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_SHOW = "import orgseg_node.inference, os, sys; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"


@pytest.mark.parametrize(("given", "used"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_the_policy_is_set_before_torch_is_loaded(given: dict[str, str], used: str) -> None:
    others = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    answer = subprocess.run(
        [sys.executable, "-c", _SHOW], env=others | given, capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == [used, "False"]
