"""The process that reads what others sent is limited, and its end belongs to one structure set."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from orgseg_node.errors import FeedbackUnmeasured, JobStopped
from orgseg_node.node.feedback.child import run_child


def facts_of(path: Path) -> dict[str, str]:
    return {"what": "facts", "returned": str(path), "approved_label": ""}


def test_a_file_that_is_none_is_answered_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(b"no DICOM at all")
    answer = run_child(
        facts_of(path), tmp_path / "work", memory_mb=2000, limit_s=120, stopping=threading.Event()
    )
    assert answer["error"] == "A file is not DICOM."


def test_a_process_that_takes_too_long_or_too_much_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(b"x")
    with pytest.raises(FeedbackUnmeasured, match="more than 0 s"):
        run_child(facts_of(path), tmp_path / "work", memory_mb=2000, limit_s=0.0, stopping=threading.Event())
    with pytest.raises(FeedbackUnmeasured, match="MB of memory"):
        run_child(facts_of(path), tmp_path / "work", memory_mb=1, limit_s=120, stopping=threading.Event())


def test_it_ends_when_the_node_stops(tmp_path: Path) -> None:
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(JobStopped):
        run_child(facts_of(tmp_path / "x"), tmp_path / "work", memory_mb=2000, limit_s=120, stopping=stopping)
