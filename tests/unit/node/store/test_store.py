"""The store: series and jobs when images arrive early, late, twice or contradicting each other."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orgseg_node.errors import IllegalTransition, StorageError, UnknownJob
from orgseg_node.node.processing.job_commands import JobCommands
from orgseg_node.node.store.drivers.sqlite import SqliteDriver
from orgseg_node.node.store.model import (
    DeliveryState,
    Instance,
    Job,
    JobState,
    NewJob,
    Notice,
    OutputObject,
    SeriesState,
)
from orgseg_node.node.store.store import DATABASE, Store

RTSTRUCT = OutputObject(role="RTSTRUCT", path="jobs/x/out/RTSTRUCT.dcm", sop_uid="2.25.1")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
STEPS = (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING)


class Clock:
    """A clock that advances by one second at each reading."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Store:
    return Store(tmp_path, clock=clock)


def arrive(store: Store, sop: str, *, series: str = "1.2", content: str = "a") -> SeriesState:
    return store.accept(
        Instance(
            sop_uid=sop, series_uid=series, sha256=(content * 64)[:64], size=9,
            path=f"inbox/{series}/{sop}{content}.dcm", transfer_syntax="1.2.840.10008.1.2", calling_ae="CT",
            received_at=datetime.now(UTC),
        )
    )  # fmt: skip


def ready(store: Store, content: str = "c", series: str = "1.2") -> Job:
    new = NewJob(series_uid=series, content_sha256=content * 64, bundles=("starter",), slices=3)
    assert store.judge(store.one_series(series), SeriesState.READY, job=new)
    return store.job(new.job_id)


def compute(store: Store, job: Job, *destinations: str) -> None:
    for state in STEPS:
        store.move(job.job_id, state, "")
    store.begin_sending(job.job_id, [(RTSTRUCT, name) for name in destinations])


def deliver(store: Store, job: Job, destination: str, state: DeliveryState = DeliveryState.STORED) -> None:
    for delivery in store.claim(job.job_id, destination):
        store.record_delivery(delivery, state, status=0, note="", next_at=datetime.now(UTC))


def test_every_commit_is_synced_to_the_disk(tmp_path: Path) -> None:
    connection = SqliteDriver(tmp_path / DATABASE, read_only=False)._connect()
    assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
    assert connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1


def test_a_late_slice_supersedes_a_job_of_which_nothing_was_delivered(store: Store) -> None:
    arrive(store, "1.2.1")
    first = ready(store)
    store.move(first.job_id, JobState.PREPARING, "")
    assert arrive(store, "1.2.2") is SeriesState.RECEIVING
    assert store.job(first.job_id).state is JobState.SUPERSEDED
    assert store.one_series("1.2").revision == 2
    second = ready(store, content="d")
    assert (second.state, second.revision) == (JobState.QUEUED, 2)


def test_a_late_slice_drops_deliveries_that_have_not_started(store: Store) -> None:
    arrive(store, "1.2.1")
    job = ready(store)
    compute(store, job, "tps")
    arrive(store, "1.2.2")
    assert store.job(job.job_id).state is JobState.SUPERSEDED
    assert [d.state for d in store.deliveries(job.job_id)] == [DeliveryState.DROPPED]
    assert store.due_deliveries() == []
    assert store.claim(job.job_id, "tps") == []


def test_a_late_slice_after_delivery_leaves_the_job_and_adds_a_notice(store: Store) -> None:
    arrive(store, "1.2.1")
    first = ready(store)
    compute(store, first, "tps")
    deliver(store, first, "tps")
    arrive(store, "1.2.2")
    assert store.job(first.job_id).state is JobState.DONE
    late = Notice(subject=first.job_id, code="LATE_IMAGES", note="It has grown.")
    seen = store.one_series("1.2")
    assert store.judge(seen, SeriesState.HOLD, reason="LATE_IMAGES", note="n", notices=[late])
    assert not store.judge(seen, SeriesState.HOLD, reason="LATE_IMAGES", note="n", notices=[late])
    notices = [(e.kind, e.change, e.note) for e in store.events(first.job_id) if e.kind == "notice"]
    assert notices == [("notice", "LATE_IMAGES", "It has grown.")]


def test_what_was_delivered_once_is_not_superseded_while_it_is_sent_again(store: Store) -> None:
    arrive(store, "1.2.1")
    job = ready(store)
    compute(store, job, "tps")
    deliver(store, job, "tps")
    store.attempts.keep_objects(job.job_id, [replace(RTSTRUCT, sha256="0" * 64)])
    JobCommands(store).resend(job.job_id, "n", {"tps": ("RTSTRUCT",)})
    arrive(store, "1.2.2")
    assert store.job(job.job_id).state is JobState.SENDING


