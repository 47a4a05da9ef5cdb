"""What a job store promises, proven on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orgseg_node.errors import IllegalTransition, UnknownJob
from orgseg_node.node.store.database import Database
from orgseg_node.node.store.delivery_states import Alternate
from orgseg_node.node.store.model import (
    DeliveryState,
    Instance,
    JobState,
    NewJob,
    OutputObject,
    SeriesState,
)
from orgseg_node.node.store.store import Store

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OBJECTS = tuple(
    OutputObject(role=r, path=f"{r}.dcm", sop_uid=f"1.{n}") for n, r in enumerate(("RTSTRUCT", "SEG"))
)
CARRIED: dict[str, Any] = {
    "rule": "head",
    "protocol": "head_and_neck",
    "protocol_json": '{"others": "drop"}',
    "destinations": ("tps", "pacs"),
    "priority": 10,
    "review": True,
    "config_revision": "0123456789abcdef",
}
STEPS = (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING)


def instance() -> Instance:
    return Instance(
        sop_uid="1.2.3.4", series_uid="1.2.3", sha256="a" * 64, size=10, path="inbox/1.2.3/1.2.3.4.dcm",
        transfer_syntax="1.2.840.10008.1.2.1", calling_ae="CT", received_at=NOW,
    )  # fmt: skip


def filled(store: Store) -> tuple[Any, str]:
    store.accept(instance())
    new = NewJob(series_uid="1.2.3", content_sha256="b" * 64, bundles=("starter",), slices=1, **CARRIED)
    assert store.judge(store.one_series("1.2.3"), SeriesState.READY, job=new)
    return store, new.job_id


@pytest.fixture(params=["sqlite", "postgres"])
def held(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Any, str]]:
    place = (
        tmp_path
        if request.param == "sqlite"
        else Database(request.getfixturevalue("postgres").new_database())
    )
    store = Store(place)
    yield filled(store)
    store.close()


class TestJobStore:
    """One class for the seam."""

    @staticmethod
    def sending(held: tuple[Any, str], *destinations: str) -> tuple[Any, str]:
        store, job_id = held
        for state in STEPS:
            store.move(job_id, state, "")
        store.begin_sending(job_id, [(item, name) for item in OBJECTS for name in destinations])
        return store, job_id

    def test_a_new_job_is_queued_with_its_instances(self, held: tuple[Any, str]) -> None:
        store, job_id = held
        assert store.job(job_id).state is JobState.QUEUED
        assert [i.path for i in store.instances_of("1.2.3")] == [instance().path]

    def test_a_job_stores_its_routing_decision(self, held: tuple[Any, str]) -> None:
        store, job_id = held
        job = store.move(job_id, JobState.PREPARING, "")
        assert {name: getattr(job, name) for name in CARRIED} == CARRIED

    def test_an_unknown_job_has_a_code(self, held: tuple[Any, str]) -> None:
        with pytest.raises(UnknownJob):
            held[0].job("nosuchjob")

    def test_a_job_moves_along_its_states_and_no_other_way(self, held: tuple[Any, str]) -> None:
        store, job_id = held
        with pytest.raises(IllegalTransition):
            store.move(job_id, JobState.SENDING, "")
        for state in STEPS:
            assert store.move(job_id, state, "on").state is state
        with pytest.raises(IllegalTransition):
            store.move(job_id, JobState.PREPARING, "")

    def test_a_job_that_was_stopped_in_the_meantime_is_not_run_again(self, held: tuple[Any, str]) -> None:
        store, job_id = held
        waiting = store.move(store.move(job_id, JobState.PREPARING, "").job_id, JobState.RETRY_WAIT, "")
        store.move(job_id, JobState.CANCELLED, "by a person")
        assert store.requeue(waiting, "again").state is JobState.CANCELLED
        assert store.requeue(store.job(job_id), "by a person").state is JobState.QUEUED

    def test_progress_is_kept_within_bounds_and_starts_again_with_the_job(
        self, held: tuple[Any, str]
    ) -> None:
        store, job_id = held
        store.move(job_id, JobState.PREPARING, "")
        assert store.progress(job_id, 1.5, "segmenting") is JobState.PREPARING
        assert (store.job(job_id).progress, store.job(job_id).stage) == (1.0, "segmenting")
        assert store.move(job_id, JobState.QUEUED, "again").progress == 0

    def test_a_job_is_done_when_every_object_is_stored_everywhere(self, held: tuple[Any, str]) -> None:
        store, job_id = self.sending(held, "tps", "pacs")
        for place in ("tps", "pacs"):
            assert store.job(job_id).state is JobState.SENDING
            claimed = store.claim(job_id, place)
            assert {d.role for d in claimed} == {"RTSTRUCT", "SEG"}
            for delivery in claimed:
                store.record_delivery(delivery, DeliveryState.STORED, status=0, note="", next_at=NOW)
        assert store.job(job_id).state is JobState.DONE

    def test_a_job_without_destination_is_done_at_once(self, held: tuple[Any, str]) -> None:
        store, job_id = self.sending(held)
        assert store.job(job_id).state is JobState.DONE

    def test_a_failed_delivery_fails_the_job_once_the_others_are_over(self, held: tuple[Any, str]) -> None:
        store, job_id = self.sending(held, "tps")
        first, second = store.claim(job_id, "tps")
        assert (
            store.record_delivery(first, DeliveryState.FAILED, status=0xC000, note="no", next_at=NOW)
            is JobState.SENDING
        )
        assert (
            store.record_delivery(second, DeliveryState.STORED, status=0, note="", next_at=NOW)
            is JobState.FAILED
        )
        assert store.job(job_id).reason == "NOT_DELIVERED"

    def test_a_delivery_to_be_tried_again_is_claimed_again_and_counted(self, held: tuple[Any, str]) -> None:
        store, job_id = self.sending(held, "tps")
        for delivery in store.claim(job_id, "tps"):
            store.record_delivery(delivery, DeliveryState.RETRY_WAIT, status=None, note="down", next_at=NOW)
        again = store.claim(job_id, "tps")
        assert [d.attempts for d in again] == [2, 2]
        assert all(d.first_attempt_at is not None for d in again)

    def test_what_is_stored_is_never_claimed_again(self, held: tuple[Any, str]) -> None:
        store, job_id = self.sending(held, "tps")
        first, _ = store.claim(job_id, "tps")
        store.record_delivery(first, DeliveryState.STORED, status=0, note="", next_at=NOW)
        assert first.role not in {d.role for d in store.claim(job_id, "tps")}

    def test_a_stopped_job_gives_nothing_to_send(self, held: tuple[Any, str]) -> None:
        store, job_id = self.sending(held, "tps")
        store.move(job_id, JobState.CANCELLED, "by a person")
        assert store.claim(job_id, "tps") == []

    def test_a_job_waits_for_the_confirmation_where_it_is_wanted(self, held: tuple[Any, str]) -> None:
        store, job_id = held
        for state in STEPS:
            store.move(job_id, state, "")
        pairs = [(OBJECTS[0], "pacs"), (OBJECTS[0], "tps")]
        store.begin_sending(job_id, pairs, confirm={"pacs"})
        for place in ("pacs", "tps"):
            (delivery,) = store.claim(job_id, place)
            store.record_delivery(delivery, DeliveryState.STORED, status=0, note="", next_at=NOW)
        assert store.job(job_id).state is JobState.SENDING
        (pacs,) = [d for d in store.deliveries(job_id) if d.destination == "pacs"]
        assert (pacs.confirmation, pacs.outcome) == ("WANTED", "stored, waiting for the confirmation")
        store.record_delivery(pacs, DeliveryState.COMMITTED, status=0, note="", next_at=NOW)
        assert store.job(job_id).state is JobState.DONE

    def test_what_goes_to_the_alternate_goes_nowhere_else(self, held: tuple[Any, str]) -> None:
        store, job_id = self.sending(held, "tps")
        first, second = store.claim(job_id, "tps")
        store.record_delivery(second, DeliveryState.STORED, status=0, note="", next_at=NOW)
        other = Alternate(name="backup", confirm=True)
        assert store.divert(first, other, status=0xC000, note="refused") is JobState.SENDING
        assert store.claim(job_id, "tps") == []
        rows = {(d.destination, d.role): d for d in store.deliveries(job_id)}
        dropped, waiting = rows["tps", first.role], rows["backup", first.role]
        assert (dropped.state, dropped.status) == (DeliveryState.DROPPED, 0xC000)
        assert dropped.note == "Goes to backup instead. refused"
        assert (waiting.state, waiting.instead_of) == (DeliveryState.PENDING, "tps")
        assert (waiting.sop_uid, waiting.confirmation) == (first.sop_uid, "WANTED")
        (taken,) = store.claim(job_id, "backup")
        assert taken.attempts == 1
        for state in (DeliveryState.STORED, DeliveryState.COMMITTED):
            assert store.job(job_id).state is JobState.SENDING
            store.record_delivery(taken, state, status=0, note="", next_at=NOW)
        assert store.job(job_id).state is JobState.DONE

    def test_a_job_found_at_risk_has_lost_its_process(self, held: tuple[Any, str]) -> None:
        store, job_id = held
        assert store.attempts.begin(job_id) == 0
        assert store.attempts.end(job_id) == 0, "it ended normally"
        assert store.attempts.begin(job_id) == 0
        assert store.attempts.begin(job_id) == 1, "nobody took it out of risk"
        assert store.attempts.end(job_id, died=True) == 2
        assert (store.job(job_id).deaths, store.job(job_id).at_risk) == (2, 0)

    def test_a_workflow_without_result_is_one_failed_run_and_the_next_has_another_number(
        self, held: tuple[Any, str]
    ) -> None:
        store, job_id = held
        before = store.job(job_id).workflow_id
        store.attempts.begin(job_id)
        assert store.attempts.count_failed_run(job_id) == 1
        assert store.job(job_id).at_risk == 0
        assert store.job(job_id).workflow_id != before

    def test_memory_is_made_smaller_once(self, held: tuple[Any, str]) -> None:
        store, job_id = held
        assert store.attempts.halve_memory_budget(job_id, 2000)
        assert not store.attempts.halve_memory_budget(job_id, 1000)
        assert store.job(job_id).memory_budget_mb == 2000

    def test_objects_are_kept_and_replaced(self, held: tuple[Any, str]) -> None:
        store, job_id = held
        assert store.attempts.objects(job_id) == []
        kept = [replace(item, sha256="0" * 64) for item in OBJECTS]
        store.attempts.keep_objects(job_id, kept)
        store.attempts.keep_objects(job_id, kept[:1])
        assert store.attempts.objects(job_id) == kept[:1]

    def test_the_time_of_the_first_delivery_is_kept(self, held: tuple[Any, str]) -> None:
        store, job_id = self.sending(held, "tps")
        first, _ = store.claim(job_id, "tps")
        assert store.job(job_id).delivered_at is None
        store.record_delivery(first, DeliveryState.STORED, status=0, note="", next_at=NOW)
        assert store.job(job_id).delivered_at is not None

    def test_what_is_answered_after_a_job_was_stopped_stops_nothing_else(self, held: tuple[Any, str]) -> None:
        store, job_id = self.sending(held, "tps")
        first, second = store.claim(job_id, "tps")
        store.move(job_id, JobState.CANCELLED, "by a person")
        assert (
            store.record_delivery(first, DeliveryState.STORED, status=0, note="", next_at=NOW)
            is JobState.CANCELLED
        )
        store.record_delivery(second, DeliveryState.RETRY_WAIT, status=None, note="", next_at=NOW)
        states = [d.state for d in store.deliveries(job_id)]
        assert states == [DeliveryState.STORED, DeliveryState.DROPPED]
