"""What the node is doing, for the first page: its parts with their age, the queue, destinations."""

from __future__ import annotations

import shutil
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from orgseg_node.node.delivery.echo import EchoStatus
from orgseg_node.node.parts import Parts
from orgseg_node.node.store.database import Database
from orgseg_node.node.store.model import RUNNING, Job, JobState

_RECENT_EVENTS: Final = 20_000
_LAST_JOBS: Final = 20
_FEWEST_MEASURED: Final = 3
_BEGINS: Final = "-> PREPARING"
_ENDS: Final = ("-> SENDING", "-> REVIEW", "-> DONE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the node.

    Attributes
    ----------
    name : key of its words, or the name of a destination
    level : ``good``, ``warn``, ``bad`` or ``idle``
    key : key of the words that say how it is
    values : for these words
    since : when it last did something
    """

    name: str
    level: str
    key: str
    values: Mapping[str, object]
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningJob:
    """A job that is being contoured.

    Attributes
    ----------
    job : the job
    left_s : seconds left; None if that cannot be said
    """

    job: Job
    left_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """The jobs that wait.

    Attributes
    ----------
    running : those that are being contoured
    waiting : how many wait for their turn
    sending : how many are being sent
    each_s : how long a job usually takes; None if too few were measured
    left_s : seconds until the queue is empty; None if that cannot be said
    """

    running: tuple[RunningJob, ...]
    waiting: int
    sending: int
    each_s: float | None
    left_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _At:
    subject: str
    change: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Delivered:
    note: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Newest:
    at: datetime | None


def parts_of_node(parts: Parts) -> list[Part]:
    """The parts of the node itself."""
    config = parts.config.config
    found = []
    if parts.receiver is not None:
        (newest,) = parts.store.database.read(_Newest, "SELECT max(last_received_at) AS at FROM series")
        listening = parts.receiver.listening
        values = {"title": config.node.ae_title, "port": config.node.port}
        key = "part.listening" if listening else "part.not_listening"
        level = "good" if listening else "bad"
        found.append(Part(name="part.receiver", level=level, key=key, values=values, since=newest.at))
    if parts.engine is not None:
        running = parts.store.jobs(states=RUNNING)
        key = "part.working" if running else "part.ready"
        since = max((job.updated_at for job in running), default=None)
        device = config.inference.device
        found.append(Part(name="part.worker", level="good", key=key, values={"device": device}, since=since))
    free, wanted = shutil.disk_usage(config.node.data_dir).free, config.receiver.min_free_mb * 1_000_000
    level = "bad" if free < wanted else "warn" if free < 3 * wanted else "good"
    values = {"free": f"{free / 1e9:.0f}", "least": f"{wanted / 1e9:g}"}
    found.append(Part(name="part.disk", level=level, key="part.free", values=values))
    overdue = parts.watchdog.overdue()
    failing = [one.name for one in parts.watchdog.failing()]
    if overdue or failing:
        names = {"names": ", ".join(dict.fromkeys([*overdue, *failing]))}
        found.append(Part(name="part.tasks", level="bad", key="part.tasks_fail", values=names))
    else:
        found.append(Part(name="part.tasks", level="good", key="part.tasks_run", values={}))
    return found


def destinations(parts: Parts, now: datetime) -> list[tuple[Part, datetime | None]]:
    """Each destination with its last C-ECHO, and the time of the last delivery.

    Parameters
    ----------
    parts : of the running node
    now : the present time
    """
    config, database = parts.config.config, parts.store.database
    echoes = {one.destination: one for one in database.read(EchoStatus, "SELECT * FROM destination_echo")}
    delivered = last_deliveries(database)
    stale = now - timedelta(minutes=3 * config.watch.echo_minutes)
    found = []
    for name in config.destinations:
        echo = echoes.get(name)
        if echo is None:
            part = Part(name=name, level="idle", key="part.not_asked", values={})
        elif echo.code:
            values = {"code": echo.code}
            part = Part(name=name, level="bad", key="part.no_answer", values=values, since=echo.answered)
        else:
            old = echo.answered is not None and config.watch.echo_minutes > 0 and echo.answered < stale
            level = "warn" if old else "good"
            part = Part(name=name, level=level, key="part.answers", values={}, since=echo.answered)
        found.append((part, delivered.get(name)))
    return found


def last_deliveries(database: Database) -> dict[str, datetime]:
    """When each destination last stored an object, from the latest events."""
    rows = database.read(
        _Delivered,
        "SELECT note, max(at) AS at FROM event WHERE kind = 'delivery' AND change LIKE '%-> STORED'"
        " AND number > (SELECT coalesce(max(number), 0) FROM event) - ? GROUP BY note",
        (_RECENT_EVENTS,),
    )
    found: dict[str, datetime] = {}
    for row in rows:
        name = row.note.partition(" to ")[2].partition(":")[0]
        found[name] = max(row.at, found.get(name, row.at))
    return found


def queue(parts: Parts, now: datetime) -> Queue:
    """The jobs that are contoured now, how many wait, and for how long.

    Parameters
    ----------
    parts : of the running node
    now : the present time
    """
    store = parts.store
    jobs = store.jobs(states=RUNNING | {JobState.QUEUED, JobState.RETRY_WAIT, JobState.SENDING})
    counts = Counter(job.state for job in jobs)
    waiting = counts[JobState.QUEUED] + counts[JobState.RETRY_WAIT]
    each_s = _usual_s(store.database, store.jobs(states={JobState.DONE}, limit=_LAST_JOBS))
    running = tuple(
        RunningJob(job=job, left_s=_left_s(store.database, job, now, each_s))
        for job in jobs
        if job.state in RUNNING
    )
    known = [one.left_s for one in running if one.left_s is not None]
    left_s = waiting * each_s + max(known, default=0.0) if each_s is not None and waiting else None
    return Queue(
        running=running, waiting=waiting, sending=counts[JobState.SENDING], each_s=each_s, left_s=left_s
    )


def _usual_s(database: Database, jobs: list[Job]) -> float | None:
    taken = [took for job in jobs if (took := _took_s(_changes(database, job.job_id))) is not None]
    return statistics.median(taken) if len(taken) >= _FEWEST_MEASURED else None


def _changes(database: Database, job_id: str) -> list[_At]:
    sql = "SELECT subject, change, at FROM event WHERE subject = ? AND kind = 'job' ORDER BY number"
    return database.read(_At, sql, (job_id,))


def _took_s(changes: list[_At]) -> float | None:
    began = None
    for change in changes:
        if change.change.endswith(_BEGINS):
            began = change.at
        if change.change.endswith(_ENDS) and began is not None:
            return (change.at - began).total_seconds()
    return None


def _left_s(database: Database, job: Job, now: datetime, each_s: float | None) -> float | None:
    began = max(
        (one.at for one in _changes(database, job.job_id) if one.change.endswith(_BEGINS)), default=None
    )
    if began is None:
        return None
    gone = (now - began).total_seconds()
    if job.progress > 0.1:
        return gone * (1.0 - job.progress) / job.progress
    return max(0.0, each_s - gone) if each_s is not None else None
