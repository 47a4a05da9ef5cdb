"""A reference that was learned from synthetic patients, once for all tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orgseg_node.core.scan.reference import ScanReference, learn_scan_reference
from tests.support.ct.torsos import Torso
from tests.support.processes.once import once


@pytest.fixture(scope="session")
def reference(_own_cache: None) -> ScanReference:
    return once("scan-reference", _learn)


def _learn(_folder: Path) -> ScanReference:
    rng = np.random.default_rng(5)
    scans = [
        Torso(
            seed=seed,
            low=float(rng.integers(-38, -34) * 5),
            high=float(rng.integers(26, 31) * 5),
            z_mm=float(rng.integers(-40, 40) * 5),
        ).training_scan()
        for seed in range(18)
    ]
    found = learn_scan_reference(scans)
    assert found is not None
    return found
