"""Draws control charts as PNG: the values above, the ranks by which alarms are judged below."""

from __future__ import annotations

import hashlib
import io
from typing import Any, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from orgseg_node.core.control.chart import Segment
from orgseg_node.core.control.signals import MIDDLE, ewma_width
from orgseg_node.node.feedback.charts import OrganChart

_SIZE: Final = (9.0, 4.8)
_DPI: Final = 110


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
    for number, segment in enumerate(chart.segments):
        _draw_segment(axes, segment, is_first=number == 0)
        _draw_ranks(ranks, segment)
    _draw_months(axes, one)
    for kind, color, is_alarm in (("warning", "tab:orange", False), ("alarm", "tab:red", True)):
        found = [signal.index for signal in chart.signals if signal.is_alarm is is_alarm]
        if found:
            values = [chart.values[index] for index in found]
            axes.plot(
                found, values, "o", mfc="none", color=color, markersize=9 if is_alarm else 6, label=kind
            )
    axes.set_title(f"{one.organ}: {one.measure}, model {one.model}", fontsize=9)
    ranks.set_ylim(0, 1)
    ranks.set_ylabel("EWMA of ranks", fontsize=7)
    ranks.set_xlabel("approved cases in the order in which they came", fontsize=8)
    axes.legend(loc="lower left", fontsize=7, ncols=6)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


def _draw_segment(axes: Any, segment: Segment, *, is_first: bool) -> None:
    limits = segment.limits
    ends = (segment.start - 0.5, segment.stop - 0.5)
    kind = "of the version before" if segment.inherited else f"from {limits.cases} cases"
    low, high = limits.band(3.0)
    axes.hlines([low, high], *ends, color="tab:red", lw=0.8, ls="--", label="3 sigma" if is_first else None)
    axes.hlines(limits.band(2.0), *ends, color="tab:orange", lw=0.6, ls=":")
    axes.hlines([limits.mean], *ends, color="0.2", lw=0.8)
    axes.axvline(segment.start - 0.5, color="0.8", lw=0.6)
    axes.annotate(f"limits {kind}", (segment.start, high), fontsize=6, va="bottom", color="tab:red")


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
