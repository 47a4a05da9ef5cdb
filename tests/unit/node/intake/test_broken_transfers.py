"""Series whose sending was broken off: they wait for a retry, and what is contoured without one says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orgseg_node import durable
from orgseg_node.errors import DiskFull
from orgseg_node.node.config.node_config import Peer
from orgseg_node.node.intake.inbox import Inbox
from orgseg_node.node.store.model import Job, SeriesState
from orgseg_node.node.store.series_overrides import SeriesOverrides
from orgseg_node.node.store.source_answers import Answer, Answers, Completeness
from orgseg_node.node.store.store import Store
from tests.support.ct.phantom import PhantomOptions, build_ct_series
from tests.unit.node.intake.test_inbox import Node

SMALL = PhantomOptions(slices=6, rows=16, columns=16, pixel_spacing_mm=(16.0, 16.0))


class Broken(Node):
    """A node with a clock that the test sets, to which half of a series was sent."""

    def __init__(self, folder: Path, options: PhantomOptions = SMALL, **completeness: Any) -> None:
        self.now = datetime.now(UTC)
        super().__init__(folder)
        section = self.config.completeness.model_copy(update=completeness)
        self.config = self.config.model_copy(update={"completeness": section})
        self.store.close()
        self.start()
        self.files = build_ct_series(folder / "ct", options)
        for path in self.files[:3]:
            self.take(path)

    def start(self) -> None:
        self.store = Store(self.data, clock=lambda: self.now)
        self.inbox = Inbox(self.config, self.store, clock=lambda: self.now)

    def after(self, seconds: float) -> SeriesState:
        """The state of the series after so many more seconds."""
        self.now += timedelta(seconds=seconds)
        self.inbox.judge_stable_series()
        return self.series().state

    def cut_off(self, association: int = 1) -> None:
        self.inbox.association_ended(association, cause="idle time-out")

    @property
    def job(self) -> Job:
        (job,) = self.store.jobs()
        return job


def test_the_waiting_starts_at_the_break_and_the_objects_say_that_there_was_one(tmp_path: Path) -> None:
    node = Broken(tmp_path)
    assert node.after(70) is SeriesState.RECEIVING, "silence on an open association"
    node.cut_off()
    assert node.after(299) is SeriesState.RECEIVING
    assert node.after(1) is SeriesState.READY
    assert node.job.remark.startswith("BROKEN OFF: The sending of this series was broken off")
    assert "idle time-out" in node.series().note
    assert "broken off" in [event.change for event in node.store.events(node.series().series_uid)]


def test_a_series_that_ended_in_order_waits_no_longer_and_has_no_remark(tmp_path: Path) -> None:
    node = Broken(tmp_path)
    node.inbox.association_ended(1, released=True)
    assert node.after(5) is SeriesState.READY
    assert not node.job.remark


def test_a_retry_that_ends_in_order_clears_the_break(tmp_path: Path) -> None:
    node = Broken(tmp_path)
    node.cut_off()
    node.now += timedelta(seconds=200)
    for path in node.files:  # the first half is here already
        node.take(path, association=2)
    node.inbox.association_ended(2, released=True)
    assert node.after(5) is SeriesState.READY
    assert (node.job.slices, node.job.remark) == (6, "")


def test_a_retry_of_what_is_here_already_clears_the_break_too(tmp_path: Path) -> None:
    node = Broken(tmp_path)
    node.cut_off()
    node.now += timedelta(seconds=10)
    for path in node.files[:3]:
        node.take(path, association=2)
    node.inbox.association_ended(2, released=True)
    assert node.after(5) is SeriesState.READY


def test_a_retry_that_is_broken_off_too_starts_the_waiting_again(tmp_path: Path) -> None:
    node = Broken(tmp_path)
    node.cut_off()
    node.now += timedelta(seconds=200)
    node.take(node.files[3], association=2)
    node.cut_off(2)
    assert node.after(299) is SeriesState.RECEIVING
    assert node.after(1) is SeriesState.READY
    assert node.job.remark


def test_an_association_that_was_open_beside_the_broken_one_is_no_retry(tmp_path: Path) -> None:
    node = Broken(tmp_path)
    node.take(node.files[3], association=2)
    node.now += timedelta(seconds=1)
    node.cut_off()
    node.now += timedelta(seconds=1)
    node.inbox.association_ended(2, released=True)
    assert node.after(290) is SeriesState.RECEIVING


@pytest.mark.parametrize("was_cut", [True, False])
def test_a_break_survives_a_restart_and_a_stop_of_the_node_is_one(tmp_path: Path, *, was_cut: bool) -> None:
    node = Broken(tmp_path)
    if was_cut:
        node.cut_off()
    node.store.close()
    node.now += timedelta(seconds=1000)
    node.start()
    node.inbox.adopt()
    assert node.after(299) is SeriesState.RECEIVING, "the sender could not send while the node was down"
    assert node.after(1) is SeriesState.READY
    assert node.job.remark.startswith("BROKEN OFF")


def test_a_restart_after_an_end_in_order_is_no_break(tmp_path: Path) -> None:
    node = Broken(tmp_path)
    node.inbox.association_ended(1, released=True)
    node.store.close()
    node.now += timedelta(seconds=1)
    node.start()
    node.inbox.adopt()
    assert node.after(5) is SeriesState.READY
    assert not node.job.remark


def test_an_image_cut_off_on_an_association_of_its_own_is_a_break_of_its_series(tmp_path: Path) -> None:
    node = Broken(tmp_path)
    node.inbox.association_ended(1, released=True)
    node.inbox.association_ended(2, cause="A-ABORT", incomplete=node.series().series_uid)
    assert node.after(299) is SeriesState.RECEIVING
    assert node.after(1) is SeriesState.READY
    assert node.job.remark.startswith("BROKEN OFF")


@pytest.mark.parametrize("again", [False, True])
def test_an_image_that_could_not_be_stored_is_a_break_unless_it_came_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, again: bool
) -> None:
    node = Broken(tmp_path)

    def full(*_: object) -> None:
        raise DiskFull("0 MB are free.")

    with monkeypatch.context() as patched:
        patched.setattr(durable, "require_space", full)
        with pytest.raises(DiskFull):
            node.take(node.files[3])
    if again:
        node.take(node.files[3])
    node.inbox.association_ended(1, released=True)
    assert node.after(5) is (SeriesState.READY if again else SeriesState.RECEIVING)
    assert node.after(295) is SeriesState.READY
    assert node.job.remark.startswith("BROKEN OFF") is not again


def test_it_is_held_where_that_is_configured_and_a_person_may_have_it_contoured(tmp_path: Path) -> None:
    node = Broken(tmp_path, broken="hold", broken_wait_s=60.0)
    node.cut_off()
    assert node.after(60) is SeriesState.HOLD
    series = node.series()
    assert series.reason == "SENDING_BROKEN"
    assert "series force" in series.note
    SeriesOverrides(node.store.database).force(series.series_uid, "by anna: complete")
    assert node.after(0) is SeriesState.READY
    assert "broken off" in node.job.remark
    assert "user's decision" in node.job.remark


def test_headers_that_count_more_images_hold_a_broken_series_only(tmp_path: Path) -> None:
    for name, broken in (("broken", True), ("ordered", False)):
        options = PhantomOptions(
            slices=6,
            rows=16,
            columns=16,
            pixel_spacing_mm=(16.0, 16.0),
            attributes={"ImagesInAcquisition": 6},
        )
        node = Broken(tmp_path / name, options)
        node.inbox.association_ended(1, released=not broken)
        state = node.after(300)
        if broken:
            assert (state, node.series().reason) == (SeriesState.HOLD, "SENDING_BROKEN")
            assert "count 6 images, 3 are here" in node.series().note
        else:
            assert state is SeriesState.READY
        assert "6 images" in node.series().note


@pytest.mark.parametrize("expect", ["none", "ask"])
def test_a_source_that_has_no_more_images_makes_it_as_good_as_any_other(tmp_path: Path, expect: str) -> None:
    node = Broken(tmp_path, expect=expect)
    peers = (Peer(ae_title="CT", source="pacs"),)
    node.config = node.config.model_copy(update={"peers": peers})
    node.store.close()
    node.start()
    node.inbox.adopt()
    assert node.after(300) is SeriesState.RECEIVING
    ((series, name),) = node.inbox.series_to_ask_about()
    assert name == "pacs"
    Answers(node.store.database).put(
        Completeness(
            series_uid=series.series_uid, revision=1, answer=Answer.COMPLETE, expected=3, held=3, fetches=0,
            note="PACS has 3 images of it, all are here", first_asked_at=node.now, next_at=node.now,
        )
    )  # fmt: skip
    assert node.after(0) is SeriesState.READY
    assert not node.job.remark
