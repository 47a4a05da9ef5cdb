"""The scans by the clock: every job has a workflow, every delivery an attempt, the disk stays in order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.processing.dispatcher import Housekeeper, queues_of
from orgseg_node.node.processing.engine import RunState
from orgseg_node.node.processing.worker import Tools, Worker
from orgseg_node.node.scheduler import Pulse, _safely
from orgseg_node.node.store.model import (
    DeliveryState,
    Instance,
    Job,
    JobState,
    NewJob,
    OutputObject,
    SeriesState,
)
from orgseg_node.node.store.store import Store
from tests.support.node.memory_engine import MemoryEngine
from tests.support.node.memory_sender import MemorySender

RTSTRUCT = OutputObject(role="RTSTRUCT", path="jobs/x/out/RTSTRUCT.dcm", sop_uid="2.25.1")


class House:
    """A housekeeper over a real store and an engine that runs nothing."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        self.data = folder
        values = {
            "node": {"data_dir": folder},
            "receiver": {"accept_any_calling_ae": True},
            "destinations": {"tps": {"ae_title": "TPS", "host": "127.0.0.1", "port": 104}},
            **sections,
        }
        self.config = NodeConfig.model_validate(values)
        self.ahead = timedelta(0)
        self.store = Store(folder)
        self.engine: Any = MemoryEngine()
        worker = Worker(self.config, self.store, Tools(sender=MemorySender()))
        self.keeper = Housekeeper(
            self.config, self.store, self.engine, worker, clock=lambda: datetime.now(UTC) + self.ahead
        )

    def job(self, series: str = "1.2") -> Job:
        """A queued job of a series with one file."""
        path = f"inbox/{series}/{series}.1.dcm"
        (self.data / path).parent.mkdir(parents=True)
        (self.data / path).write_bytes(b"x")
        self.store.accept(
            Instance(
                sop_uid=f"{series}.1", series_uid=series, sha256="a" * 64, size=1, path=path,
                transfer_syntax="1.2.840.10008.1.2", calling_ae="CT", received_at=datetime.now(UTC),
            )
        )  # fmt: skip
        new = NewJob(series_uid=series, content_sha256="c" * 64, bundles=("b",), slices=1)
        assert self.store.judge(self.store.one_series(series), SeriesState.READY, job=new)
        return self.store.job(new.job_id)

    def sending(self, *destinations: str) -> Job:
        job = self.job()
        for state in (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING):
            self.store.move(job.job_id, state, "")
        self.store.begin_sending(job.job_id, [(RTSTRUCT, name) for name in destinations])
        return self.store.job(job.job_id)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_a_queued_job_is_submitted_once_under_its_number(house: House) -> None:
    job = house.job()
    house.keeper.dispatch()
    house.keeper.dispatch()
    assert house.engine.submitted == [("contour", "contour", f"{job.job_id}.1", job.job_id)]


def test_a_job_started_again_has_a_number_of_its_own(house: House) -> None:
    job = house.job()
    house.store.move(job.job_id, JobState.FAILED, "n", reason="R")
    house.engine.states[f"{job.job_id}.1"] = RunState.FINISHED
    house.store.retry(job.job_id)
    house.keeper.dispatch()
    assert house.engine.submitted == [("contour", "contour", f"{job.job_id}.2", job.job_id)]


def test_a_running_job_that_the_engine_has_lost_gets_its_turn_again(house: House) -> None:
    job = house.job()
    house.store.move(job.job_id, JobState.PREPARING, "")
    house.keeper.reconcile()
    assert house.store.job(job.job_id).state is JobState.QUEUED
    house.keeper.dispatch()
    assert [entry[2] for entry in house.engine.submitted] == [f"{job.job_id}.1"]


@pytest.mark.parametrize("state", [RunState.GIVEN_UP, RunState.BROKEN, RunState.FINISHED])
def test_a_running_job_whose_workflow_is_over_gets_another_until_it_died_too_often(
    house: House, state: RunState
) -> None:
    job = house.job()
    for number in ("1", "1+1", "1+2"):
        house.keeper.dispatch()
        assert house.engine.submitted[-1][2] == f"{job.job_id}.{number}"
        house.store.move(job.job_id, JobState.PREPARING, "")
        house.engine.states[f"{job.job_id}.{number}"] = state
        house.keeper.reconcile()
    failed = house.store.job(job.job_id)
    assert (failed.state, failed.reason, failed.deaths) == (JobState.FAILED, "JOB_POISON", 3)


def test_a_job_whose_workflow_lives_is_left_alone(house: House) -> None:
    job = house.job()
    house.keeper.dispatch()
    house.keeper.reconcile()
    assert house.store.job(job.job_id).state is JobState.QUEUED


