"""Learning rate and progress of a fine-tuning."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_training.nnunet.progress import ProgressReader, ProgressWriter
from orgseg_training.nnunet.trainer_tune import learning_rate


def test_warm_up_and_cosine() -> None:
    rates = [learning_rate(step, 100, 10, 1e-3) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == pytest.approx(1e-3)
    assert rates.index(max(rates)) in {9, 10}
    assert rates[-1] < 2e-5
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_events_are_read_once_and_a_torn_line_waits(tmp_path: Path) -> None:
    file = tmp_path / "progress.jsonl"
    reader = ProgressReader(file)
    assert list(reader.events()) == []
    writer = ProgressWriter(file)
    writer.event("timed", seconds_left=5)
    writer.step(1, 10, 0.5)
    writer.step(2, 10, 0.5)  # too soon after the other
    writer.step(10, 10, 0.25)
    assert [event["event"] for event in reader.events()] == ["timed", "step", "step"]
    with file.open("a") as stream:
        stream.write('{"event": "step", "done"')
    assert list(reader.events()) == []
    with file.open("a") as stream:
        stream.write(": 3}\n")
    assert [event["done"] for event in reader.events()] == [3]


def test_a_new_reader_leaves_out_what_was_there_before(tmp_path: Path) -> None:
    writer = ProgressWriter(tmp_path / "progress.jsonl")
    writer.event("timed")
    reader = ProgressReader(tmp_path / "progress.jsonl")
    writer.event("validated")
    assert [event["event"] for event in reader.events()] == ["validated"]
