"""Metrics for a monitoring system: counters of the process, and values read from the database.

If several processes share one database, each has its own counters. Values from the database are the same in
each, so a query should take them once (``max without (instance)``).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orgseg_node import __version__
from orgseg_node.node.delivery.echo import EchoStatus
from orgseg_node.node.feedback.model import FeedbackState
from orgseg_node.node.monitoring.alerts import certificate_ends
from orgseg_node.node.parts import Parts
from orgseg_node.node.routing.revision import revision_of
from orgseg_node.node.store.clock import Clock, utc_now
from orgseg_node.node.store.database import Database
from orgseg_node.node.store.model import DeliveryState, JobState, SeriesState

_WAITING_JOBS = (JobState.QUEUED, JobState.RETRY_WAIT, JobState.REVIEW, JobState.SENDING, JobState.FAILED)
_WAITING_SERIES = (SeriesState.RECEIVING, SeriesState.HOLD, SeriesState.CONFLICT)


def render(parts: Parts, clock: Clock = utc_now) -> bytes:
    """All metrics in the text format of Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_DatabaseCollector(parts, clock))
    return generate_latest(parts.meters.registry) + generate_latest(registry)


class _DatabaseCollector(Collector):
    """Values from the database and the disk, read at each request."""

    def __init__(self, parts: Parts, clock: Clock) -> None:
        self._parts = parts
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        """All metric families; each has a value for each of its states, so that no time series disappears."""
        yield from self._of_node()
        yield from _counts(self._parts.store.database)
        yield from self._ages(self._parts.store.database)
        yield from self._of_destinations()

    def _of_node(self) -> Iterator[Metric]:
        config = self._parts.config.config
        info = GaugeMetricFamily("orgseg_info", "Version and configuration.", labels=("version", "config"))
        info.add_metric((__version__, revision_of(config)), 1)
        yield info
        free = shutil.disk_usage(config.node.data_dir).free
        yield GaugeMetricFamily(
            "orgseg_disk_free_bytes", "Free space on the disk of received images.", value=free
        )
        days = GaugeMetricFamily(
            "orgseg_certificate_days_left", "Days until a certificate expires.", labels=("certificate",)
        )
        for name, end in certificate_ends(config):
            days.add_metric((name,), (end - self._clock()).total_seconds() / 86400)
        yield days

    def _ages(self, database: Database) -> Iterator[Metric]:
        oldest = GaugeMetricFamily(
            "orgseg_oldest_seconds",
            "Age of the oldest waiting job or series, by state.",
            labels=("kind", "state"),
        )
        jobs = _labelled_values(
            database, "SELECT state AS one, '' AS two, min(updated_at) AS value FROM job GROUP BY state"
        )
        series = _labelled_values(
            database,
            "SELECT state AS one, '' AS two, min(last_received_at) AS value FROM series GROUP BY state",
        )
        for kind, states, first in (("job", _WAITING_JOBS, jobs), ("series", _WAITING_SERIES, series)):
            for state in states:
                oldest.add_metric((kind, state), self._age(first.get((state.value, ""))))
        yield oldest

    def _age(self, at: str | None) -> float:
        return max(0.0, (self._clock() - datetime.fromisoformat(at)).total_seconds()) if at else 0.0

    def _of_destinations(self) -> Iterator[Metric]:
        answered = GaugeMetricFamily(
            "orgseg_destination_answered_timestamp_seconds",
            "When a destination last answered C-ECHO; 0 if it never did.",
            labels=("destination",),
        )
        for echo in self._parts.store.database.read(EchoStatus, "SELECT * FROM destination_echo"):
            answered.add_metric((echo.destination,), echo.answered.timestamp() if echo.answered else 0.0)
        yield answered


def _counts(database: Database) -> Iterator[Metric]:
    for name, kind, states in (("series", "series", SeriesState), ("jobs", "job", JobState)):
        family = GaugeMetricFamily(f"orgseg_{name}", f"Number of {name} by state.", labels=("state",))
        sql = f"SELECT state AS one, '' AS two, count(*) AS value FROM {kind} GROUP BY state"  # noqa: S608  # a name from above
        found = _labelled_values(database, sql)
        for state in states:
            family.add_metric((state,), found.get((state.value, ""), 0))
        yield family
        if kind == "job":
            waiting = sum(found.get((state.value, ""), 0) for state in (JobState.QUEUED, JobState.RETRY_WAIT))
            yield GaugeMetricFamily("orgseg_queue_length", "Jobs that wait to be contoured.", value=waiting)
    deliveries = GaugeMetricFamily(
        "orgseg_deliveries", "Objects to be delivered, by state.", labels=("destination", "state")
    )
    counts = _labelled_values(
        database,
        "SELECT destination AS one, state AS two, count(*) AS value FROM delivery"
        " GROUP BY destination, state",
    )
    for name in sorted({name for name, _ in counts}):
        for one in DeliveryState:
            deliveries.add_metric((name, one), counts.get((name, one.value), 0))
    yield deliveries
    feedback = GaugeMetricFamily(
        "orgseg_feedback", "Structure sets that came back, by state.", labels=("state",)
    )
    counts = _labelled_values(
        database, "SELECT state AS one, '' AS two, count(*) AS value FROM feedback GROUP BY state"
    )
    for came_back in FeedbackState:
        feedback.add_metric((came_back,), counts.get((came_back.value, ""), 0))
    yield feedback
    alarms = GaugeMetricFamily(
        "orgseg_feedback_alarms",
        "Alarms of control charts, by organ and measure.",
        labels=("organ", "measure"),
    )
    counts = _labelled_values(
        database,
        "SELECT organ AS one, measure AS two, count(*) AS value FROM feedback_alarm GROUP BY organ, measure",
    )
    for (organ, measure), value in sorted(counts.items()):
        alarms.add_metric((organ, measure), value)
    yield alarms
    for name, help_text, sql in (
        ("notices_unsent", "Messages not sent yet.", "FROM notice_message WHERE sent_at IS NULL"),
        ("audit_links", "Links of the audit chain.", "FROM seal"),
    ):
        (value,) = _labelled_values(
            database, f"SELECT '' AS one, '' AS two, count(*) AS value {sql}"
        ).values()
        yield GaugeMetricFamily(f"orgseg_{name}", help_text, value=value)


@dataclass(frozen=True, slots=True, kw_only=True)
class _LabelledValue:
    """One value with one or two labels."""

    one: str
    two: str
    value: Any


def _labelled_values(database: Database, sql: str) -> dict[tuple[str, str], Any]:
    return {(cell.one, cell.two): cell.value for cell in database.read(_LabelledValue, sql)}