def test_each_attempt_of_a_delivery_is_submitted_once_to_the_queue_of_its_destination(house: House) -> None:
    job = house.sending("tps")
    house.keeper.dispatch()
    house.keeper.dispatch()
    assert house.engine.submitted == [("send-tps", "deliver", f"{job.job_id}.1.tps.1", job.job_id, "tps")]
    (delivery,) = house.store.claim(job.job_id, "tps")
    house.store.settle(
        delivery, DeliveryState.RETRY_WAIT, status=None, note="down", next_at=datetime.now(UTC)
    )
    house.keeper.dispatch()
    assert house.engine.submitted[-1][2] == f"{job.job_id}.1.tps.2"


def test_a_delivery_whose_workflow_ended_without_sending_gets_another(house: House) -> None:
    job = house.sending("tps")
    house.engine.states[f"{job.job_id}.1.tps.1"] = RunState.BROKEN
    house.keeper.dispatch()
    house.keeper.dispatch()
    assert [entry[2] for entry in house.engine.submitted] == [f"{job.job_id}.1.tps.2"]


def test_a_delivery_stuck_in_sending_without_a_workflow_is_freed(house: House) -> None:
    job = house.sending("tps")
    house.store.claim(job.job_id, "tps")
    house.engine.states[f"{job.job_id}.1.tps.1"] = RunState.GIVEN_UP
    house.keeper.reconcile()
    house.keeper.dispatch()
    assert [entry[2] for entry in house.engine.submitted] == [f"{job.job_id}.1.tps.2"]


def test_a_destination_that_left_the_configuration_fails_visibly(house: House) -> None:
    job = house.sending("old")
    house.keeper.dispatch()
    failed = house.store.job(job.job_id)
    assert (failed.state, failed.reason) == (JobState.FAILED, "NOT_DELIVERED")
    (delivery,) = house.store.deliveries(job.job_id)
    assert "NETWORK_UNKNOWN_DESTINATION" in delivery.note


def test_there_is_one_queue_for_the_device_and_one_for_each_destination(house: House) -> None:
    assert [(queue.name, queue.at_once) for queue in queues_of(house.config)] == [
        ("contour", 1),
        ("send-tps", 2),
    ]


def test_files_of_delivered_jobs_go_after_the_retention_time_and_no_others(house: House) -> None:
    done, waiting = house.sending("tps"), house.job("1.3")
    (house.data / "jobs" / done.job_id).mkdir(parents=True)
    (delivery,) = house.store.claim(done.job_id, "tps")
    house.store.settle(delivery, DeliveryState.STORED, status=0, note="", next_at=datetime.now(UTC))
    assert house.keeper.purge() == 0, "not before the time"
    house.ahead = timedelta(days=31)
    assert house.keeper.purge() == 1
    assert house.keeper.purge() == 0
    assert not (house.data / "inbox" / "1.2").exists()
    assert not (house.data / "jobs" / done.job_id).exists()
    assert (house.data / "inbox" / "1.3" / "1.3.1.dcm").exists()
    assert house.store.job(waiting.job_id).purged_at is None
    assert f"{done.job_id}.1" in house.engine.forgotten
    assert house.store.events(done.job_id)[-1].change == "purged"


def test_retention_of_zero_days_keeps_everything(tmp_path: Path) -> None:
    house = House(tmp_path, retention={"days": 0})
    job = house.sending("tps")
    (delivery,) = house.store.claim(job.job_id, "tps")
    house.store.settle(delivery, DeliveryState.STORED, status=0, note="", next_at=datetime.now(UTC))
    house.ahead = timedelta(days=3650)
    assert house.keeper.purge() == 0


def test_a_nearly_full_disk_is_said(tmp_path: Path) -> None:
    house = House(tmp_path, receiver={"accept_any_calling_ae": True, "min_free_mb": 10**9})
    with structlog.testing.capture_logs() as logs:
        house.keeper.watch_disk()
    assert [entry["event"] for entry in logs] == ["disk nearly full"]


def test_a_tick_that_fails_is_said_and_does_not_stop_the_clock() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with structlog.testing.capture_logs() as logs:
        _safely("purge", fail, Pulse())()
    assert logs[0]["tick"] == "purge"
    assert logs[0]["kind"] == "ZeroDivisionError"


def test_an_image_that_comes_while_its_series_is_purged_stays_on_the_disk(house: House) -> None:
    job = house.sending("tps")
    (delivery,) = house.store.claim(job.job_id, "tps")
    house.store.settle(delivery, DeliveryState.STORED, status=0, note="", next_at=datetime.now(UTC))
    house.ahead = timedelta(days=31)
    folder = house.data / "inbox" / job.series_uid
    purged = house.store.purged

    def meanwhile(of: Job) -> None:
        folder.mkdir()
        (folder / "late.dcm").write_bytes(b"accepted")
        purged(of)

    house.store.purged = meanwhile  # type: ignore[method-assign]  # a sender acts in this very moment
    assert house.keeper.purge() == 1
    assert (folder / "late.dcm").read_bytes() == b"accepted"
    assert not list((house.data / "purging").iterdir())
