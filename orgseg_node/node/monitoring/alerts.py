"""Notices about problems that need a person: each is raised once and stored until it was sent.

A notice has a key that identifies the problem, for example one run of one job. So the scan may run again at
any time, after a crash or on two machines, and the same problem is still reported once. A condition such as a
full disk is raised when it begins and cleared when it ends.

A notice consists of a code and of identifiers of the node (jobs, UIDs, names of destinations). It cannot hold
text from an image.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from orgseg_node.errors import ConfigError
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.destinations import Destination
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.feedback.model import FADING
from orgseg_node.node.isolation import Isolation
from orgseg_node.node.monitoring.failing_tasks import failing_tasks
from orgseg_node.node.store.attempts import LEFT_OUT
from orgseg_node.node.store.clock import Clock, stamp, utc_now
from orgseg_node.node.store.database import Database, Transaction
from orgseg_node.node.store.model import BY_RULE, DeliveryState, JobState, SeriesState
from orgseg_node.node.tls.context import certificate_end


class NoticeCode(StrEnum):
    """The kinds of notices."""

    JOB_FAILED = "JOB_FAILED"
    JOB_HELD = "JOB_HELD"
    ORGANS_LEFT_OUT = "ORGANS_LEFT_OUT"
    SERIES_HELD = "SERIES_HELD"
    SERIES_CONFLICT = "SERIES_CONFLICT"
    DELIVERY_LATE = "DELIVERY_LATE"
    LATE_IMAGES = "LATE_IMAGES"
    DISK_LOW = "DISK_LOW"
    CERTIFICATE_ENDS = "CERTIFICATE_ENDS"
    DESTINATION_SILENT = "DESTINATION_SILENT"
    TASK_FAILS = "TASK_FAILS"
    FEEDBACK_ALARM = "FEEDBACK_ALARM"
    EDITING_FADES = "EDITING_FADES"


SENTENCES: Final = {
    NoticeCode.JOB_FAILED: "A job failed and needs a person. See 'orgseg jobs show'.",
    NoticeCode.JOB_HELD: "A check holds a job, which waits for a person. See 'orgseg jobs show'.",
    NoticeCode.ORGANS_LEFT_OUT: "Implausible organs were left out of a result. See 'orgseg qa explain'.",
    NoticeCode.SERIES_HELD: "A series is held and will not be contoured as it is. See 'orgseg jobs list'.",
    NoticeCode.SERIES_CONFLICT: "Different images arrived under one UID. See 'orgseg series settle'.",
    NoticeCode.DELIVERY_LATE: "Results could not be delivered for long. They are kept and tried again.",
    NoticeCode.LATE_IMAGES: "Images arrived after the contours of their series were delivered.",
    NoticeCode.DISK_LOW: "The disk is nearly full; images are refused until there is space.",
    NoticeCode.CERTIFICATE_ENDS: "A certificate expires soon or has expired. Renew it.",
    NoticeCode.TASK_FAILS: "A periodic task of the node fails again and again. See 'orgseg doctor'.",
    NoticeCode.FEEDBACK_ALARM: "Contours differ from what they were. See 'orgseg feedback charts'.",
    NoticeCode.EDITING_FADES: "A person edits an organ less and less. See 'orgseg feedback planners'.",
    NoticeCode.DESTINATION_SILENT: "A destination does not answer C-ECHO. See 'orgseg echo'.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One problem that needs a person."""

    notice_key: str
    code: str
    subject: str
    raised_at: str
    cleared_at: str | None = None

    @property
    def raised(self) -> datetime:
        """When it was raised."""
        return datetime.fromisoformat(self.raised_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding of a scan; the same problem always has the same key."""

    key: str
    code: NoticeCode
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Destination:
    destination: str


class Watch:
    """Scans for problems that need a person.

    Parameters
    ----------
    config : the configuration in force
    database : of the node
    clock : gives the present time
    """

    def __init__(
        self, config: NodeConfig | CurrentConfig, database: Database, *, clock: Clock = utc_now
    ) -> None:
        self._current = CurrentConfig.of(config)
        self._db = database
        self._clock = clock

    def scan(self) -> int:
        """Raise new notices, clear those that are over; the number of new ones."""
        isolation = Isolation("watch")
        conditions: dict[NoticeCode, list[Finding]] = {}
        for kind, find in (
            (NoticeCode.DISK_LOW, self._disk),
            (NoticeCode.CERTIFICATE_ENDS, self._certificates),
            (NoticeCode.DESTINATION_SILENT, self._silent_destinations),
            (NoticeCode.TASK_FAILS, self._tasks),
        ):
            with isolation.item(kind):  # of a kind that cannot be looked at, nothing is cleared
                conditions[kind] = list(find())
        with self._db.write() as tx:
            found = [*_jobs(tx), *_series(tx), *self._late(tx), *_late_images(tx)]
            found += [*_chart_alarms(tx)]
            raised = sum(self._raise(tx, finding) for finding in found)
            raised += self._conditions(tx, conditions)
        isolation.finish()
        return raised

    def _raise(self, tx: Transaction, finding: Finding, *, key: str = "") -> int:
        return tx.run(
            "INSERT INTO notice (notice_key, code, subject, raised_at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (notice_key) DO NOTHING",
            (key or finding.key, finding.code, finding.subject, stamp(self._clock())),
        )

    def _conditions(self, tx: Transaction, conditions: Mapping[NoticeCode, Sequence[Finding]]) -> int:
        """Raise conditions that began and clear those that ended; a new beginning has a new key."""
        found = [finding for each in conditions.values() for finding in each]
        rows = tx.rows("SELECT notice_key, code, subject FROM notice WHERE cleared_at IS NULL")
        rows = [row for row in rows if row[1] in conditions]
        raised = {(str(code), str(subject)) for _, code, subject in rows}
        now = stamp(self._clock())
        wanted = {(finding.code.value, finding.subject) for finding in found}
        for key, code, subject in rows:
            if (str(code), str(subject)) not in wanted:
                tx.run("UPDATE notice SET cleared_at = ? WHERE notice_key = ?", (now, key))
        fresh = [finding for finding in found if (finding.code.value, finding.subject) not in raised]
        return sum(self._raise(tx, finding, key=f"{finding.key}:{now}") for finding in fresh)

    def _late(self, tx: Transaction) -> Iterator[Finding]:
        limit = self._clock() - timedelta(hours=self._current.config.watch.delivery_late_h)
        rows = tx.rows(
            "SELECT DISTINCT d.job_id, d.destination, j.run FROM delivery d JOIN job j ON j.job_id = d.job_id"
            " WHERE j.state = ? AND d.state IN (?, ?) AND d.first_attempt_at <= ?",
            (JobState.SENDING, DeliveryState.RETRY_WAIT, DeliveryState.SENDING, stamp(limit)),
        )
        for job_id, destination, run in rows:
            subject = f"job {job_id} to {destination}"
            yield Finding(
                key=f"late:{job_id}:{run}:{destination}", code=NoticeCode.DELIVERY_LATE, subject=subject
            )

    def _silent_destinations(self) -> Iterator[Finding]:
        for echo in self._db.read(_Destination, "SELECT destination FROM destination_echo WHERE code <> ''"):
            name = echo.destination
            yield Finding(key=f"silent:{name}", code=NoticeCode.DESTINATION_SILENT, subject=name)

    def _tasks(self) -> Iterator[Finding]:
        for task in failing_tasks(self._db, self._clock()):
            subject = f"{task.task} of {task.process}: {task.code} {task.detail}"
            yield Finding(key=f"task:{task.process}:{task.task}", code=NoticeCode.TASK_FAILS, subject=subject)

    def _disk(self) -> Iterator[Finding]:
        config = self._current.config
        free_mb = shutil.disk_usage(config.node.data_dir).free // 1_000_000
        if free_mb < config.receiver.min_free_mb:
            yield Finding(key="disk", code=NoticeCode.DISK_LOW, subject="data folder")

    def _certificates(self) -> Iterator[Finding]:
        limit = self._clock() + timedelta(days=self._current.config.watch.certificate_days)
        for name, end in certificate_ends(self._current.config):
            if end < limit:
                subject = f"{name}, expires {end:%Y-%m-%d}"
                yield Finding(key=f"certificate:{name}", code=NoticeCode.CERTIFICATE_ENDS, subject=subject)


def certificate_ends(config: NodeConfig) -> Iterable[tuple[str, datetime]]:
    """When the node's own certificates expire, by setting; files that cannot be read are left out."""
    own = [("tls.certificate", config.tls.certificate), ("web.certificate", config.web.certificate)]
    own += [
        (f"destinations.{name}.tls_certificate", place.tls_certificate)
        for name, place in config.destinations.items()
        if isinstance(place, Destination)
    ]
    seen = set()
    for name, path in own:
        if path is None or path in seen:
            continue
        seen.add(path)
        try:
            yield name, certificate_end(path)
        except (ConfigError, OSError, ValueError):
            continue


def _jobs(tx: Transaction) -> Iterator[Finding]:
    for job_id, run, reason in tx.rows(
        "SELECT job_id, run, reason FROM job WHERE state = ?", (JobState.FAILED,)
    ):
        yield Finding(
            key=f"failed:{job_id}:{run}", code=NoticeCode.JOB_FAILED, subject=f"job {job_id}: {reason}"
        )
    for job_id, run, reason in tx.rows(
        "SELECT job_id, run, reason FROM job WHERE state = ? AND reason <> ?", (JobState.REVIEW, BY_RULE)
    ):
        yield Finding(key=f"held:{job_id}:{run}", code=NoticeCode.JOB_HELD, subject=f"job {job_id}: {reason}")
    for job_id, organs in tx.rows(
        "SELECT DISTINCT subject, note FROM event WHERE kind = 'job' AND change = ?", (LEFT_OUT,)
    ):
        yield Finding(
            key=f"organs:{job_id}:{organs}",
            code=NoticeCode.ORGANS_LEFT_OUT,
            subject=f"job {job_id}: {organs}",
        )


def _series(tx: Transaction) -> Iterator[Finding]:
    codes = {SeriesState.HOLD: NoticeCode.SERIES_HELD, SeriesState.CONFLICT: NoticeCode.SERIES_CONFLICT}
    rows = tx.rows(
        "SELECT series_uid, revision, state, reason FROM series WHERE state IN (?, ?)", tuple(codes)
    )
    for uid, revision, state, reason in rows:
        yield Finding(
            key=f"{state}:{uid}:{revision}",
            code=codes[SeriesState(state)],
            subject=f"series {uid}: {reason}",
        )


def _late_images(tx: Transaction) -> Iterator[Finding]:
    rows = tx.rows("SELECT number, subject FROM event WHERE change = 'notice' OR kind = 'notice'")
    for number, subject in rows:
        yield Finding(key=f"event:{number}", code=NoticeCode.LATE_IMAGES, subject=str(subject))


def _chart_alarms(tx: Transaction) -> Iterator[Finding]:
    """One notice for each organ, model and kind of alarm in a month, however many charts show it."""
    rows = tx.rows("SELECT organ, model, raised_at, measure FROM feedback_alarm ORDER BY raised_at, measure")
    for organ, model, raised_at, measure in rows:
        code = NoticeCode.EDITING_FADES if measure == FADING else NoticeCode.FEEDBACK_ALARM
        subject = f"{organ}, {model}"
        yield Finding(key=f"chart:{code}:{subject}:{str(raised_at)[:7]}", code=code, subject=subject)
