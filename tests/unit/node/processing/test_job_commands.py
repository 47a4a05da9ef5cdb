"""What a person does with jobs: what it does, what it refuses, and who it was."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orgseg_node.errors import JobRefuses, UnknownJob
from orgseg_node.node.processing.engine import RunState
from orgseg_node.node.processing.job_commands import JobCommands
from orgseg_node.node.store.model import DeliveryState, Job, JobState
from tests.unit.node.processing.test_dispatcher import RTSTRUCT, House

ANNA = "by anna: she said so"
WAY = (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING)
PLACES = {"tps": ("RTSTRUCT",)}
KEPT = replace(RTSTRUCT, sha256="0" * 64)

PATHS: dict[JobState, tuple[JobState, ...]] = {
    JobState.QUEUED: (),
    **{state: WAY[: n + 1] for n, state in enumerate(WAY)},
    JobState.REVIEW: (*WAY, JobState.REVIEW),
    JobState.RETRY_WAIT: (*WAY[:2], JobState.RETRY_WAIT),
    JobState.FAILED: (JobState.FAILED,),
    JobState.CANCELLED: (JobState.CANCELLED,),
    JobState.SUPERSEDED: (JobState.SUPERSEDED,),
    JobState.REJECTED: (*WAY, JobState.REVIEW, JobState.REJECTED),
}
ALLOWED = {
    "retry": {JobState.FAILED, JobState.CANCELLED},
    "cancel": {JobState.QUEUED, *WAY, JobState.REVIEW, JobState.RETRY_WAIT, JobState.SENDING},
    "approve": {JobState.REVIEW},
    "reject": {JobState.REVIEW},
}


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def job_in(house: House, state: JobState) -> Job:
    if state in {JobState.SENDING, JobState.DONE}:
        job = house.sending("tps")
        if state is JobState.DONE:
            deliver(house, job)
        return house.store.job(job.job_id)
    job = house.job()
    for step in PATHS[state]:
        house.store.move(job.job_id, step, "n", reason="R" if step is JobState.FAILED else "")
    return house.store.job(job.job_id)


def deliver(house: House, job: Job, state: DeliveryState = DeliveryState.STORED) -> None:
    for delivery in house.store.claim(job.job_id, "tps"):
        house.store.settle(delivery, state, status=0, note="", next_at=datetime.now(UTC))


@pytest.mark.parametrize(("command", "state"), list(itertools.product(ALLOWED, JobState)))
def test_a_command_does_what_the_state_allows_and_else_says_what_can_be_done(
    house: House, command: str, state: JobState
) -> None:
    job = job_in(house, state)
    do = getattr(JobCommands(house.store), command)
    if state in ALLOWED[command]:
        do(job.job_id, ANNA)
        assert any(ANNA in event.note for event in house.store.events(job.job_id))
    else:
        with pytest.raises(JobRefuses, match=rf"{state} cannot be") as refused:
            do(job.job_id, ANNA)
        assert len(refused.value.detail.split(". ")) == 2
        assert house.store.job(job.job_id) == job


def test_an_unknown_job_is_said(house: House) -> None:
    for command in ALLOWED:
        with pytest.raises(UnknownJob):
            getattr(JobCommands(house.store), command)("abc", ANNA)


def test_a_retry_begins_with_a_clean_slate(house: House) -> None:
    job = house.job()
    house.store.lives.begin(job.job_id)
    house.store.lives.end(job.job_id, died=True)
    house.store.lives.spare(job.job_id, 100)
    house.store.move(job.job_id, JobState.FAILED, "n", reason="R")
    again = JobCommands(house.store).retry(job.job_id, ANNA)
    assert (again.state, again.run, again.deaths, again.memory_budget_mb) == (JobState.QUEUED, 2, 0, None)


def test_a_job_of_an_earlier_revision_is_not_started_again(house: House) -> None:
    job = job_in(house, JobState.FAILED)
    with house.store.database.write() as tx:
        tx.run(
            "INSERT INTO job (job_id, series_uid, revision, content_sha256, bundles, slices, state,"
            " created_at, updated_at) VALUES ('f0f0f0f0f0f0f0f0', ?, 2, ?, 'b', 3, 'QUEUED', ?, ?)",
            (job.series_uid, "0" * 64, "2026-01-02", "2026-01-02"),
        )
    with pytest.raises(JobRefuses, match="later revision"):
        JobCommands(house.store).retry(job.job_id, ANNA)


def test_cancelled_in_sending_it_says_what_was_sent_and_a_retry_sends_the_rest(house: House) -> None:
    job = house.sending("tps", "pacs")
    deliver(house, job)
    cancelled = JobCommands(house.store).cancel(job.job_id, ANNA)
    assert "sent before: RTSTRUCT to tps" in cancelled.note
    states = {d.destination: d.state for d in house.store.deliveries(job.job_id)}
    assert states == {"tps": DeliveryState.STORED, "pacs": DeliveryState.DROPPED}
    assert house.store.due_deliveries() == []
    again = JobCommands(house.store).retry(job.job_id, ANNA)
    assert again.state is JobState.SENDING
    assert [d.destination for d in house.store.due_deliveries()] == ["pacs"]


def test_an_answer_that_comes_after_the_cancellation_is_kept(house: House) -> None:
    job = house.sending("tps")
    (delivery,) = house.store.claim(job.job_id, "tps")
    cancelled = JobCommands(house.store).cancel(job.job_id, ANNA)
    assert "on its way: RTSTRUCT to tps" in cancelled.note
    house.store.settle(delivery, DeliveryState.STORED, status=0, note="", next_at=datetime.now(UTC))
    assert house.store.job(job.job_id).state is JobState.CANCELLED
    assert house.store.deliveries(job.job_id)[0].state is DeliveryState.STORED


def test_an_attempt_that_fails_after_the_cancellation_is_not_tried_again(house: House) -> None:
    job = house.sending("tps")
    (delivery,) = house.store.claim(job.job_id, "tps")
    JobCommands(house.store).cancel(job.job_id, ANNA)
    house.store.settle(delivery, DeliveryState.RETRY_WAIT, status=None, note="x", next_at=datetime.now(UTC))
    assert house.store.deliveries(job.job_id)[0].state is DeliveryState.DROPPED


def test_what_was_delivered_is_sent_again_as_the_same_object(house: House) -> None:
    job = job_in(house, JobState.DONE)
    house.store.lives.keep_objects(job.job_id, [KEPT])
    again = JobCommands(house.store).resend(job.job_id, ANNA, PLACES)
    assert again.state is JobState.SENDING
    house.keeper.dispatch()
    assert house.engine.submitted[-1][2] == f"{job.job_id}.2.tps.1"
    (due,) = house.store.due_deliveries()
    assert due.sop_uid == RTSTRUCT.sop_uid
    deliver(house, job)
    assert house.store.job(job.job_id).state is JobState.DONE


def test_objects_are_sent_to_a_place_that_never_had_them(house: House) -> None:
    job = job_in(house, JobState.DONE)
    house.store.lives.keep_objects(job.job_id, [KEPT])
    JobCommands(house.store).resend(job.job_id, ANNA, {"new": ("RTSTRUCT", "SEG")})
    assert [d.destination for d in house.store.due_deliveries()] == ["new"]


def test_a_job_without_objects_or_with_purged_ones_is_not_sent_again(house: House) -> None:
    commands = JobCommands(house.store)
    job = job_in(house, JobState.DONE)
    with pytest.raises(JobRefuses, match="no objects"):
        commands.resend(job.job_id, ANNA, PLACES)
    house.store.lives.keep_objects(job.job_id, [KEPT])
    with pytest.raises(JobRefuses, match="no destination"):
        commands.resend(job.job_id, ANNA, {"tps": ("PDF",)})
    house.store.purged(job)
    with pytest.raises(JobRefuses, match="retention"):
        commands.resend(job.job_id, ANNA, PLACES)


def test_an_approval_is_done_once_by_the_running_node(house: House) -> None:
    path = house.data / RTSTRUCT.path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    job = job_in(house, JobState.REVIEW)
    sha256 = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    house.store.lives.keep_objects(job.job_id, [replace(RTSTRUCT, sha256=sha256)])
    JobCommands(house.store).approve(job.job_id, ANNA)
    assert house.store.job(job.job_id).state is JobState.REVIEW
    house.keeper.dispatch()
    assert house.store.job(job.job_id).state is JobState.SENDING
    assert JobCommands(house.store).approved() == []


def test_a_job_the_engine_has_lost_while_it_was_at_risk_counts_the_death(house: House) -> None:
    job = house.job()
    house.store.move(job.job_id, JobState.PREPARING, "")
    house.store.lives.begin(job.job_id)
    house.keeper.reconcile()
    assert house.store.job(job.job_id).state is JobState.QUEUED
    assert house.store.lives.begin(job.job_id) == 1
    assert house.engine.state(job.workflow_id) is RunState.ABSENT
