"""Signals of a control chart: the first three Nelson rules, monthly means, and an EWMA.

Two kinds of signals. A *warning* is shown in the chart: single cases beyond 3 standard deviations (Nelson
1), nine in a row on one side of the median (Nelson 2), six in a row rising or falling (Nelson 3), a monthly
mean beyond 2 standard deviations. By chance one of them occurs in every third to fourth chart and month, so
nobody is sent a notice for them. An *alarm* is a monthly mean beyond 3 standard deviations, or the
exponentially weighted moving average (EWMA) beyond its limits; both of ranks, see `limits`.

Nelson, J. Quality Technology 16 (1984) 237; Lucas and Saccucci, Technometrics 32 (1990) 1.

The runs of rule 2 are around the median; cases exactly on the median,
which are frequent where contours are kept unchanged, end a run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from orgseg_node.core.control.limits import Limits

MIDDLE: Final = 0.5
"""The mean rank without a change."""

WEIGHT: Final = 0.15
"""Weight of the newest case in the EWMA: it looks back over some 12 cases."""

EWMA_SIGMAS: Final = 3.0
"""Limit of the EWMA."""

LEAST: Final = 5
"""A monthly mean, and an EWMA, of fewer new cases is not judged: one odd case would decide it."""

_SIDE_RUN, _TREND_RUN = 9, 6


class SignalKind(StrEnum):
    """What was seen."""

    BEYOND_3_SIGMA = "BEYOND_3_SIGMA"
    ONE_SIDE = "ONE_SIDE"
    TREND = "TREND"
    MONTH_2_SIGMA = "MONTH_2_SIGMA"
    MONTH_3_SIGMA = "MONTH_3_SIGMA"
    EWMA = "EWMA"


ALARMS: Final = frozenset({SignalKind.MONTH_3_SIGMA, SignalKind.EWMA})
"""The signals for which somebody is sent a notice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One signal.

    Attributes
    ----------
    kind : what was seen
    index : of the case with which it was seen, counted from 0
    is_high : whether the values are too high rather than too low
    """

    kind: SignalKind
    index: int
    is_high: bool

    @property
    def is_alarm(self) -> bool:
        """Whether somebody is sent a notice."""
        return self.kind in ALARMS


def ewma(values: Sequence[float], limits: Limits) -> list[float]:
    """The EWMA of the ranks after each value, beginning at 0.5.

    Parameters
    ----------
    values : new cases in their order
    limits : of the chart
    """
    smoothed, found = MIDDLE, []
    for value in values:
        smoothed += WEIGHT * (limits.rank(value) - smoothed)
        found.append(smoothed)
    return found


def ewma_width(limits: Limits, count: int) -> float:
    """Half the width of the band of the EWMA after some new cases.

    Parameters
    ----------
    limits : of the chart
    count : number of new cases
    """
    share = WEIGHT / (2 - WEIGHT) * (1 - (1 - WEIGHT) ** (2 * count))
    # the baseline is uncertain as well, and pulls in full once the EWMA has forgotten its start
    pull = (1 - (1 - WEIGHT) ** count) ** 2 / limits.cases
    return EWMA_SIGMAS * limits.rank_deviation * math.sqrt(share + pull)


def case_signals(values: Sequence[float], limits: Limits) -> Iterator[Signal]:
    """The signals of single cases in their order: Nelson's first three rules, and the EWMA.

    Parameters
    ----------
    values : cases after the baseline, in their order
    limits : of the chart
    """
    low, high = limits.band(3.0)
    side = trend = 0
    smoothed = ewma(values, limits)
    was_out = False
    for index, value in enumerate(values):
        if not low <= value <= high:
            yield Signal(kind=SignalKind.BEYOND_3_SIGMA, index=index, is_high=value > high)
        side = _run(side, value - limits.median)
        if abs(side) == _SIDE_RUN:
            yield Signal(kind=SignalKind.ONE_SIDE, index=index, is_high=side > 0)
        trend = _run(trend, value - values[index - 1]) if index else 0
        if abs(trend) == _TREND_RUN - 1:
            yield Signal(kind=SignalKind.TREND, index=index, is_high=trend > 0)
        away = smoothed[index] - MIDDLE
        is_out = index + 1 >= LEAST and abs(away) > ewma_width(limits, index + 1)
        if is_out and not was_out:
            yield Signal(kind=SignalKind.EWMA, index=index, is_high=away > 0)
        was_out = is_out


def month_signal(values: Sequence[float], limits: Limits, index: int) -> Signal | None:
    """The signal of the mean of one month, if there is one.

    Parameters
    ----------
    values : the cases of the month
    limits : of the chart
    index : of the last of them
    """
    if len(values) < LEAST:
        return None
    away = sum(map(limits.rank, values)) / len(values) - MIDDLE
    for sigmas, kind in ((3.0, SignalKind.MONTH_3_SIGMA), (2.0, SignalKind.MONTH_2_SIGMA)):
        if abs(away) > limits.rank_width(sigmas, len(values)):
            return Signal(kind=kind, index=index, is_high=away > 0)
    return None


def _run(length: int, step: float) -> int:
    """The length of a run after one more step; negative downwards."""
    if step == 0:
        return 0
    up = step > 0
    return (length + 1 if length >= 0 else 1) if up else (length - 1 if length <= 0 else -1)
