"""Overrides and conflicts: what a person decides about a series, and what the inbox does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pydicom
import pytest

from orgseg_node.errors import SeriesRefuses
from orgseg_node.node.intake.conflicts import Keep, resolve
from orgseg_node.node.intake.inbox import Inbox
from orgseg_node.node.store.model import JobState, SeriesState
from orgseg_node.node.store.series_overrides import SeriesOverrides
from tests.support.ct.phantom import PhantomOptions, build_ct_series
from tests.unit.node.intake.test_inbox import Node

SMALL = PhantomOptions(slices=6, rows=16, columns=16, pixel_spacing_mm=(16.0, 16.0))
ANNA = "by anna: she said so"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return build_ct_series(tmp_path / "ct", SMALL)


def overrides(node: Node) -> SeriesOverrides:
    return SeriesOverrides(node.store.database)


def held_for_a_gap(node: Node, files: list[Path]) -> str:
    for path in [*files[:2], *files[3:]]:
        node.take(path)
    node.inbox.association_ended(1, released=True)
    node.inbox.judge_stable_series()
    assert node.series().reason == "INPUT_MISSING_SLICES"
    return node.series().series_uid


def test_a_held_series_is_contoured_without_its_missing_slice_when_forced(
    node: Node, files: list[Path]
) -> None:
    uid = held_for_a_gap(node, files)
    overrides(node).force(uid, ANNA)
    assert node.inbox.judge_stable_series() == [uid]
    assert node.series().state is SeriesState.READY
    (job,) = node.store.jobs()
    assert (job.state, job.slices) == (JobState.QUEUED, 5)
    assert job.remark == "INCOMPLETE: Contoured by a user's decision without 1 missing slices."
    assert any(ANNA in event.note for event in node.store.events(uid))
    assert overrides(node).all() == {}


def test_the_force_is_for_one_revision_and_what_comes_later_is_judged_as_usual(
    node: Node, files: list[Path]
) -> None:
    uid = held_for_a_gap(node, files)
    overrides(node).force(uid, ANNA)
    node.inbox.judge_stable_series()
    node.take(files[2])
    assert node.inbox.judge_stable_series() == [], "its association is open"
    node.inbox.association_ended(1, released=True)
    node.inbox.judge_stable_series()
    states = [job.state for job in node.store.jobs_of(uid)]
    assert states == [JobState.SUPERSEDED, JobState.QUEUED]
    assert node.store.jobs_of(uid)[1].remark == ""


def test_a_force_that_a_crash_left_behind_does_not_count_for_a_later_revision(
    node: Node, files: list[Path]
) -> None:
    uid = held_for_a_gap(node, files)
    overrides(node).force(uid, ANNA)
    override = overrides(node).all()[uid]
    assert override.forces(1)
    assert not override.forces(2)


def test_a_force_does_not_help_where_geometry_would_be_a_guess(node: Node, tmp_path: Path) -> None:
    for path in build_ct_series(
        tmp_path / "few", PhantomOptions(slices=2, rows=16, columns=16, pixel_spacing_mm=(16.0, 16.0))
    ):
        node.take(path)
    node.inbox.association_ended(1, released=True)
    node.inbox.judge_stable_series()
    uid = node.series().series_uid
    overrides(node).force(uid, ANNA)
    node.inbox.judge_stable_series()
    assert (node.series().state, node.series().reason) == (SeriesState.HOLD, "INPUT_TOO_FEW_SLICES")
    assert overrides(node).all() == {}


def test_a_force_waits_neither_for_a_stable_series_nor_for_an_association(
    node: Node, files: list[Path]
) -> None:
    for path in files:
        node.take(path)
    assert node.inbox.judge_stable_series() == []
    overrides(node).force(node.series().series_uid, ANNA)
    node.inbox.judge_stable_series()
    assert node.series().state is SeriesState.READY
    assert node.store.jobs()[0].remark == "", "nothing was missing"


def test_a_series_waits_until_it_is_released(node: Node, files: list[Path]) -> None:
    for path in files:
        node.take(path)
    uid = node.series().series_uid
    node.inbox.association_ended(1, released=True)
    overrides(node).wait(uid, ANNA, None)
    assert node.inbox.judge_stable_series() == []
    overrides(node).release(uid, ANNA)
    assert node.inbox.judge_stable_series() == [uid]
    assert [e.change for e in node.store.events(uid) if e.change in {"wait", "release"}] == [
        "wait",
        "release",
    ]


@pytest.mark.parametrize(("minutes", "judged"), [(59, 1), (61, 0)])
def test_a_series_waits_for_a_time(node: Node, files: list[Path], minutes: int, judged: int) -> None:
    for path in files:
        node.take(path)
    node.inbox.association_ended(1, released=True)
    until = datetime.now(UTC) + timedelta(minutes=minutes)  # the inbox's clock is an hour ahead
    overrides(node).wait(node.series().series_uid, ANNA, until)
    assert len(node.inbox.judge_stable_series()) == judged


def test_what_cannot_be_done_is_refused_with_what_can(node: Node, files: list[Path]) -> None:
    for path in files:
        node.take(path)
    node.inbox.association_ended(1, released=True)
    node.inbox.judge_stable_series()
    uid = node.series().series_uid
    for refused in (
        lambda: overrides(node).force(uid, ANNA),
        lambda: overrides(node).wait(uid, ANNA, None),
        lambda: overrides(node).release(uid, ANNA),
        lambda: overrides(node).force("1.2.3", ANNA),
        lambda: resolve(node.store, node.data, uid, Keep.FIRST, ANNA),
    ):
        with pytest.raises(SeriesRefuses):
            refused()


@pytest.mark.parametrize("keep", list(Keep))
def test_a_conflict_is_resolved_and_no_file_is_lost(node: Node, files: list[Path], keep: Keep) -> None:
    for path in files:
        node.take(path)
    other = pydicom.dcmread(files[0])
    before, after = other.PixelData, other.PixelData[::-1]
    other.PixelData = after
    other.save_as(files[0])
    assert node.take(files[0]) is SeriesState.CONFLICT
    uid = node.series().series_uid
    node.inbox.association_ended(1, released=True)
    assert resolve(node.store, node.data, uid, keep, ANNA) == 1
    assert (node.series().state, node.series().revision) == (SeriesState.RECEIVING, 2)
    assert node.series().instances == 6
    (aside,) = (node.data / "quarantine").iterdir()
    (kept,) = node.store.copies(other.SOPInstanceUID)
    pixels = (before, after) if keep is Keep.FIRST else (after, before)
    found = (pydicom.dcmread(node.data / kept.path).PixelData, pydicom.dcmread(aside).PixelData)
    assert found == pixels
    assert node.inbox.adopt() == (0, 0), "what was set aside does not come back at the next start"
    node.ahead += timedelta(minutes=1)  # its sender had time to continue
    node.inbox.judge_stable_series()
    assert node.series().state is SeriesState.READY


def test_resolving_continues_after_a_crash_between_file_and_row(node: Node, files: list[Path]) -> None:
    for path in files:
        node.take(path)
    other = pydicom.dcmread(files[0])
    other.PixelData = other.PixelData[::-1]
    other.save_as(files[0])
    node.take(files[0])
    copies = sorted(node.store.copies(other.SOPInstanceUID), key=lambda one: one.received_at)
    (node.data / "quarantine").mkdir()
    (node.data / copies[1].path).rename(node.data / "quarantine" / "moved.dcm")
    assert resolve(node.store, node.data, node.series().series_uid, Keep.FIRST, ANNA) == 1
    assert node.series().state is SeriesState.RECEIVING


def test_an_image_that_two_series_claim_stays_with_one_of_them(node: Node, files: list[Path]) -> None:
    node.take(files[0])
    first = node.series().series_uid
    other = pydicom.dcmread(files[0])
    other.SeriesInstanceUID = "1.2.3"
    other.save_as(files[0])
    node.take(files[0])
    resolve(node.store, node.data, "1.2.3", Keep.FIRST, ANNA)
    assert node.store.one_series(first).state is SeriesState.RECEIVING
    assert node.store.one_series("1.2.3").reason == "SETTLED_ELSEWHERE"


@pytest.mark.parametrize(("released", "after_s"), [(True, 3), (False, 301)])
def test_the_waiting_time_is_shorter_after_an_association_that_was_released(
    tmp_path: Path, files: list[Path], *, released: bool, after_s: float
) -> None:
    node = Node(tmp_path)
    began = datetime.now(UTC)
    now = [began]
    receiver = node.config.receiver.model_copy(update={"quiet_seconds": 20.0})
    section = node.config.completeness.model_copy(update={"quiet_seconds_after_release": 2.0})
    config = node.config.model_copy(update={"receiver": receiver, "completeness": section})
    node.inbox = Inbox(config, node.store, clock=lambda: now[0])
    for path in files:
        node.take(path)
    node.inbox.association_ended(1, released=released)
    came = node.series().last_received_at
    for seconds in (1, after_s - 2):
        now[0] = came + timedelta(seconds=seconds)
        assert node.inbox.judge_stable_series() == []
    now[0] = came + timedelta(seconds=after_s)
    assert len(node.inbox.judge_stable_series()) == 1
