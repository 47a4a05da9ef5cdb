"""Notices are raised and sent once, and again only when the problem begins again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orgseg_node.errors import ItemsFailed
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.monitoring.alerts import Notice, Watch
from orgseg_node.node.monitoring.email_transport import email_of
from orgseg_node.node.monitoring.failing_tasks import FailingTasks, failing_tasks
from orgseg_node.node.monitoring.outbox import Outbox
from orgseg_node.node.scheduler import Watchdog
from orgseg_node.node.store.model import BY_RULE, Instance, JobState, NewJob, OutputObject, SeriesState
from orgseg_node.node.store.store import Store


class Bench:
    """A store, a watch and an outbox with a clock of their own."""

    def __init__(self, folder: Path) -> None:
        self.now = datetime(2026, 1, 2, tzinfo=UTC)
        self.folder = folder
        self.store = Store(folder, clock=lambda: self.now)
        self.min_free_mb = 0

    @property
    def config(self) -> NodeConfig:
        values: dict[str, Any] = {
            "node": {"data_dir": str(self.folder)},
            "receiver": {"min_free_mb": self.min_free_mb, "accept_any_calling_ae": True},
        }
        return NodeConfig.model_validate(values)

    def scan(self) -> int:
        return Watch(self.config, self.store.database, clock=lambda: self.now).scan()

    def outbox(self) -> Outbox:
        """As a process that has just started sees it."""
        return Outbox(self.store.database, clock=lambda: self.now)

    def series(self, uid: str) -> None:
        self.store.accept(
            Instance(
                sop_uid=f"{uid}.1", series_uid=uid, sha256="a" * 64, size=1, path=f"inbox/{uid}/1.dcm",
                transfer_syntax="1.2.840.10008.1.2.1", calling_ae="CT", received_at=self.now,
            )
        )  # fmt: skip

    def job(self, uid: str) -> str:
        self.series(uid)
        new = NewJob(series_uid=uid, content_sha256="b" * 64, bundles=("starter",), slices=1)
        assert self.store.judge(self.store.one_series(uid), SeriesState.READY, job=new)
        return new.job_id

    def notices(self) -> list[Notice]:
        return self.store.database.read(Notice, "SELECT * FROM notice ORDER BY notice_key")

    def codes(self) -> list[str]:
        return sorted(notice.code for notice in self.notices())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_failed_job_is_reported_once_and_again_when_it_fails_again(bench: Bench) -> None:
    job = bench.job("1.2")
    bench.store.move(job, JobState.FAILED, "It failed.", reason="JOB")
    assert [bench.scan(), bench.scan(), bench.scan()] == [1, 0, 0]
    bench.store.retry(job)
    assert bench.scan() == 0
    bench.store.move(job, JobState.FAILED, "It failed again.", reason="JOB")
    assert bench.scan() == 1
    assert bench.codes() == ["JOB_FAILED", "JOB_FAILED"]


def _computed(bench: Bench, uid: str) -> str:
    job = bench.job(uid)
    for state in (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING):
        bench.store.move(job, state, "")
    return job


def test_a_job_that_a_check_holds_is_reported_and_one_that_a_rule_holds_is_not(bench: Bench) -> None:
    bench.store.move(_computed(bench, "1.2"), JobState.REVIEW, "Every result.", reason=BY_RULE)
    assert bench.scan() == 0
    job = _computed(bench, "1.3")
    bench.store.move(job, JobState.REVIEW, "Left and right are swapped.", reason="HELD_BY_FINDING")
    assert [bench.scan(), bench.scan()] == [1, 0]
    (notice,) = bench.notices()
    assert (notice.code, notice.subject) == ("JOB_HELD", f"job {job}: HELD_BY_FINDING")


def test_the_notice_about_organs_that_were_left_out_names_them_once(bench: Bench) -> None:
    job = bench.job("1.2")
    for _ in range(2):  # the step may run again after a crash
        bench.store.attempts.record_left_out(job, "left out Larynx; unusual Parotid_L")
    assert [bench.scan(), bench.scan()] == [1, 0]
    (notice,) = bench.notices()
    assert (notice.code, notice.subject) == (
        "ORGANS_LEFT_OUT",
        f"job {job}: left out Larynx; unusual Parotid_L",
    )


def test_held_series_conflicts_and_late_images_are_reported(bench: Bench) -> None:
    bench.series("1.2")
    held = bench.store.one_series("1.2")
    assert bench.store.judge(held, SeriesState.HOLD, reason="INPUT_MISSING_SLICES", note="Some.")
    bench.series("1.3")
    gone = bench.store.one_series("1.3")
    assert bench.store.judge(gone, SeriesState.CONFLICT, reason="SAME_UID_OTHER_CONTENT", note="Two.")
    with bench.store.database.write() as tx:
        tx.run("INSERT INTO event (kind, subject, change) VALUES ('notice', '1.4', 'LATE_IMAGES')")
    assert [bench.scan(), bench.scan()] == [3, 0]
    assert bench.codes() == ["LATE_IMAGES", "SERIES_CONFLICT", "SERIES_HELD"]


def test_a_delivery_is_late_after_the_configured_hours(bench: Bench) -> None:
    job = bench.job("1.2")
    for state in (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING):
        bench.store.move(job, state, "")
    bench.store.begin_sending(job, [(OutputObject(role="SEG", path="x", sop_uid="1.9"), "tps")])
    bench.store.claim(job, "tps")
    bench.now += timedelta(hours=1)
    assert bench.scan() == 0
    bench.now += timedelta(hours=1, seconds=1)
    assert [bench.scan(), bench.scan()] == [1, 0]
    assert bench.codes() == ["DELIVERY_LATE"]


def test_a_condition_is_reported_when_it_begins_and_when_it_begins_again(bench: Bench) -> None:
    for full, raised in ((10**9, 1), (10**9, 0), (0, 0), (10**9, 1), (10**9, 0)):
        bench.min_free_mb = full
        bench.now += timedelta(minutes=1)
        assert bench.scan() == raised
    assert [n.code for n in bench.notices() if n.cleared_at is None] == ["DISK_LOW"]
    assert len(bench.notices()) == 2


def test_notices_are_sent_together_and_each_once_on_each_channel(bench: Bench) -> None:
    for number in range(3):
        job = bench.job(f"1.{number}")
        bench.store.move(job, JobState.FAILED, "It failed.", reason="JOB")
    bench.scan()
    for channel in ("email", "webhook"):
        bench.outbox().gather(channel, 300)
        message = bench.outbox().claim(channel, 60)
        assert message is not None
        assert len(message.notices) == 3
        bench.outbox().finish(message)
        bench.outbox().gather(channel, 300)
        assert bench.outbox().claim(channel, 60) is None
    bench.store.move(bench.job("1.9"), JobState.FAILED, "It failed.", reason="JOB")
    bench.scan()
    bench.now += timedelta(seconds=299)
    bench.outbox().gather("email", 300)
    assert bench.outbox().claim("email", 60) is None, "at most one message in so long"
    bench.now += timedelta(seconds=2)
    bench.outbox().gather("email", 300)
    message = bench.outbox().claim("email", 60)
    assert message is not None
    assert len(message.notices) == 1


def test_an_unfinished_message_is_the_same_message_at_the_next_attempt(bench: Bench) -> None:
    bench.store.move(bench.job("1.2"), JobState.FAILED, "It failed.", reason="JOB")
    bench.scan()
    bench.outbox().gather("email", 0)
    first = bench.outbox().claim("email", 60)
    assert bench.outbox().claim("email", 60) is None, "another process has it"
    bench.store.move(bench.job("1.3"), JobState.FAILED, "It failed.", reason="JOB")
    bench.scan()
    bench.now += timedelta(seconds=61)  # that process died
    bench.outbox().gather("email", 0)
    again = bench.outbox().claim("email", 60)
    assert first is not None
    assert again is not None
    assert (again.message_id, again.notices, again.attempts) == (first.message_id, first.notices, 2)


def test_an_email_holds_codes_counts_and_identifiers(bench: Bench) -> None:
    job = bench.job("1.2")
    bench.store.move(job, JobState.FAILED, "It failed.", reason="JOB_TIME_LIMIT")
    bench.scan()
    bench.outbox().gather("email", 0)
    message = bench.outbox().claim("email", 60)
    assert message is not None
    values = {"host": "mail", "sender": "node@clinic.example", "recipients": ["physics@clinic.example"]}
    section = NodeConfig.model_validate(
        {"receiver": {"accept_any_calling_ae": True}, "notices": {"email": values}}
    ).notices.email
    assert section is not None
    email = email_of(section, "ORGSEG", message)
    assert email["Subject"] == "ORGSEG: JOB_FAILED (1)"
    assert f"job {job}: JOB_TIME_LIMIT" in email.get_content()
    assert email["Message-ID"] == f"<{message.message_id}@orgseg.invalid>"


def test_a_task_that_fails_again_and_again_is_reported_with_its_items_and_cleared(bench: Bench) -> None:
    watchdog = Watchdog()
    tasks = FailingTasks(bench.store.database, "ct-node", watchdog, clock=lambda: bench.now)
    tasks.store()
    assert bench.scan() == 0
    for _ in range(3):
        watchdog.failed("judge", ItemsFailed("series 1.2.3: UNEXPECTED"))
    tasks.store()
    assert [bench.scan(), bench.scan()] == [1, 0]
    (notice,) = bench.notices()
    assert notice.code == "TASK_FAILS"
    assert "series 1.2.3" in notice.subject
    watchdog.succeeded("judge")
    tasks.store()
    bench.scan()
    assert bench.notices()[0].cleared_at is not None


def test_a_task_of_a_process_that_has_ended_is_reported_no_more(bench: Bench) -> None:
    watchdog = Watchdog()
    for _ in range(3):
        watchdog.failed("purge", KeyError("x"))
    FailingTasks(bench.store.database, "worker-a", watchdog, clock=lambda: bench.now).store()
    assert len(failing_tasks(bench.store.database, bench.now)) == 1
    bench.now += timedelta(minutes=6)
    assert failing_tasks(bench.store.database, bench.now) == []


def test_a_condition_that_cannot_be_checked_does_not_stop_the_notices(bench: Bench, tmp_path: Path) -> None:
    job = bench.job("1.2")
    bench.store.move(job, JobState.FAILED, "It failed.", reason="JOB")
    bench.folder = tmp_path / "gone"
    with pytest.raises(ItemsFailed, match="DISK_LOW"):
        bench.scan()
    assert bench.codes() == ["JOB_FAILED"]
