"""Deletes the files of what was delivered once the retention time is over, and watches the free disk space.

No CT that was not delivered is ever deleted. Objects that are no CT and were set aside are.
"""

from __future__ import annotations

import contextlib
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from orgseg_node.durable import make_folder, move_durably
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.isolation import Isolation
from orgseg_node.node.processing.engine import Engine
from orgseg_node.node.processing.workflow_ids import every_workflow_id
from orgseg_node.node.routing.verdict import OTHER_CLASSES
from orgseg_node.node.scheduler import Tick
from orgseg_node.node.store.clock import Clock, utc_now
from orgseg_node.node.store.data_folder import INBOX, JOBS, PURGING
from orgseg_node.node.store.model import Job
from orgseg_node.node.store.set_aside import delete_images, set_aside_before
from orgseg_node.node.store.store import Store

_log = structlog.get_logger("orgseg.retention")


class Retention:
    """Deletes what is no longer kept.

    Parameters
    ----------
    config : the node's configuration
    store : the node's database
    engine : the durable engine, which forgets the workflows of deleted jobs
    clock : returns the time
    """

    def __init__(
        self, config: NodeConfig | CurrentConfig, store: Store, engine: Engine, *, clock: Clock = utc_now
    ) -> None:
        self._current = CurrentConfig.of(config)
        self._store = store
        self._engine = engine
        self._clock = clock

    @property
    def _config(self) -> NodeConfig:
        return self._current.config

    def purge(self) -> int:
        """Delete the files of series and jobs that were delivered longer ago than the retention time.

        The rows and the history stay. The folder is moved away before its rows are deleted: an image that is
        accepted meanwhile is stored in a new folder, which is not deleted. If one was accepted just before,
        the files are moved back and nothing is deleted.

        Returns
        -------
        The number of jobs
        """
        isolation = Isolation("purge")
        for folder in _folders(self._config.node.data_dir / PURGING):
            with isolation.item(f"job {folder.name}"):
                self._finish_interrupted(folder)
        jobs = to_purge(self._store, self._config, self._clock())
        purged = 0
        for job in jobs:
            with isolation.item(f"job {job.job_id}"):
                purged += self._purge(job)
        self._purge_set_aside(isolation)
        isolation.finish()
        return purged

    def _purge(self, job: Job) -> bool:
        """Delete the files of one job and its series; not if an image has arrived since it was listed."""
        data = self._config.node.data_dir
        aside = data / PURGING / job.job_id
        received = data / INBOX / job.series_uid
        if received.is_dir():
            make_folder(aside.parent)
            move_durably(received, aside)
        if not self._store.mark_purged(job, is_here=lambda path: (data / path).is_file()):
            self._move_back(aside, job)
            return False
        self._engine.forget_finished(every_workflow_id(job, self._store.deliveries(job.job_id)))
        for folder in (aside, data / JOBS / job.job_id):
            shutil.rmtree(folder, ignore_errors=True)
        _log.info("purged", job=job.job_id)
        return True

    def _finish_interrupted(self, aside: Path) -> None:
        """Finish what a node began that stopped in the middle: delete the files, or move them back."""
        job = self._store.job(aside.name)
        if job.purged_at is None:
            self._move_back(aside, job)
        else:
            shutil.rmtree(aside, ignore_errors=True)

    def _move_back(self, aside: Path, job: Job) -> None:
        """Move the files of a series back into the inbox; what arrived there meanwhile stays as it is."""
        received = self._config.node.data_dir / INBOX / job.series_uid
        make_folder(received)
        for path in sorted(aside.iterdir()) if aside.is_dir() else ():
            if not (received / path.name).exists():
                move_durably(path, received / path.name)
        shutil.rmtree(aside, ignore_errors=True)
        _log.info("not purged, as an image arrived", job=job.job_id)

    def _purge_set_aside(self, isolation: Isolation) -> None:
        """Delete the objects that came with a study and are no CT; the rows of their series stay."""
        data, days = self._config.node.data_dir, self._config.retention.days
        if not days:
            return
        before = self._clock() - timedelta(days=days)
        for series in set_aside_before(self._store.database, OTHER_CLASSES, before):
            with isolation.item(f"series {series.series_uid}"):
                count = delete_images(
                    self._store.database, series, lambda path: (data / path).unlink(missing_ok=True)
                )
                with contextlib.suppress(OSError):  # an image came meanwhile
                    (data / INBOX / series.series_uid).rmdir()
                _log.info("set-aside series purged", series=series.series_uid, instances=count)

    def watch_disk(self) -> None:
        """Log an error while senders are refused because too little disk space is free."""
        free_mb = shutil.disk_usage(self._config.node.data_dir).free // 1_000_000
        if free_mb < self._config.receiver.min_free_mb:
            _log.error("disk nearly full", free_mb=free_mb, limit_mb=self._config.receiver.min_free_mb)

    def ticks(self) -> tuple[Tick, ...]:
        """What the scheduler runs: the disk every minute, the deletion every hour."""
        return (("disk", self.watch_disk, 60.0), ("purge", self.purge, 3600.0))


def to_purge(store: Store, config: NodeConfig, now: datetime) -> list[Job]:
    """The jobs whose files retention would delete now: delivered, and longer ago than the retention time.

    Parameters
    ----------
    store : the node's database
    config : the node's configuration; a retention time of 0 days keeps everything
    now : the time
    """
    days = config.retention.days
    return store.purgeable(now - timedelta(days=days)) if days else []


def _folders(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else []
