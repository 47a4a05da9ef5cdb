"""Quality: how structure sets that came back differ from what was delivered, and whether that changes."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response
from starlette.routing import Route

from orgseg_node.core.control.signals import MIDDLE, ewma_width
from orgseg_node.node.feedback.charts import MEASURES, OrganChart, alarms, charts
from orgseg_node.node.feedback.model import OrganFeedback, OrganOutcome
from orgseg_node.node.feedback.planners import planner_edits
from orgseg_node.node.feedback.rows import FeedbackRows
from orgseg_node.node.users.roles import Action
from orgseg_node.web.pages.guard import page
from orgseg_node.web.pages.site import Site
from orgseg_node.web.pages.visit import Visit

_MOST_ALARMS: Final = 30
_WIDTH, _HEIGHT, _EDGE = 600.0, 110.0, 6.0
_STRIP = 44.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnChart:
    """A control chart in the units of its picture.

    Attributes
    ----------
    organ, model : what is charted
    count : of cases
    last, mean : the last value, and the mean of the limits in force; None without limits
    cases : place (x, y) of each case
    smoothed : in the strip below, the EWMA of the ranks of each span with the same limits, as points
    corridors : in the strip, where it gives no alarm, as corners of an area
    bands : x, y, width and height of the area within three sigma of each span
    alarms : place of each case with an alarm
    low, high : ends of the scale
    """

    organ: str
    model: str
    count: int
    last: float
    mean: float | None
    cases: tuple[tuple[float, float], ...]
    smoothed: tuple[str, ...]
    corridors: tuple[str, ...]
    bands: tuple[tuple[float, float, float, float], ...]
    alarms: tuple[tuple[float, float], ...]
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganSummary:
    """What became of an organ in all structure sets that count.

    Attributes
    ----------
    organ : its key
    outcomes : number of cases by outcome
    dice, surface_dice, hd95_mm : medians of the cases that were measured; None without any
    slices_edited : mean share of slices that were edited; None without any
    """

    organ: str
    outcomes: Counter[str]
    dice: float | None
    surface_dice: float | None
    hd95_mm: float | None
    slices_edited: float | None

    @property
    def cases(self) -> int:
        """Number of structure sets in which it was compared, deleted or added."""
        return sum(self.outcomes.values())


def quality_routes(site: Site) -> list[Route]:
    """The page of quality."""
    return [page(site, "/quality", Action.SEE_MODELS, _quality)]


def _quality(visit: Visit) -> Response:
    site, database = visit.site, visit.site.store.database
    rows = FeedbackRows(database)
    measure = visit.query("measure")
    measure = measure if measure in MEASURES else "surface_dice_2mm"
    drawn = [draw(one) for one in charts(database, site.config.feedback) if one.measure == measure]
    content = {
        "here": "quality",
        "summaries": summaries(rows.counted_organs()),
        "states": Counter(one.state.value for one in rows.all()),
        "alarms": alarms(database)[:_MOST_ALARMS],
        "charts": drawn,
        "measure": measure,
        "measures": MEASURES,
        "size": (_WIDTH, _HEIGHT),
        "strip": (_WIDTH, _STRIP),
        # how single persons work is for the physicist only
        "planners": planner_edits(database) if visit.may(Action.DECIDE_SERIES) else [],
        "outcomes": [outcome.value for outcome in OrganOutcome],
    }
    return visit.page("quality.html", content)


def summaries(organs: Sequence[OrganFeedback]) -> list[OrganSummary]:
    """What became of each organ, by key; ROIs that are none for certain are left out."""
    found: dict[str, list[OrganFeedback]] = {}
    for one in organs:
        if one.organ:
            found.setdefault(one.organ, []).append(one)
    return [
        OrganSummary(
            organ=organ,
            outcomes=Counter(str(one.outcome) for one in cases),
            dice=_median(cases, "dice"),
            surface_dice=_median(cases, "surface_dice_2mm"),
            hd95_mm=_median(cases, "hd95_mm"),
            slices_edited=_mean(cases, "slices_edited"),
        )
        for organ, cases in sorted(found.items())
    ]


def _values(cases: Sequence[OrganFeedback], name: str) -> list[float]:
    every = (float(getattr(one, name)) for one in cases if one.is_measured)
    return [value for value in every if value >= 0]


def _median(cases: Sequence[OrganFeedback], name: str) -> float | None:
    values = _values(cases, name)
    return statistics.median(values) if values else None


def _mean(cases: Sequence[OrganFeedback], name: str) -> float | None:
    values = _values(cases, name)
    return statistics.fmean(values) if values else None


def draw(one: OrganChart) -> DrawnChart:
    """A control chart as places in a picture."""
    chart = one.chart
    ends = [end for segment in chart.segments for end in segment.limits.band(3.0)]
    low, high = min([*chart.values, *ends]), max([*chart.values, *ends])
    reach = (high - low) or 1.0
    step = (_WIDTH - 2 * _EDGE) / max(1, len(chart.values) - 1)

    def place(index: float, value: float) -> tuple[float, float]:
        upwards = (value - low) / reach * (_HEIGHT - 2 * _EDGE)
        return round(_EDGE + index * step, 2), round(_HEIGHT - _EDGE - upwards, 2)

    def rank_place(index: float, rank: float) -> tuple[float, float]:
        inside = min(max(rank, 0.0), 1.0) * (_STRIP - 2 * _EDGE)
        return round(_EDGE + index * step, 2), round(_STRIP - _EDGE - inside, 2)

    smoothed, corridors, bands = [], [], []
    for segment in chart.segments:
        line = [rank_place(segment.start + k, rank) for k, rank in enumerate(segment.ewma)]
        smoothed.append(_points(line))
        widths = [ewma_width(segment.limits, count) for count in range(1, len(segment.ewma) + 1)]
        above = [rank_place(segment.start + k, MIDDLE + width) for k, width in enumerate(widths)]
        below = [rank_place(segment.start + k, MIDDLE - width) for k, width in enumerate(widths)]
        corridors.append(_points([*above, *reversed(below)]))
        bottom, top = segment.limits.band(3.0)
        (left, upper), (right, lower) = place(segment.start, top), place(segment.stop - 1, bottom)
        bands.append((left, upper, round(max(right - left, 1.0), 2), round(lower - upper, 2)))
    limits = chart.limits
    return DrawnChart(
        organ=one.organ,
        model=one.model,
        count=len(chart.values),
        last=chart.values[-1],
        mean=limits.mean if limits is not None else None,
        cases=tuple(place(index, value) for index, value in enumerate(chart.values)),
        smoothed=tuple(smoothed),
        corridors=tuple(corridors),
        bands=tuple(bands),
        alarms=tuple(place(signal.index, chart.values[signal.index]) for signal in chart.alarms),
        low=low,
        high=high,
    )


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in places)
