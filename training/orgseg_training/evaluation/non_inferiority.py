"""Whether a new model is not worse than the old one by more than a margin, and how many patients that needs.

The unit is the patient: the differences of several scans of a patient are averaged. The bounds are one-sided,
at 95 %. An organ passes if the lower bound is above minus the margin, and fails if even the upper bound is
below it; in between nothing is shown. A model passes only if every organ does (intersection-union test:
Berger, Technometrics 24 (1982) 295), for which no correction is needed: a model with one organ that is worse
than the margin passes in at most 5 of 100 gates.

The bound is the lower one of Student's and of the studentised bootstrap (Efron and Tibshirani, An
Introduction to the Bootstrap, 1993, 12.5). Measured with 12 patients whose true difference is the margin
itself, so that 5 of 100 should pass: normal differences 5 (percentile bootstrap 7, BCa 7), heavy tails 5 (8,
10), a few bad failures 8 (14, 12; Wilcoxon's signed-rank test 15, and 31 with 50 patients).
`benchmarks/gate.py` measures it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from scipy import stats

from orgseg_training.evaluation.statistics import MIN_PAIRS, Values

_ALPHA: Final = 0.05
_POWER: Final = 0.80
_RESAMPLES: Final = 4000
_MOST_PATIENTS: Final = 2000
_MOST_GAIN: Final = 0.1
"""A larger gain of a patient counts as this in the lower bound, if that bound is the higher one.

An organ that only the new model finds in one patient widens the scatter so much that a model which is better
in every patient would show nothing. The mean of differences cut from above is never higher than their mean,
so the bound holds."""


class Shown(StrEnum):
    """What the differences of an organ show."""

    NOT_WORSE = "not worse"
    WORSE = "worse"
    OPEN = "open"
    TOO_FEW = "too few"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The mean difference, new minus old, over patients.

    Attributes
    ----------
    patients : how many
    mean, sd : of the differences; NaN without any
    low, high : one-sided 95 % bounds; NaN with fewer than 6 patients. The lower one is the higher of two: of
        the differences, and of the same where a gain of more than 0.1 counts as 0.1. None is beyond -1 or 1,
        which no difference of Dice exceeds
    """

    patients: int
    mean: float
    sd: float
    low: float
    high: float

    def shows(self, margin: float) -> Shown:
        """What it shows of a model that may be worse by at most a margin."""
        if math.isnan(self.low):
            return Shown.TOO_FEW
        if self.low > -margin:
            return Shown.NOT_WORSE
        return Shown.WORSE if self.high < -margin else Shown.OPEN


def by_patient(values: Sequence[float], patients: Sequence[str]) -> Values:
    """The mean of each patient, in the order of the patients' names.

    Parameters
    ----------
    values : (n,) one value for each scan
    patients : (n,) patient of each scan
    """
    x = np.asarray(values, dtype=np.float64)
    _, of = np.unique(np.asarray(patients), return_inverse=True)
    means: Values = np.bincount(of, weights=x) / np.bincount(of) if x.size else x
    return means


def bounds(differences: Sequence[float] | Values, *, seed: int) -> Bounds:
    """One-sided 95 % bounds of the mean difference.

    Parameters
    ----------
    differences : (n,) new minus old Dice or surface Dice, one for each patient; positive is better
    seed : of the random generator
    """
    x = np.asarray(differences, dtype=np.float64)
    n = x.size
    if n == 0:
        return Bounds(patients=0, mean=math.nan, sd=math.nan, low=math.nan, high=math.nan)
    mean, sd = float(x.mean()), float(x.std(ddof=1)) if n > 1 else math.nan
    if n < MIN_PAIRS:
        return Bounds(patients=n, mean=mean, sd=sd, low=math.nan, high=math.nan)
    low, high = _ends(x, seed)
    cut, _ = _ends(np.minimum(x, _MOST_GAIN), seed)
    return Bounds(patients=n, mean=mean, sd=sd, low=max(low, cut, -1.0), high=min(high, 1.0))


def _ends(x: Values, seed: int) -> tuple[float, float]:
    """The one-sided 95 % bounds of the mean."""
    mean, sd = float(x.mean()), float(x.std(ddof=1))
    if sd == 0.0:
        return mean, mean
    error = sd / math.sqrt(x.size)
    student = float(stats.t.ppf(1 - _ALPHA, x.size - 1))
    below, above = _studentised(x, seed)
    return mean - error * max(student, above), mean + error * max(student, -below)


def _studentised(x: Values, seed: int) -> tuple[float, float]:
    """The 5 % and 95 % quantiles of the studentised mean of bootstrap samples."""
    n = x.size
    drawn = x[np.random.default_rng(seed).integers(0, n, (_RESAMPLES, n))]
    errors = drawn.std(axis=1, ddof=1) / math.sqrt(n)
    # a sample of equal values has no error of its own: it counts as far out, on its side
    least = np.finfo(np.float64).tiny
    t = (drawn.mean(axis=1) - x.mean()) / np.maximum(errors, least)
    low, high = np.quantile(t, [_ALPHA, 1 - _ALPHA])
    return float(low), float(high)


def pass_probability(patients: int, margins: Sequence[float], sds: Sequence[float]) -> float:
    """How often a model that is equal to the old one passes, for independent normal differences.

    Parameters
    ----------
    patients : how many there are for each organ
    margins : of each organ and metric
    sds : standard deviation of their differences
    """
    if patients < MIN_PAIRS:
        return 0.0
    critical = stats.t.ppf(1 - _ALPHA, patients - 1)
    shift = np.asarray(margins) * math.sqrt(patients) / np.maximum(np.asarray(sds), 1e-9)
    return float(np.prod(stats.nct.sf(critical, patients - 1, np.minimum(shift, 40.0))))


def needed_patients(margins: Sequence[float], sds: Sequence[float]) -> int | None:
    """The number of patients with which an equal model passes in 80 of 100 gates; None if it is above 2000.

    Parameters
    ----------
    margins : of each organ and metric
    sds : standard deviation of their differences
    """
    low, high = MIN_PAIRS - 1, _MOST_PATIENTS + 1
    while high - low > 1:
        middle = (low + high) // 2
        if pass_probability(middle, margins, sds) >= _POWER:
            high = middle
        else:
            low = middle
    return None if high > _MOST_PATIENTS else high
