"""Jobs in a real store, with a dispatcher and retention over an engine that runs nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.processing.dispatcher import Dispatcher
from orgseg_node.node.processing.retention import Retention
from orgseg_node.node.processing.worker import Tools, Worker
from orgseg_node.node.store.database import Database
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


class JobBench:
    """A data folder, its store, and what processes jobs in it.

    Attributes
    ----------
    elapsed : how much later than now it is for dispatcher and retention
    """

    def __init__(
        self,
        folder: Path,
        *,
        engine: MemoryEngine | None = None,
        slots: Callable[[Database], int] = lambda _: 1,
        **sections: Any,
    ) -> None:
        self.data = folder
        values = {
            "node": {"data_dir": folder},
            "receiver": {"accept_any_calling_ae": True},
            "destinations": {"tps": {"ae_title": "TPS", "host": "127.0.0.1", "port": 104}},
            **sections,
        }
        self.config = NodeConfig.model_validate(values)
        self.elapsed = timedelta(0)
        self.store = Store(folder)
        self.engine: Any = engine or MemoryEngine()
        worker = Worker(self.config, self.store, Tools(sender=MemorySender()))
        count = partial(slots, self.store.database)
        self.dispatcher = Dispatcher(
            self.config, self.store, self.engine, worker, clock=self.now, slots=count
        )
        self.retention = Retention(self.config, self.store, self.engine, clock=self.now)

    def now(self) -> datetime:
        """The time."""
        return datetime.now(UTC) + self.elapsed

    def job(self, series: str = "1.2") -> Job:
        """A queued job of a series with one file."""
        self.accept(f"{series}.1")
        new = NewJob(series_uid=series, content_sha256="c" * 64, bundles=("b",), slices=1)
        assert self.store.judge(self.store.one_series(series), SeriesState.READY, job=new)
        return self.store.job(new.job_id)

    def accept(self, sop_uid: str) -> None:
        """Accept one image; the UID of its series is its own without the last number."""
        series = sop_uid.rpartition(".")[0]
        path = f"inbox/{series}/{sop_uid}.dcm"
        (self.data / path).parent.mkdir(parents=True, exist_ok=True)
        (self.data / path).write_bytes(b"x")
        self.store.accept(
            Instance(
                sop_uid=sop_uid, series_uid=series, sha256="a" * 64, size=1, path=path,
                transfer_syntax="1.2.840.10008.1.2", calling_ae="CT", received_at=datetime.now(UTC),
            )
        )  # fmt: skip

    def delivered(self, destination: str, series: str = "1.2") -> Job:
        """A job whose RTSTRUCT was delivered."""
        job = self.sending(destination, series=series)
        (delivery,) = self.store.claim(job.job_id, destination)
        self.store.record_delivery(
            delivery, DeliveryState.STORED, status=0, note="", next_at=datetime.now(UTC)
        )
        return self.store.job(job.job_id)

    def sending(self, *destinations: str, series: str = "1.2") -> Job:
        """A job whose RTSTRUCT waits to be sent to destinations."""
        job = self.job(series)
        for state in (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING):
            self.store.move(job.job_id, state, "")
        self.store.begin_sending(job.job_id, [(RTSTRUCT, name) for name in destinations])
        return self.store.job(job.job_id)
