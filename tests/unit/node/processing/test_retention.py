"""What was delivered is deleted after the retention time, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from orgseg_node.errors import ItemsFailed
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.processing.retention import Retention
from orgseg_node.node.store.model import DeliveryState, Instance, Job, SeriesState
from orgseg_node.node.store.store import Store
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

    def meanwhile(of: Job, **options: Any) -> bool:
        folder.mkdir()
        (folder / "late.dcm").write_bytes(b"accepted")
        return purged(of, **options)

    bench.store.mark_purged = meanwhile  # type: ignore[method-assign]  # a sender acts in this very moment
    assert bench.retention.purge() == 1
    assert (folder / "late.dcm").read_bytes() == b"accepted"
    assert not list((bench.data / "purging").iterdir())


def test_objects_that_are_no_ct_are_deleted_after_the_retention_time(bench: JobBench) -> None:
    store = Store(bench.data.parent / "aside")
    data = bench.data.parent / "aside"
    config = NodeConfig.model_validate(
        {"node": {"data_dir": data}, "receiver": {"accept_any_calling_ae": True}, "retention": {"days": 30}}
    )
    elapsed = timedelta(0)
    retention = Retention(config, store, bench.engine, clock=lambda: datetime.now(UTC) + elapsed)
    for uid, reason in (("1.2", "OTHER_CLASSES"), ("1.3", "a rule")):
        path = data / "inbox" / uid / f"{uid}.1.dcm"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"object")
        store.accept(
            Instance(
                sop_uid=f"{uid}.1", series_uid=uid, sha256=uid[-1] * 64, size=6,
                path=str(path.relative_to(data)),
                transfer_syntax="1.2.840.10008.1.2", calling_ae="ARCHIVE", received_at=datetime.now(UTC),
            )
        )  # fmt: skip
        store.judge(store.one_series(uid), SeriesState.IGNORED, reason=reason, note="")
    retention.purge()
    assert store.instances_of("1.2"), "not before the time"
    elapsed = timedelta(days=31)
    retention.purge()
    assert not (data / "inbox" / "1.2").exists()
    assert not store.instances_of("1.2")
    assert store.one_series("1.2").state is SeriesState.IGNORED
    assert (data / "inbox" / "1.3" / "1.3.1.dcm").exists(), "a rule set this one aside"


@pytest.mark.parametrize("again", [False, True])
def test_an_image_accepted_while_its_series_is_purged_keeps_its_row(bench: JobBench, *, again: bool) -> None:
    job = bench.delivered("tps")
    bench.elapsed = timedelta(days=31)
    purged = bench.store.mark_purged

    def meanwhile(of: Job, **options: Any) -> bool:
        done = False
        if again:  # the database had the row before the image was sent again
            (bench.data / "inbox" / "1.2").mkdir()
            (bench.data / "inbox/1.2/1.2.1.dcm").write_bytes(b"x")
            done = purged(of, **options)
        else:
            done = purged(of, **options)
            bench.accept("1.2.2")
        return done

    bench.store.mark_purged = meanwhile  # type: ignore[method-assign]  # a sender acts in this very moment
    assert bench.retention.purge() == 1
    (kept,) = bench.store.instances_of(job.series_uid)
    assert (bench.data / kept.path).is_file()
    assert kept.sop_uid == ("1.2.1" if again else "1.2.2")


def test_an_image_accepted_just_before_its_series_is_moved_is_not_lost(bench: JobBench) -> None:
    job = bench.delivered("tps")
    bench.elapsed = timedelta(days=31)
    purged = bench.store.mark_purged

    def meanwhile(of: Job, **options: Any) -> bool:
        bench.accept("1.2.2")
        (bench.data / "inbox/1.2/1.2.2.dcm").rename(bench.data / "purging" / of.job_id / "1.2.2.dcm")
        return purged(of, **options)

    bench.store.mark_purged = meanwhile  # type: ignore[method-assign]  # a sender acts in this very moment
    assert bench.retention.purge() == 0
    assert all((bench.data / one.path).is_file() for one in bench.store.instances_of(job.series_uid))
    assert len(bench.store.instances_of(job.series_uid)) == 2
    assert bench.store.job(job.job_id).purged_at is None


def test_files_of_a_purge_that_was_interrupted_are_moved_back_or_deleted(bench: JobBench) -> None:
    job = bench.delivered("tps")
    aside = bench.data / "purging" / job.job_id
    aside.parent.mkdir()
    (bench.data / "inbox" / "1.2").rename(aside)
    assert bench.retention.purge() == 0, "its time has not come"
    assert (bench.data / "inbox/1.2/1.2.1.dcm").is_file()
    bench.elapsed = timedelta(days=31)
    assert bench.retention.purge() == 1
    aside.mkdir(parents=True)
    bench.retention.purge()
    assert not aside.exists()


def test_a_job_that_cannot_be_purged_does_not_stop_the_others(bench: JobBench) -> None:
    first, second = bench.delivered("tps"), bench.delivered("tps", series="1.3")
    bench.elapsed = timedelta(days=31)
    place = bench.data / "purging" / first.job_id
    (bench.data / "purging").mkdir()
    place.write_text("a file where the folder should go")
    with pytest.raises(ItemsFailed, match=first.job_id):
        bench.retention.purge()
    assert bench.store.job(second.job_id).purged_at is not None
    assert bench.store.job(first.job_id).purged_at is None
    assert (bench.data / "inbox/1.2/1.2.1.dcm").is_file()
