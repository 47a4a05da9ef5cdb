"""Images that come late: what becomes of the series and its jobs, at each moment of the earlier job."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orgseg_node.node.store.model import DeliveryState, Job, JobState, OutputObject, SeriesState
from orgseg_node.node.store.series_overrides import SeriesOverrides
from tests.support.ct.phantom import PhantomOptions, build_ct_series
from tests.unit.node.intake.test_inbox import Node

SMALL = PhantomOptions(slices=6, rows=16, columns=16, pixel_spacing_mm=(16.0, 16.0))
OBJECTS = [OutputObject(role=role, path=f"{role}.dcm", sop_uid=f"2.25.{n}") for n, role in enumerate("RS")]
ON_THE_WAY = (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING)


class Late(Node):
    """A node that has judged a series of which the last image is still to come."""

    def __init__(self, folder: Path, late: str = "hold") -> None:
        super().__init__(folder)
        section = self.config.completeness.model_copy(update={"late": late})
        self.config = self.config.model_copy(update={"completeness": section})
        self.store.close()
        self.start()
        self.files = build_ct_series(folder / "ct", SMALL)
        for path in self.files[:5]:
            self.take(path)
        self.judge()

    def judge(self) -> None:
        self.inbox.association_ended(1, released=True)
        self.inbox.judge_stable_series()

    def late_image(self) -> None:
        self.take(self.files[5])
        self.judge()

    @property
    def first(self) -> Job:
        return self.store.jobs_of(self.series().series_uid)[0]

    def computed(self) -> None:
        for state in ON_THE_WAY:
            self.store.move(self.first.job_id, state, "")
        self.store.begin_sending(self.first.job_id, [(item, "tps") for item in OBJECTS])

    def deliver(self, count: int) -> None:
        for delivery in self.store.claim(self.first.job_id, "tps")[:count]:
            self.store.record_delivery(
                delivery, DeliveryState.STORED, status=0, note="", next_at=datetime.now(UTC)
            )

    def notices(self) -> list[str]:
        return [e.change for e in self.store.events(self.first.job_id) if e.kind == "notice"]


def queued(node: Late) -> None:
    assert node.first.state is JobState.QUEUED


def inferring(node: Late) -> None:
    for state in ON_THE_WAY[:2]:
        node.store.move(node.first.job_id, state, "")


def in_review(node: Late) -> None:
    for state in (*ON_THE_WAY, JobState.REVIEW):
        node.store.move(node.first.job_id, state, "")


def sending_untouched(node: Late) -> None:
    node.computed()


def half_delivered(node: Late) -> None:
    node.computed()
    node.deliver(1)


def done(node: Late) -> None:
    node.computed()
    node.deliver(2)


def test_while_receiving_it_is_one_more_image(tmp_path: Path) -> None:
    node = Node(tmp_path)
    for path in build_ct_series(tmp_path / "ct", SMALL):
        node.take(path)
    assert (node.series().state, node.series().revision) == (SeriesState.RECEIVING, 1)


def test_a_series_on_hold_is_judged_again(tmp_path: Path) -> None:
    node = Node(tmp_path)
    files = build_ct_series(tmp_path / "ct", SMALL)
    for path in [*files[:2], *files[3:]]:
        node.take(path)
    node.inbox.association_ended(1, released=True)
    node.inbox.judge_stable_series()
    assert node.series().reason == "INPUT_MISSING_SLICES"
    node.take(files[2])
    node.inbox.association_ended(1, released=True)
    node.inbox.judge_stable_series()
    assert (node.series().state, node.series().revision) == (SeriesState.READY, 2)
    (job,) = node.store.jobs()
    assert (job.state, job.remark) == (JobState.QUEUED, "")


@pytest.mark.parametrize("moment", [queued, inferring, in_review, sending_untouched])
def test_a_job_that_delivered_nothing_is_superseded(tmp_path: Path, moment: Callable[[Late], None]) -> None:
    node = Late(tmp_path)
    moment(node)
    node.late_image()
    first, second = node.store.jobs_of(node.series().series_uid)
    assert first.state is JobState.SUPERSEDED
    assert (second.state, second.revision, second.remark) == (JobState.QUEUED, 2, "")
    assert node.notices() == []
    assert {d.state for d in node.store.deliveries(first.job_id)} <= {DeliveryState.DROPPED}


@pytest.mark.parametrize("moment", [half_delivered, done])
def test_after_a_delivery_the_series_is_held_with_a_notice(
    tmp_path: Path, moment: Callable[[Late], None]
) -> None:
    node = Late(tmp_path)
    moment(node)
    before = node.first.state
    node.late_image()
    assert (node.series().state, node.series().reason) == (SeriesState.HOLD, "LATE_IMAGES")
    assert [job.state for job in node.store.jobs()] == [before], "never a second structure set in silence"
    assert node.notices() == ["LATE_IMAGES"]
    node.deliver(2)
    assert node.first.state is JobState.DONE, "what was being sent is sent to its end"


@pytest.mark.parametrize("by_a_person", [True, False])
def test_it_is_contoured_again_where_that_is_configured_and_names_its_revision(
    tmp_path: Path, *, by_a_person: bool
) -> None:
    node = Late(tmp_path, late="hold" if by_a_person else "contour")
    done(node)
    node.late_image()
    if by_a_person:
        assert node.series().state is SeriesState.HOLD
        SeriesOverrides(node.store.database).force(node.series().series_uid, "by anna: new plan")
        node.inbox.judge_stable_series()
    assert node.series().state is SeriesState.READY
    first, second = node.store.jobs_of(node.series().series_uid)
    assert first.state is JobState.DONE
    assert second.job_id != first.job_id
    assert second.state is JobState.QUEUED
    assert second.remark.startswith("REV 2: Images came after contours")
    assert node.notices() == ["LATE_IMAGES"] * (2 if by_a_person else 1)


def test_an_image_that_changes_nothing_to_contour_is_no_late_image(tmp_path: Path) -> None:
    node = Late(tmp_path)
    done(node)
    localizer = SMALL.__class__(
        slices=1, rows=16, columns=16, pixel_spacing_mm=(16.0, 16.0),
        attributes={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SOPInstanceUID": "2.25.99"},
    )  # fmt: skip
    (path,) = build_ct_series(tmp_path / "localizer", localizer)
    node.take(path)
    node.judge()
    assert node.series().state is SeriesState.READY
    assert [job.state for job in node.store.jobs()] == [JobState.DONE]
    assert node.notices() == []


@pytest.mark.parametrize("late", ["hold", "contour"])
def test_after_retention_too_another_structure_set_is_never_sent_in_silence(
    tmp_path: Path, late: str
) -> None:
    node = Late(tmp_path, late=late)
    done(node)
    assert node.store.mark_purged(node.first)
    for path in node.files:  # all of it is sent again, with the image that was missing
        node.take(path)
    node.judge()
    if late == "hold":
        assert (node.series().state, node.series().reason) == (SeriesState.HOLD, "LATE_IMAGES")
        assert len(node.store.jobs()) == 1
    else:
        assert node.store.jobs()[0].remark.startswith("REV 2: Images came after contours")
    assert node.notices() == ["LATE_IMAGES"]


def test_after_retention_the_same_series_is_contoured_again_as_the_same_job(tmp_path: Path) -> None:
    node = Late(tmp_path)
    done(node)
    assert node.store.mark_purged(node.first)
    for path in node.files[:5]:
        node.take(path)
    node.judge()
    assert node.series().state is SeriesState.READY
    assert [job.state for job in node.store.jobs()] == [JobState.QUEUED]
