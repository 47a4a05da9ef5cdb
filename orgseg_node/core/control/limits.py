"""The limits of a control chart, set by its first cases.

The first N cases are the baseline. With fewer than that there are provisional limits, from the cases so far.
Single cases are judged by mean and standard deviation: beyond ``mean +- L s sqrt(1 + 1/N)``, where L is the
quantile of Student's distribution that is crossed as seldom as 2 or 3 standard deviations of the normal one.

Several cases together are judged by their *ranks in the baseline*: the share of the baseline that is smaller,
counting equal values half. Measures such as Dice are skewed, with a peak where contours were kept and a tail
of bad cases; a mean of them would give an alarm for one bad case. Ranks do not depend on the distribution:
without a change their mean is 0.5. The mean of n of them varies by ``d sqrt(1/n + 1/N)``, where d is the
deviation of the ranks of the baseline; the second term is the uncertainty of the baseline itself.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from scipy.special import ndtr, stdtrit

_RARE: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The baseline of a control chart.

    Attributes
    ----------
    cases : number of cases in the baseline
    mean, deviation, median : of the baseline
    is_provisional : whether the baseline is not complete yet
    baseline : its values, the smallest first
    rank_deviation : standard deviation of their ranks; not below what three of N cases with one other value
        give, since what was never seen in N cases may still occur in 3 of N (the rule of three)
    """

    cases: int
    mean: float
    deviation: float
    median: float
    is_provisional: bool
    baseline: tuple[float, ...]
    rank_deviation: float

    def band(self, sigmas: float) -> tuple[float, float]:
        """Lower and upper limit of a single case.

        Parameters
        ----------
        sigmas : 2 or 3, as for the normal distribution
        """
        width = _factor(sigmas, self.cases - 1) * self.deviation * math.sqrt(1.0 + 1.0 / self.cases)
        return self.mean - width, self.mean + width

    def rank(self, value: float) -> float:
        """The rank of a value in the baseline, above 0 and below 1; 0.5 in the middle."""
        less, not_more = bisect_left(self.baseline, value), bisect_right(self.baseline, value)
        return (less + (not_more - less) / 2 + 0.5) / (self.cases + 1)

    def rank_width(self, sigmas: float, count: int) -> float:
        """By how much the mean rank of some cases may differ from 0.5.

        Parameters
        ----------
        sigmas : number of standard deviations
        count : number of cases
        """
        return sigmas * self.rank_deviation * math.sqrt(1.0 / count + 1.0 / self.cases)


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
    ordered = np.sort(first)
    less, not_more = (np.searchsorted(ordered, first, side) for side in ("left", "right"))
    ranks = (less + (not_more - less) / 2 + 0.5) / (first.size + 1)
    rarest = 0.5 * math.sqrt(min(1.0, _RARE / (first.size + 1)))
    return Limits(
        baseline=tuple(map(float, ordered)),
        rank_deviation=max(float(ranks.std()), rarest),
        cases=int(first.size),
        mean=float(first.mean()),
        deviation=float(first.std(ddof=1)),
        median=float(np.median(first)),
        is_provisional=first.size < baseline,
    )