def test_a_late_slice_while_sending_lets_the_sending_finish(store: Store) -> None:
    arrive(store, "1.2.1")
    first = ready(store)
    compute(store, first, "tps", "pacs")
    deliver(store, first, "tps")
    arrive(store, "1.2.2")
    assert store.job(first.job_id).state is JobState.SENDING
    second = ready(store, content="d")
    assert second.state is JobState.QUEUED
    deliver(store, first, "pacs")
    assert store.job(first.job_id).state is JobState.DONE


def test_a_held_series_is_judged_again_when_the_missing_slice_comes(store: Store) -> None:
    arrive(store, "1.2.1")
    assert store.judge(store.one_series("1.2"), SeriesState.HOLD, reason="INPUT_MISSING_SLICES", note="gap")
    assert arrive(store, "1.2.2") is SeriesState.RECEIVING
    assert store.one_series("1.2").reason == ""


def test_a_verdict_on_a_series_that_has_grown_meanwhile_is_void(store: Store) -> None:
    arrive(store, "1.2.1")
    seen = store.one_series("1.2")
    arrive(store, "1.2.2")
    assert not store.judge(seen, SeriesState.READY)
    assert store.one_series("1.2").state is SeriesState.RECEIVING


def test_hold_without_a_reason_is_refused(store: Store) -> None:
    arrive(store, "1.2.1")
    with pytest.raises(IllegalTransition):
        store.judge(store.one_series("1.2"), SeriesState.HOLD)


def test_contradicting_content_is_a_conflict_for_good_and_stops_the_job(store: Store) -> None:
    arrive(store, "1.2.1")
    job = ready(store)
    assert arrive(store, "1.2.1", content="b") is SeriesState.CONFLICT
    assert store.job(job.job_id).state is JobState.SUPERSEDED
    assert arrive(store, "1.2.2") is SeriesState.CONFLICT
    assert len(store.copies("1.2.1")) == 2


def test_a_conflict_names_the_command_and_in_what_the_images_differ(store: Store) -> None:
    arrive(store, "1.2.1")
    (first,) = store.copies("1.2.1")
    store.accept(replace(first, sha256="b" * 64, path="other"), differs="the patient")
    note = store.one_series("1.2").note
    assert "(the patient)" in note
    assert "'orgseg series settle'" in note


def test_the_database_refuses_a_second_computing_job_of_a_series(store: Store, tmp_path: Path) -> None:
    arrive(store, "1.2.1")
    ready(store)
    with sqlite3.connect(tmp_path / DATABASE) as other, pytest.raises(sqlite3.IntegrityError):
        other.execute(
            "INSERT INTO job (job_id, series_uid, revision, content_sha256, bundles, slices, state,"
            " created_at, updated_at) VALUES (?, '1.2', 2, ?, 'b', 3, 'QUEUED', 't', 't')",
            ("1" * 16, "1" * 64),
        )
    other.close()


def test_a_job_is_found_by_the_beginning_of_its_number(store: Store) -> None:
    arrive(store, "1.2.1")
    job = ready(store)
    assert store.job(job.job_id[:5]) == job
    for wrong in ("", "zz"):
        with pytest.raises(UnknownJob):
            store.job(wrong)


def test_jobs_are_listed_newest_first_by_state_and_number(store: Store) -> None:
    for series in ("1.3", "1.4", "1.5"):
        arrive(store, f"{series}.1", series=series)
        ready(store, series=series)
    assert [j.series_uid for j in store.jobs(limit=2)] == ["1.5", "1.4"]
    assert store.jobs(states={JobState.DONE}) == []
    assert len(store.jobs(states={JobState.DONE, JobState.QUEUED})) == 3


def test_a_failed_job_is_started_again_from_where_it_makes_sense(store: Store) -> None:
    arrive(store, "1.2.1")
    job = ready(store)
    store.move(job.job_id, JobState.FAILED, "no such bundle", reason="BUNDLE_UNKNOWN")
    again = store.retry(job.job_id)
    assert (again.state, again.run) == (JobState.QUEUED, 2)
    compute(store, job, "tps")
    deliver(store, job, "tps", DeliveryState.FAILED)
    assert store.job(job.job_id).state is JobState.FAILED
    assert store.retry(job.job_id).state is JobState.SENDING
    assert [d.state for d in store.due_deliveries()] == [DeliveryState.PENDING]


def test_failing_needs_a_code_and_a_sentence(store: Store) -> None:
    arrive(store, "1.2.1")
    job = ready(store)
    with pytest.raises(IllegalTransition):
        store.move(job.job_id, JobState.FAILED, "without a code")


