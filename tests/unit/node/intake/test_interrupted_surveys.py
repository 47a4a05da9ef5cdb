"""A node that is killed as a whole while it reads a series: that counts, a stop in order does not."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orgseg_node.errors import NotDurable, ReadingStopped, SurveyDied
from orgseg_node.node.intake.file_reader import DirectReader, SurveyedSeries
from orgseg_node.node.intake.inbox import Inbox, InboxCallbacks
from orgseg_node.node.intake.reading_process import ReadingProcess
from orgseg_node.node.store.model import Series, SeriesState
from tests.support.ct.phantom import PhantomOptions, build_ct_series
from tests.unit.node.intake.test_inbox import Node


class Killed(BaseException):
    """The whole node ends at this point; nothing after it runs, not even a handler of exceptions."""


class _KillsNode(DirectReader):
    """A reader under which the whole node is killed, or stopped in order."""

    def __init__(self, end: BaseException | None) -> None:
        self.end = end
        self.surveys = 0

    def survey(self, paths: Sequence[Path]) -> SurveyedSeries:
        self.surveys += 1
        if self.end is not None:
            raise self.end
        return super().survey(paths)


class Restarted(Node):
    """A node that is started again and again on the same data folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.now = datetime.now(UTC)
        self.reader = _KillsNode(None)
        self.preloaded: list[Path] = []
        self.start_again(None)
        for path in build_ct_series(folder / "ct", PhantomOptions(slices=6, rows=16, columns=16)):
            self.take(path)
        self.inbox.association_ended(1, released=True)

    def start_again(self, end: BaseException | None) -> None:
        self.reader = _KillsNode(end)
        callbacks = InboxCallbacks(preload=self.preloaded.append)
        self.inbox = Inbox(
            self.config, self.store, clock=lambda: self.now, reader=self.reader, callbacks=callbacks
        )
        self.inbox.adopt()

    def judge_until(self, end: BaseException | None) -> Series:
        """Start, wait until the series is judged, and end in the middle of it."""
        self.start_again(end)
        self.now += timedelta(minutes=5)
        if isinstance(end, Killed):
            with pytest.MonkeyPatch.context() as patch:  # a killed process runs no `finally`
                patch.setattr(self.inbox._judge._attempts, "end", lambda _uid: None)
                with pytest.raises(Killed):
                    self.inbox.judge_stable_series()
        else:
            self.inbox.judge_stable_series()
        return self.series()


@pytest.fixture
def node(tmp_path: Path) -> Restarted:
    return Restarted(tmp_path)


def test_a_series_over_which_the_node_is_killed_three_times_is_held(node: Restarted) -> None:
    for _ in range(3):
        assert node.judge_until(Killed()).state is SeriesState.RECEIVING
    node.start_again(Killed())
    series = node.series()
    assert (series.state, series.reason) == (SeriesState.HOLD, "SERIES_SURVEY_DIED")
    assert "the node itself ended" in series.note
    assert "series judge" in series.note
    assert node.reader.surveys == 0


def test_after_two_kills_a_sound_series_is_judged_and_the_count_is_gone(node: Restarted) -> None:
    for _ in range(2):
        node.judge_until(Killed())
    assert node.judge_until(None).state is SeriesState.READY
    assert node.inbox._judge._attempts.of(node.series()) is None


def test_a_stop_in_order_never_counts(node: Restarted) -> None:
    for _ in range(5):
        assert node.judge_until(ReadingStopped()).state is SeriesState.RECEIVING
    found = node.inbox._judge._attempts.of(node.series())
    assert found is None or found.attempts == 0
    assert node.judge_until(None).state is SeriesState.READY


def test_a_series_is_read_ahead_by_one_process_only(node: Restarted) -> None:
    for _ in range(3):  # each is killed before the series is stable
        node.start_again(None)
        node.now += timedelta(seconds=3)
        node.inbox.judge_stable_series()
    assert len(node.preloaded) == 1
    assert node.judge_until(None).state is SeriesState.READY


def test_what_is_read_while_the_node_stops_says_nothing_about_the_files(tmp_path: Path) -> None:
    code = "import time; from multiprocessing.connection import Connection; c = Connection(0); c.send(True)"
    reading = ReadingProcess(
        memory_mb=1000, limit_s=60, command=(sys.executable, "-c", f"{code}; time.sleep(60)")
    )
    reading.await_ready()
    errors: list[BaseException] = []

    def survey() -> None:
        try:
            reading.survey([tmp_path / "a"])
        except ReadingStopped as error:
            errors.append(error)

    thread = threading.Thread(target=survey)
    thread.start()
    time.sleep(0.2)
    reading.stop()
    thread.join(10)
    assert len(errors) == 1
    with pytest.raises(ReadingStopped):
        reading.survey([tmp_path / "a"])
    with pytest.raises(NotDurable):
        reading.differences(tmp_path / "a", tmp_path / "b")


def test_a_process_that_does_not_start_is_an_error_of_its_own() -> None:
    reading = ReadingProcess(
        memory_mb=1000, limit_s=60, command=(sys.executable, "-c", "raise SystemExit(3)")
    )
    with pytest.raises(SurveyDied, match="did not start: status 3"):
        reading.await_ready()
    reading.stop()
