"""What was delivered is deleted after the retention time, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog

from orgseg_node.node.store.model import DeliveryState, Job
from tests.support.node.job_bench import JobBench


@pytest.fixture
def bench(tmp_path: Path) -> JobBench:
    return JobBench(tmp_path)


def test_only_files_of_delivered_jobs_are_deleted_after_the_retention_time(bench: JobBench) -> None:
    done, waiting = bench.sending("tps"), bench.job("1.3")
    (bench.data / "jobs" / done.job_id).mkdir(parents=True)
    (delivery,) = bench.store.claim(done.job_id, "tps")
    bench.store.record_delivery(delivery, DeliveryState.STORED, status=0, note="", next_at=datetime.now(UTC))
    assert bench.retention.purge() == 0, "not before the time"
    bench.elapsed = timedelta(days=31)
    assert bench.retention.purge() == 1
    assert bench.retention.purge() == 0
    assert not (bench.data / "inbox" / "1.2").exists()
    assert not (bench.data / "jobs" / done.job_id).exists()
    assert (bench.data / "inbox" / "1.3" / "1.3.1.dcm").exists()
    assert bench.store.job(waiting.job_id).purged_at is None
    assert f"{done.job_id}.1" in bench.engine.forgotten
    assert bench.store.events(done.job_id)[-1].change == "purged"


def test_retention_of_zero_days_keeps_everything(tmp_path: Path) -> None:
    bench = JobBench(tmp_path, retention={"days": 0})
    job = bench.sending("tps")
    (delivery,) = bench.store.claim(job.job_id, "tps")
    bench.store.record_delivery(delivery, DeliveryState.STORED, status=0, note="", next_at=datetime.now(UTC))
    bench.elapsed = timedelta(days=3650)
    assert bench.retention.purge() == 0


def test_a_nearly_full_disk_is_logged(tmp_path: Path) -> None:
    bench = JobBench(tmp_path, receiver={"accept_any_calling_ae": True, "min_free_mb": 10**9})
    with structlog.testing.capture_logs() as logs:
        bench.retention.watch_disk()
    assert [entry["event"] for entry in logs] == ["disk nearly full"]


def test_an_image_that_comes_while_its_series_is_purged_stays_on_the_disk(bench: JobBench) -> None:
    job = bench.sending("tps")
    (delivery,) = bench.store.claim(job.job_id, "tps")
    bench.store.record_delivery(delivery, DeliveryState.STORED, status=0, note="", next_at=datetime.now(UTC))
    bench.elapsed = timedelta(days=31)
    folder = bench.data / "inbox" / job.series_uid
    purged = bench.store.mark_purged

    def meanwhile(of: Job) -> None:
        folder.mkdir()
        (folder / "late.dcm").write_bytes(b"accepted")
        purged(of)

    bench.store.mark_purged = meanwhile  # type: ignore[method-assign]  # a sender acts in this very moment
    assert bench.retention.purge() == 1
    assert (folder / "late.dcm").read_bytes() == b"accepted"
    assert not list((bench.data / "purging").iterdir())