def test_a_delivery_is_due_only_when_its_time_has_come(store: Store, clock: Clock) -> None:
    arrive(store, "1.2.1")
    job = ready(store)
    compute(store, job, "tps")
    (delivery,) = store.claim(job.job_id, "tps")
    later = clock.now + timedelta(seconds=30)
    store.record_delivery(delivery, DeliveryState.RETRY_WAIT, status=None, note="down", next_at=later)
    assert store.due_deliveries() == []
    clock.now = later
    assert [d.attempts for d in store.due_deliveries()] == [1]


def test_a_delivery_found_in_sending_belonged_to_a_dead_process_and_is_sent_again(store: Store) -> None:
    arrive(store, "1.2.1")
    job = ready(store)
    compute(store, job, "tps")
    store.claim(job.job_id, "tps")
    (again,) = store.claim(job.job_id, "tps")
    assert (again.state, again.attempts) == (DeliveryState.SENDING, 1)
    assert any("stopped while sending" in e.note for e in store.events(job.job_id))


def test_nothing_is_due_while_the_other_object_is_being_sent(store: Store) -> None:
    arrive(store, "1.2.1")
    job = ready(store)
    for state in STEPS:
        store.move(job.job_id, state, "")
    seg = OutputObject(role="SEG", path="s", sop_uid="2.25.2")
    store.begin_sending(job.job_id, [(RTSTRUCT, "tps"), (seg, "tps"), (seg, "pacs")])
    first, second = store.claim(job.job_id, "tps")
    store.record_delivery(first, DeliveryState.RETRY_WAIT, status=None, note="busy", next_at=EPOCH)
    assert {d.destination for d in store.due_deliveries()} == {"pacs"}
    store.record_delivery(second, DeliveryState.STORED, status=0, note="", next_at=EPOCH)
    assert {d.destination for d in store.due_deliveries()} == {"pacs", "tps"}


def test_nothing_undelivered_is_purged(store: Store, clock: Clock) -> None:
    states: dict[str, Job] = {}
    for number, name in enumerate(("queued", "sending", "failed", "kept", "delivered"), start=1):
        series = f"1.{number}"
        arrive(store, f"{series}.1", series=series)
        states[name] = ready(store, series=series)
    for name in ("sending", "failed", "delivered"):
        compute(store, states[name], "tps")
    compute(store, states["kept"])
    deliver(store, states["failed"], "tps", DeliveryState.FAILED)
    deliver(store, states["delivered"], "tps")
    assert store.purgeable(clock.now - timedelta(days=1)) == []
    purgeable = store.purgeable(clock.now + timedelta(days=1))
    assert [job.job_id for job in purgeable] == [states["delivered"].job_id]
    arrive(store, "1.5.2", series="1.5")
    assert store.purgeable(clock.now + timedelta(days=1)) == [], "a series that is growing again stays"


def test_a_purged_series_that_comes_again_is_the_same_job_once_more(store: Store) -> None:
    arrive(store, "1.2.1")
    job = ready(store)
    compute(store, job, "tps")
    deliver(store, job, "tps")
    store.mark_purged(store.job(job.job_id))
    assert store.instances_of("1.2") == []
    arrive(store, "1.2.1")
    again = ready(store)
    assert (again.job_id, again.state, again.run) == (job.job_id, JobState.QUEUED, 2)
    assert again.created_at == job.created_at, "the objects must come out the same"
    compute(store, again, "tps")
    assert [d.state for d in store.due_deliveries()] == [DeliveryState.PENDING]


def test_the_same_content_without_a_purge_makes_no_new_run(store: Store) -> None:
    arrive(store, "1.2.1")
    job = ready(store)
    compute(store, job, "tps")
    deliver(store, job, "tps")
    arrive(store, "1.2.2")
    again = ready(store)
    assert (again.state, again.run) == (JobState.DONE, 1)


def test_threads_have_connections_of_their_own(store: Store) -> None:
    errors: list[BaseException] = []

    def push(start: int) -> None:
        try:
            for number in range(start, start + 20):
                arrive(store, f"1.2.{number}")
            store.close()
        except StorageError as error:
            errors.append(error)

    threads = [threading.Thread(target=push, args=(1000 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.one_series("1.2").instances == 80


def test_a_reader_sees_without_writing(store: Store, tmp_path: Path) -> None:
    arrive(store, "1.2.1")
    reader = Store(tmp_path, read_only=True)
    assert reader.one_series("1.2").instances == 1
    with pytest.raises(StorageError):
        arrive(reader, "1.2.2")
    reader.close()


def test_a_folder_without_a_node_and_a_newer_database_are_reported(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no node database"):
        Store(tmp_path, read_only=True)
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute("INSERT INTO schema_step VALUES ('999_of_tomorrow')")
    connection.close()
    with pytest.raises(StorageError, match="newer"):
        Store(tmp_path)


def test_an_unknown_series_has_a_code(store: Store) -> None:
    with pytest.raises(StorageError, match="never received"):
        store.one_series("1.9")
