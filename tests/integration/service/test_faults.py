"""The fault table, row by row: what is expected was written before it was seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.__main__ import FAULTS
from tests.faults.bench import Fault, NotRun
from tests.support.node.leaks import LEAKS

pytestmark = [pytest.mark.peer, pytest.mark.endurance, *LEAKS]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(
            fault,
            id=fault.name.replace(" ", "-"),
            marks=[pytest.mark.slow, pytest.mark.timeout(1800)] if fault.slow else [],
        )
        for fault in FAULTS
    ],
)
def test_a_fault_does_what_is_expected(fault: Fault, tmp_path: Path) -> None:
    try:
        assert fault.trial(tmp_path)
    except NotRun as error:
        pytest.skip(str(error))
