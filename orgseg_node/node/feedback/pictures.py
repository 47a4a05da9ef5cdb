"""Draws control charts as PNG: the values above, the ranks by which alarms are judged below."""

from __future__ import annotations

import hashlib
import io
import math
from typing import Any, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from orgseg_node.core.control.chart import Segment
from orgseg_node.core.control.signals import MIDDLE, ewma_width
from orgseg_node.node.feedback.charts import DELETED, TITLES, OrganChart

_SIZE: Final = (9.0, 4.8)
_DPI: Final = 110
_RANGES: Final = {name: (0.0, math.inf if name.endswith("_mm") else 1.0) for name in TITLES}
"""Least and greatest possible value of each measure."""


def picture_name(one: OrganChart) -> str:
    """Name of the file of a chart; models are numbered by a hash, since their names are long."""
    number = hashlib.sha256(one.model.encode()).hexdigest()[:8]
    return f"{one.organ}-{one.measure}-{number}.png".replace("/", "_")


def draw_chart(one: OrganChart) -> bytes:
    """A control chart as PNG: cases, their limits and monthly means above, the EWMA of the ranks below."""
    chart = one.chart
    figure = Figure(figsize=_SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    axes, ranks = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    cases = np.arange(len(chart.values))
    axes.plot(cases, chart.values, ".", color="0.45", markersize=4, label="case")
    least, most = _RANGES[one.measure]
    for number, segment in enumerate(chart.segments):
        _draw_segment(axes, segment, (least, most), is_first=number == 0)
        _draw_ranks(ranks, segment)
    _draw_months(axes, one)
    for kind, color, is_alarm in (("warning", "tab:orange", False), ("alarm", "tab:red", True)):
        found = [signal.index for signal in chart.signals if signal.is_alarm is is_alarm]
        if found:
            values = [chart.values[index] for index in found]
            axes.plot(
                found, values, "o", mfc="none", color=color, markersize=9 if is_alarm else 6, label=kind
            )
    axes.set_title(f"{one.organ}: {TITLES[one.measure]}, model {one.model}", fontsize=9)
    if one.measure == DELETED:
        axes.set_ylim(-0.05, 1.05)
    ranks.set_ylim(0, 1)
    ranks.set_ylabel("EWMA of ranks", fontsize=7)
    ranks.set_xlabel("approved cases in the order in which they came", fontsize=8)
    axes.legend(loc="lower left", fontsize=7, ncols=6)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


def _draw_segment(axes: Any, segment: Segment, possible: tuple[float, float], *, is_first: bool) -> None:
    """The limits of a segment; those that no value can pass are not drawn."""
    limits, (least, most) = segment.limits, possible
    ends = (segment.start - 0.5, segment.stop - 0.5)
    kind = "of the version before" if segment.inherited else f"from {limits.cases} cases"
    inside = {sigma: [at for at in limits.band(sigma) if least < at < most] for sigma in (2.0, 3.0)}
    label = "3 sigma" if is_first else None
    axes.hlines(inside[3.0], *ends, color="tab:red", lw=0.8, ls="--", label=label)
    axes.hlines(inside[2.0], *ends, color="tab:orange", lw=0.6, ls=":")
    axes.hlines([limits.mean], *ends, color="0.2", lw=0.8)
    axes.axvline(segment.start - 0.5, color="0.8", lw=0.6)
    place = axes.get_xaxis_transform()  # at the top of the chart
    axes.text(segment.start, 0.98, f"limits {kind}", fontsize=6, va="top", color="tab:red", transform=place)


def _draw_ranks(axes: Any, segment: Segment) -> None:
    """The EWMA of the ranks in its band; outside of it there is an alarm."""
    cases = np.arange(segment.start, segment.stop)
    width = np.array([ewma_width(segment.limits, count) for count in range(1, cases.size + 1)])
    axes.fill_between(cases, MIDDLE - width, MIDDLE + width, color="tab:blue", alpha=0.12, lw=0)
    axes.plot(cases, segment.ewma, color="tab:blue", lw=1.4)
    axes.axhline(MIDDLE, color="0.6", lw=0.6)


def _draw_months(axes: Any, one: OrganChart) -> None:
    chart = one.chart
    for number, month in enumerate(dict.fromkeys(chart.months)):
        places = [index for index, name in enumerate(chart.months) if name == month]
        mean = float(np.mean([chart.values[index] for index in places]))
        axes.hlines(
            [mean], places[0] - 0.4, places[-1] + 0.4, color="tab:green", lw=2.0, alpha=0.7,
            label="monthly mean" if number == 0 else None,
        )  # fmt: skip
