"""One control chart: the values of one measure of one organ of one model, its limits, and its signals.

The baseline grows in steps as cases come, until it is complete. Cases are judged by the limits that were set
before they came. After an alarm the limits stay as they are: a change must not become part of the limits that
have to show it. A new version of a model is judged by the limits of the version before until it has its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from orgseg_node.core.control.limits import Limits, baseline_limits
from orgseg_node.core.control.signals import Signal, case_signals, ewma, month_signal

_STEPS: Final = (20, 40, 80, 150)
"""Cases in the baseline after each step, as far as the settings allow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartRules:
    """How charts are made.

    Attributes
    ----------
    baseline : so many cases set the limits for good
    provisional : from so many on there are provisional limits
    """

    baseline: int = 150
    provisional: int = 20

    @property
    def steps(self) -> tuple[int, ...]:
        """Cases in the baseline after each step."""
        between = (step for step in _STEPS if self.provisional < step < self.baseline)
        return (self.provisional, *between, self.baseline)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Cases that are judged by the same limits.

    Attributes
    ----------
    start, stop : index of the first case, and of the first one that is not in it
    limits : by which they are judged
    inherited : whether the limits are those of the version before
    ewma : after each of the cases
    """

    start: int
    stop: int
    limits: Limits
    inherited: bool
    ewma: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A control chart.

    Attributes
    ----------
    values : one for each case, in the order in which they came
    months : month of each case, such as ``2026-11``
    segments : of the cases that can be judged
    signals : in the order of the cases
    """

    values: tuple[float, ...]
    months: tuple[str, ...]
    segments: tuple[Segment, ...]
    signals: tuple[Signal, ...]

    @property
    def limits(self) -> Limits | None:
        """The limits in force; None if there are too few cases."""
        return self.segments[-1].limits if self.segments else None

    @property
    def alarms(self) -> tuple[Signal, ...]:
        """The signals for which somebody is sent a notice."""
        return tuple(signal for signal in self.signals if signal.is_alarm)


def build_chart(
    values: Sequence[float], months: Sequence[str], rules: ChartRules, inherited: Limits | None = None
) -> Chart:
    """Build a chart.

    Parameters
    ----------
    values : one for each case, in the order in which they came
    months : month of each case
    rules : how many cases set the limits
    inherited : limits of the version before; None if there is none
    """
    segments, signals = [], []
    for start, stop, limits, is_inherited in _spans(len(values), values, rules, inherited):
        part = values[start:stop]
        here = [*case_signals(part, limits), *_month_signals(part, months[start:stop], limits)]
        signals += [replace(signal, index=signal.index + start) for signal in here]
        smoothed = tuple(ewma(part, limits))
        segments.append(Segment(start=start, stop=stop, limits=limits, inherited=is_inherited, ewma=smoothed))
        if any(signal.is_alarm for signal in here) and stop < len(values) and not is_inherited:
            # the limits that showed it stay in force
            rest = values[start:]
            here = [*case_signals(rest, limits), *_month_signals(rest, months[start:], limits)]
            signals = [one for one in signals if one.index < start]
            signals += [replace(signal, index=signal.index + start) for signal in here]
            smoothed = tuple(ewma(rest, limits))
            segments[-1] = replace(segments[-1], stop=len(values), ewma=smoothed)
            break
    return Chart(
        values=tuple(values),
        months=tuple(months),
        segments=tuple(segments),
        signals=tuple(sorted(signals, key=lambda one: (one.index, one.kind))),
    )


def _spans(
    count: int, values: Sequence[float], rules: ChartRules, inherited: Limits | None
) -> Iterator[tuple[int, int, Limits, bool]]:
    """Start, stop and limits of each segment."""
    first = rules.steps[0]
    if inherited is not None and count:
        yield 0, min(first, count), inherited, True
    for step, following in zip(rules.steps, (*rules.steps[1:], count), strict=True):
        if step >= count:
            return
        limits = baseline_limits(values[:step], baseline=rules.baseline, provisional=rules.provisional)
        stop = min(following, count) if step != rules.steps[-1] else count
        if limits is not None and stop > step:
            yield step, stop, limits, False


def _month_signals(values: Sequence[float], months: Sequence[str], limits: Limits) -> Iterator[Signal]:
    """The signals of the monthly means."""
    for _, group in groupby(range(len(values)), key=lambda index: months[index]):
        cases = list(group)
        signal = month_signal([values[index] for index in cases], limits, cases[-1])
        if signal is not None:
            yield signal
