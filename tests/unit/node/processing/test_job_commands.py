"""The commands on jobs: what they do, when they are refused, and who gave them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from orgseg_node.errors import JobRefuses, UnknownJob
from orgseg_node.node.processing.engine import WorkflowState
from orgseg_node.node.processing.job_commands import JobCommands
from orgseg_node.node.store.model import DeliveryState, Job, JobState
from tests.support.node.job_bench import RTSTRUCT, JobBench

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
def bench(tmp_path: Path) -> JobBench:
    return JobBench(tmp_path)


def job_in(bench: JobBench, state: JobState) -> Job:
    if state in {JobState.SENDING, JobState.DONE}:
        job = bench.sending("tps")
        if state is JobState.DONE:
            deliver(bench, job)
        return bench.store.job(job.job_id)
    job = bench.job()
    for step in PATHS[state]:
        bench.store.move(job.job_id, step, "n", reason="R" if step is JobState.FAILED else "")
    return bench.store.job(job.job_id)


def deliver(bench: JobBench, job: Job, state: DeliveryState = DeliveryState.STORED) -> None:
    for delivery in bench.store.claim(job.job_id, "tps"):
        bench.store.record_delivery(delivery, state, status=0, note="", next_at=datetime.now(UTC))


def _given(bench: JobBench, command: str) -> Callable[[str, str], object]:
    """A command, given by a person."""
    given = getattr(JobCommands(bench.store), command)
    return partial(given, person="anna") if command == "approve" else given


@pytest.mark.parametrize(("command", "state"), list(itertools.product(ALLOWED, JobState)))
def test_a_command_does_what_the_state_allows_or_names_what_can_be_done(
    bench: JobBench, command: str, state: JobState
) -> None:
    job = job_in(bench, state)
    do = _given(bench, command)
    if state in ALLOWED[command]:
        do(job.job_id, ANNA)
        assert any(ANNA in event.note for event in bench.store.events(job.job_id))
    else:
        with pytest.raises(JobRefuses, match=rf"{state} cannot be") as refused:
            do(job.job_id, ANNA)
        assert len(refused.value.detail.split(". ")) == 2
        assert bench.store.job(job.job_id) == job


def test_an_unknown_job_is_refused(bench: JobBench) -> None:
    for command in ALLOWED:
        with pytest.raises(UnknownJob):
            _given(bench, command)("abc", ANNA)


def test_a_retry_does_not_count_earlier_runs(bench: JobBench) -> None:
    job = bench.job()
    bench.store.attempts.begin(job.job_id)
    bench.store.attempts.end(job.job_id, died=True)
    bench.store.attempts.halve_memory_budget(job.job_id, 100)
    bench.store.move(job.job_id, JobState.FAILED, "n", reason="R")
    again = JobCommands(bench.store).retry(job.job_id, ANNA)
    assert (again.state, again.run, again.deaths, again.memory_budget_mb) == (JobState.QUEUED, 2, 0, None)


def test_a_job_of_an_earlier_revision_is_not_started_again(bench: JobBench) -> None:
    job = job_in(bench, JobState.FAILED)
    with bench.store.database.write() as tx:
        tx.run(
            "INSERT INTO job (job_id, series_uid, revision, content_sha256, bundles, slices, state,"
            " created_at, updated_at) VALUES ('f0f0f0f0f0f0f0f0', ?, 2, ?, 'b', 3, 'QUEUED', ?, ?)",
            (job.series_uid, "0" * 64, "2026-01-02", "2026-01-02"),
        )
    with pytest.raises(JobRefuses, match="later revision"):
        JobCommands(bench.store).retry(job.job_id, ANNA)


def test_cancelled_in_sending_it_notes_what_was_sent_and_a_retry_sends_the_rest(bench: JobBench) -> None:
    job = bench.sending("tps", "pacs")
    deliver(bench, job)
    cancelled = JobCommands(bench.store).cancel(job.job_id, ANNA)
    assert "sent before: RTSTRUCT to tps" in cancelled.note
    states = {d.destination: d.state for d in bench.store.deliveries(job.job_id)}
    assert states == {"tps": DeliveryState.STORED, "pacs": DeliveryState.DROPPED}
    assert bench.store.due_deliveries() == []
    again = JobCommands(bench.store).retry(job.job_id, ANNA)
    assert again.state is JobState.SENDING
    assert [d.destination for d in bench.store.due_deliveries()] == ["pacs"]


def test_an_answer_that_comes_after_the_cancellation_is_kept(bench: JobBench) -> None:
    job = bench.sending("tps")
    (delivery,) = bench.store.claim(job.job_id, "tps")
    cancelled = JobCommands(bench.store).cancel(job.job_id, ANNA)
    assert "on its way: RTSTRUCT to tps" in cancelled.note
    bench.store.record_delivery(delivery, DeliveryState.STORED, status=0, note="", next_at=datetime.now(UTC))
    assert bench.store.job(job.job_id).state is JobState.CANCELLED
    assert bench.store.deliveries(job.job_id)[0].state is DeliveryState.STORED


def test_an_attempt_that_fails_after_the_cancellation_is_not_tried_again(bench: JobBench) -> None:
    job = bench.sending("tps")
    (delivery,) = bench.store.claim(job.job_id, "tps")
    JobCommands(bench.store).cancel(job.job_id, ANNA)
    bench.store.record_delivery(
        delivery, DeliveryState.RETRY_WAIT, status=None, note="x", next_at=datetime.now(UTC)
    )
    assert bench.store.deliveries(job.job_id)[0].state is DeliveryState.DROPPED


def test_what_was_delivered_is_sent_again_as_the_same_object(bench: JobBench) -> None:
    job = job_in(bench, JobState.DONE)
    bench.store.attempts.keep_objects(job.job_id, [KEPT])
    again = JobCommands(bench.store).resend(job.job_id, ANNA, PLACES)
    assert again.state is JobState.SENDING
    bench.dispatcher.dispatch()
    assert bench.engine.submitted[-1][2] == f"{job.job_id}.2.tps.1"
    (due,) = bench.store.due_deliveries()
    assert due.sop_uid == RTSTRUCT.sop_uid
    deliver(bench, job)
    assert bench.store.job(job.job_id).state is JobState.DONE


def test_objects_are_sent_to_a_destination_that_never_had_them(bench: JobBench) -> None:
    job = job_in(bench, JobState.DONE)
    bench.store.attempts.keep_objects(job.job_id, [KEPT])
    JobCommands(bench.store).resend(job.job_id, ANNA, {"new": ("RTSTRUCT", "SEG")})
    assert [d.destination for d in bench.store.due_deliveries()] == ["new"]


def test_a_job_without_objects_or_with_purged_ones_is_not_sent_again(bench: JobBench) -> None:
    commands = JobCommands(bench.store)
    job = job_in(bench, JobState.DONE)
    with pytest.raises(JobRefuses, match="no objects"):
        commands.resend(job.job_id, ANNA, PLACES)
    bench.store.attempts.keep_objects(job.job_id, [KEPT])
    with pytest.raises(JobRefuses, match="no destination"):
        commands.resend(job.job_id, ANNA, {"tps": ("PDF",)})
    bench.store.mark_purged(job)
    with pytest.raises(JobRefuses, match="retention"):
        commands.resend(job.job_id, ANNA, PLACES)


def test_an_approval_is_done_once_by_the_running_node(bench: JobBench) -> None:
    path = bench.data / RTSTRUCT.path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    job = job_in(bench, JobState.REVIEW)
    sha256 = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    bench.store.attempts.keep_objects(job.job_id, [replace(RTSTRUCT, sha256=sha256)])
    JobCommands(bench.store).approve(job.job_id, ANNA, "anna")
    assert bench.store.job(job.job_id).state is JobState.REVIEW
    bench.dispatcher.dispatch()
    assert bench.store.job(job.job_id).state is JobState.SENDING
    assert JobCommands(bench.store).approved(1) == []


def test_with_four_eyes_two_different_persons_have_to_approve(tmp_path: Path) -> None:
    bench = JobBench(tmp_path / "four", review={"persons": 2})
    job = job_in(bench, JobState.REVIEW)
    commands = JobCommands(bench.store)
    for name in ("anna", "Anna "):
        commands.approve(job.job_id, ANNA, name)
        bench.dispatcher.dispatch()
        assert bench.store.job(job.job_id).state is JobState.REVIEW, "the same name counts once"
    assert [one.person for one in commands.approvals(job)] == ["anna"]
    commands.approve(job.job_id, "by bert", "bert")
    bench.dispatcher.dispatch()
    assert bench.store.job(job.job_id).state is not JobState.REVIEW
    assert commands.approvals(job) == []
    assert [one.change for one in bench.store.events(job.job_id)].count("approve") == 3


def test_objects_that_were_made_anew_meanwhile_are_not_approved_unseen(bench: JobBench) -> None:
    job = job_in(bench, JobState.REVIEW)
    with bench.store.database.write() as tx:
        tx.run("INSERT INTO object_revision VALUES (?, 2, 'Heart', 'by bert', 'x')", (job.job_id,))
    with pytest.raises(JobRefuses, match="made anew meanwhile"):
        JobCommands(bench.store).approve(job.job_id, ANNA, "anna", seen=1)
    JobCommands(bench.store).approve(job.job_id, ANNA, "anna", seen=2)


def test_a_job_that_the_engine_lost_during_an_attempt_counts_the_crash(bench: JobBench) -> None:
    job = bench.job()
    bench.store.move(job.job_id, JobState.PREPARING, "")
    bench.store.attempts.begin(job.job_id)
    bench.dispatcher.reconcile()
    assert bench.store.job(job.job_id).state is JobState.QUEUED
    assert bench.store.attempts.begin(job.job_id) == 1
    assert bench.engine.state(job.workflow_id) is WorkflowState.ABSENT
