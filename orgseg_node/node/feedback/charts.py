"""Control charts of what came back: one for each organ, measure and model; and their alarms.

`charts` is what the command line, pictures and pages read. `note_alarms` runs after each structure set that
counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from orgseg_node.core.control.chart import Chart, ChartRules, build_chart
from orgseg_node.core.control.limits import Limits
from orgseg_node.core.control.signals import SignalKind
from orgseg_node.node.config.peers import FeedbackSection
from orgseg_node.node.feedback.model import FADING, OrganFeedback, OrganOutcome
from orgseg_node.node.feedback.planners import planner_edits
from orgseg_node.node.store.clock import Clock, stamp, utc_now
from orgseg_node.node.store.database import Database

DELETED: Final = "deleted"
"""1 for an organ that was delivered and did not come back, else 0."""

MEASURES: Final = (
    "dice",
    "surface_dice_2mm",
    "hd95_mm",
    "mean_distance_mm",
    "added_path_mm",
    "slices_edited",
    DELETED,
)
"""What is charted: fields of `Measures`, and whether the organ was deleted."""

ALARMING: Final = ("surface_dice_2mm", "hd95_mm", DELETED)
"""Measures whose alarms become notices. The others say the same and would only add false alarms."""


TITLES: Final = {
    "dice": "Dice",
    "surface_dice_2mm": "surface Dice at 2 mm",
    "hd95_mm": "HD95, mm",
    "mean_distance_mm": "mean surface distance, mm",
    "added_path_mm": "added path length, mm",
    "slices_edited": "share of slices edited",
    DELETED: "deleted (1) or kept (0)",
}
"""What each measure is called."""

_SUBJECTS: Final = {
    SignalKind.EWMA.value: "{organ}: {measure} has become {way} than in the baseline (moving mean), {model}",
    SignalKind.MONTH_3_SIGMA.value: "{organ}: {measure} was {way} for a month than in the baseline, {model}",
    FADING: "{organ}: edits fade, {model}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganChart:
    """One control chart.

    Attributes
    ----------
    organ, measure, model : what is charted
    numbers : of the structure sets, one for each case
    chart : values, limits and signals
    """

    organ: str
    measure: str
    model: str
    numbers: tuple[int, ...]
    chart: Chart


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """An alarm of a control chart; `number` is the structure set with which it was seen."""

    organ: str
    measure: str
    model: str
    kind: str
    number: int
    is_high: int
    raised_at: str

    @property
    def subject(self) -> str:
        """The alarm as a sentence, without patient data."""
        measure = "share of deleted structures" if self.measure == DELETED else TITLES.get(self.measure, "")
        model = self.model if self.kind == FADING else f"model {self.model}"
        return _SUBJECTS[self.kind].format(
            organ=self.organ, measure=measure, way="higher" if self.is_high else "lower", model=model
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case(OrganFeedback):
    """One organ of a structure set that counts, with its time."""

    received_at: datetime


def charts(database: Database, section: FeedbackSection, *, organ: str = "") -> list[OrganChart]:
    """The control charts, by organ, measure and model; models in the order in which they were first seen.

    Parameters
    ----------
    database : of the node
    section : how many cases set the limits
    organ : only of this organ; of all when empty
    """
    found: dict[tuple[str, str], dict[str, list[_Case]]] = {}
    for case in _cases(database):
        if case.organ and organ in {"", case.organ}:
            for measure in MEASURES:
                if _value(case, measure) is not None:
                    found.setdefault((case.organ, measure), {}).setdefault(case.model, []).append(case)
    rules = ChartRules(baseline=section.baseline, provisional=section.provisional)
    made = []
    for (one, measure), by_model in sorted(found.items()):
        before: Limits | None = None
        for model, cases in by_model.items():
            chart = build_chart(
                [_value(case, measure) or 0.0 for case in cases],
                [f"{case.received_at:%Y-%m}" for case in cases],
                rules,
                before,
            )
            numbers = tuple(case.number for case in cases)
            made.append(OrganChart(organ=one, measure=measure, model=model, numbers=numbers, chart=chart))
            before = chart.limits or before
    return made


def note_alarms(database: Database, section: FeedbackSection, *, clock: Clock = utc_now) -> list[Alarm]:
    """Write the alarms that are not written yet, each with an event; returns them.

    Parameters
    ----------
    database : of the node
    section : how many cases set the limits
    clock : source of the time
    """
    fresh = []
    now = stamp(clock())
    seen = [alarm for one in charts(database, section) for alarm in _alarms_of(one, now)]
    seen += _fading_of(database, now)
    with database.write() as tx:
        for alarm in seen:
            is_new = tx.run(
                "INSERT INTO feedback_alarm (organ, measure, model, kind, number, is_high, raised_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (organ, measure, model, kind, number) DO NOTHING",
                (alarm.organ, alarm.measure, alarm.model, alarm.kind, alarm.number, alarm.is_high,
                 alarm.raised_at),
            )  # fmt: skip
            if is_new:
                tx.append_event("feedback", str(alarm.number), "alarm", alarm.subject)
                fresh.append(alarm)
    return fresh


def alarms(database: Database) -> list[Alarm]:
    """All alarms, the newest first."""
    return database.read(Alarm, "SELECT * FROM feedback_alarm ORDER BY number DESC, organ, measure, kind")


def _fading_of(database: Database, now: str) -> list[Alarm]:
    """An alarm for each person whose edits of an organ fade, unless there is one already."""
    known = {(one.organ, one.model) for one in alarms(database) if one.measure == FADING}
    last = max((case.number for case in _cases(database)), default=0)
    return [
        Alarm(
            organ=one.organ, measure=FADING, model=f"planner {one.planner}", kind=FADING, number=last,
            is_high=0, raised_at=now,
        )
        for one in planner_edits(database)
        if one.fading.is_fading and (one.organ, f"planner {one.planner}") not in known
    ]  # fmt: skip


def _alarms_of(one: OrganChart, now: str) -> Iterator[Alarm]:
    if one.measure in ALARMING:
        for signal in one.chart.alarms:
            yield Alarm(
                organ=one.organ,
                measure=one.measure,
                model=one.model,
                kind=signal.kind.value,
                number=one.numbers[signal.index],
                is_high=int(signal.is_high),
                raised_at=now,
            )


def _cases(database: Database) -> Sequence[_Case]:
    return database.read(
        _Case,
        "SELECT o.*, f.received_at FROM feedback_organ o JOIN feedback f ON f.number = o.number"
        " AND f.state = 'COUNTED' ORDER BY o.number, o.position",
    )


def _value(case: OrganFeedback, measure: str) -> float | None:
    """A measure of one organ; None if it has none."""
    if measure == DELETED:
        was_delivered = case.outcome not in {OrganOutcome.ADDED, OrganOutcome.UNMATCHED}
        return float(case.outcome == OrganOutcome.DELETED) if was_delivered else None
    value = float(getattr(case, measure))
    return value if case.is_measured and value >= 0 else None
