"""An organ that was looked for and never found is reported before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_training.datasets.case import OrganState
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.durable import read_json
from orgseg_training.errors import NoPositives
from orgseg_training.experiment.coverage import require_drawn


def _case(database: str, name: str, **states: str) -> StoredCase:
    return StoredCase(
        key=f"{database}__{name}",
        database=database,
        patient=name,
        age_years=None,
        test=False,
        states={organ: OrganState(state) for organ, state in states.items()},
        voxels_sha256="",
        coarse_sha256="",
        folder=Path(),
    )


CASES = [
    _case("a", "1", liver="drawn", spleen="outside"),
    _case("a", "2", liver="outside"),
    _case("b", "1", spleen="drawn", rectum="outside"),
]


def test_states_are_counted_and_empty_organs_named(tmp_path: Path) -> None:
    require_drawn(CASES, ["liver", "spleen"], tmp_path / "coverage.json")
    assert read_json(tmp_path / "coverage.json") == {
        "scans": {
            "a": {"liver": {"drawn": 1, "outside": 1}, "spleen": {"outside": 1, "not_drawn": 1}},
            "b": {"spleen": {"drawn": 1}, "rectum": {"outside": 1}},
        },
        "looked_for_and_never_there": {"a": ["spleen"], "b": ["rectum"]},
    }


def test_an_organ_that_is_empty_everywhere_is_refused_with_all_others(tmp_path: Path) -> None:
    with pytest.raises(NoPositives, match="any data set: rectum, brain"):
        require_drawn(CASES, ["liver", "rectum", "brain"], tmp_path / "coverage.json")
