"""Periodic tasks that fail again and again, as another process and a person see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from orgseg_node.node.scheduler import FailingTick, Watchdog
from orgseg_node.node.store.clock import Clock, stamp, utc_now
from orgseg_node.node.store.database import Database

_OUTDATED: Final = timedelta(minutes=5)
"""A row that was not written for so long belongs to a process that has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingTask:
    """A task that fails again and again.

    Attributes
    ----------
    process : name of the worker or receiver that runs it
    task : name of the task
    code : of the last error
    detail : the last error as a sentence; it names the items that failed
    times : how often it failed in a row
    """

    process: str
    task: str
    code: str
    detail: str
    times: int


class FailingTasks:
    """Stores which tasks of this process fail.

    Parameters
    ----------
    database : the node's database
    process : name of this process
    watchdog : knows which tasks fail
    clock : source of the time
    """

    def __init__(
        self, database: Database, process: str, watchdog: Watchdog, *, clock: Clock = utc_now
    ) -> None:
        self._db = database
        self._process = process
        self._watchdog = watchdog
        self._clock = clock
        self._stored: Sequence[FailingTick] | None = None

    def store(self) -> None:
        """Store what fails now in place of what was stored before."""
        failing = self._watchdog.failing()
        if not failing and self._stored == []:
            return
        now = stamp(self._clock())
        with self._db.write() as tx:
            tx.run("DELETE FROM failing_task WHERE process = ?", (self._process,))
            for one in failing:
                tx.run(
                    "INSERT INTO failing_task (process, task, code, detail, times, since, seen_at)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (self._process, one.name, one.code, one.detail, one.times, stamp(one.since), now),
                )
        self._stored = failing


def failing_tasks(database: Database, now: datetime) -> list[FailingTask]:
    """The tasks of all running processes that fail again and again."""
    return database.read(
        FailingTask,
        "SELECT * FROM failing_task WHERE seen_at > ? ORDER BY process, task",
        (stamp(now - _OUTDATED),),
    )
