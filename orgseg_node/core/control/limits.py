"""The limits of a control chart, set by its first cases.

The first N cases are the baseline: their mean, standard deviation and median. With fewer than that there are
provisional limits, from the cases so far. A limit is crossed by a mean of n cases at ``mean +- L s sqrt(1/n +
1/N)``: the second term is the uncertainty of the baseline itself, without which limits from 20 cases give
false alarms. L is the quantile of Student's distribution with N - 1 degrees of freedom that has the
probability of 2 or 3 standard deviations of the normal distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from scipy.special import ndtr, stdtrit

_LEAST_SPREAD: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The baseline of a control chart.

    Attributes
    ----------
    cases : number of cases in the baseline
    mean, deviation, median : of the baseline
    is_provisional : whether the baseline is not complete yet
    """

    cases: int
    mean: float
    deviation: float
    median: float
    is_provisional: bool

    def sigma(self, count: int = 1) -> float:
        """Standard deviation of the mean of so many new cases around the mean of the baseline."""
        return max(self.deviation, _LEAST_SPREAD) * math.sqrt(1.0 / count + 1.0 / self.cases)

    def factor(self, sigmas: float) -> float:
        """The multiple of `sigma` that is crossed as seldom as so many standard deviations."""
        return _factor(sigmas, self.cases - 1)

    def band(self, sigmas: float, count: int = 1) -> tuple[float, float]:
        """Lower and upper limit of the mean of some new cases.

        Parameters
        ----------
        sigmas : 2 or 3, as for the normal distribution
        count : number of new cases in the mean
        """
        width = self.factor(sigmas) * self.sigma(count)
        return self.mean - width, self.mean + width


@cache
def _factor(sigmas: float, freedom: int) -> float:
    """The quantile of Student's distribution with the probability of so many standard deviations."""
    return float(stdtrit(freedom, ndtr(sigmas)))


def baseline_limits(values: Sequence[float], *, baseline: int, provisional: int) -> Limits | None:
    """The limits that the first cases set; None for fewer than are needed.

    Parameters
    ----------
    values : in the order in which they came
    baseline : so many cases set the limits for good
    provisional : from so many on there are provisional limits
    """
    first = np.asarray(values[:baseline], dtype=np.float64)
    if first.size < max(2, provisional):
        return None
    return Limits(
        cases=int(first.size),
        mean=float(first.mean()),
        deviation=float(first.std(ddof=1)),
        median=float(np.median(first)),
        is_provisional=first.size < baseline,
    )
