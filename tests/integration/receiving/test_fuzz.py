"""Damaged files end in a coded refusal, or are read: no crash, no hang, no unbounded memory.

The children run under a limit on their address space, so that a demand for memory that nothing in the file
justifies ends as an uncoded `MemoryError` and counts as a failure.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from tests.support.ct.fuzz import Outcome, fuzz, write_bases
from tests.support.ct.mutations import KINDS, DoesNotFit

pytestmark = pytest.mark.endurance

MEMORY_MB = 1024
"""Most memory the process may ever hold: 150 MB of imports, and four slices of the largest size accepted."""


def _all_stood(folder: Path, seed: int, cases: range) -> list[Outcome]:
    outcomes = list(fuzz(folder, seed, cases))
    assert [outcome.case for outcome in outcomes] == list(cases), "every case ends in exactly one outcome"
    assert [outcome for outcome in outcomes if outcome.is_failure] == []
    assert max(outcome.peak_mb for outcome in outcomes) < MEMORY_MB
    return outcomes


def test_damaged_files_are_read_or_refused_with_a_code(tmp_path: Path) -> None:
    outcomes = _all_stood(tmp_path, seed=1, cases=range(150))
    ends = Counter(outcome.end for outcome in outcomes)
    assert ends["accepted"] > 10, "the damage is not so coarse that nothing reaches the decoders"
    assert ends["INPUT_UNDECODABLE"] > 0
    assert len(ends) > 8


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_thousand_damaged_files_are_read_or_refused_with_a_code(tmp_path: Path) -> None:
    outcomes = _all_stood(tmp_path, seed=20, cases=range(2000))
    kinds, bases = ({getattr(outcome, name) for outcome in outcomes} for name in ("kind", "base"))
    assert kinds == set(KINDS)
    assert len(bases) == 13


def test_the_same_seed_damages_the_same_way(tmp_path: Path) -> None:
    write_bases(tmp_path)
    honest = (tmp_path / "explicit" / "slice_001.dcm").read_bytes()
    for damage in KINDS.values():
        with contextlib.suppress(DoesNotFit):
            assert damage(honest, Random(5)) == damage(honest, Random(5)) != honest


@pytest.mark.parametrize("death", ["kill", "hang", "exit"])
def test_a_child_that_comes_to_grief_is_counted_and_the_next_case_goes_on(
    death: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORGSEG_FUZZ_DIES", f"3 {death}")
    outcomes = list(fuzz(tmp_path, 1, range(6), case_s=5.0))
    assert [outcome.case for outcome in outcomes] == list(range(6))
    expected = {"kill": "CRASH SIGSEGV", "hang": "HANG", "exit": "CRASH exit 7"}
    assert [outcome.end for outcome in outcomes if outcome.is_failure] == [expected[death]]
