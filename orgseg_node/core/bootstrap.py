"""Means over scans with the interval of the bootstrap by patient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

MIN_PATIENTS: Final = 6
"""With fewer patients there is no interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean and its confidence interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(
    values: Sequence[float],
    patients: Sequence[str],
    *,
    seed: int,
    level: float = 0.95,
    resamples: int = 10_000,
) -> Interval:
    """Mean and percentile bootstrap interval, resampling patients, not single scans.

    Scans of one patient resemble each other; resampling them one by one would make intervals too short.
    Patients are drawn with replacement, each with all their scans (Davison and Hinkley, Bootstrap Methods,
    1997, 3.8). With fewer than 6 patients the interval is NaN.

    Parameters
    ----------
    values : (n,) one value for each scan
    patients : (n,) patient of each scan
    seed : of the random generator
    level : of confidence
    resamples : number of bootstrap samples
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size == 0:
        return Interval(mean=math.nan, low=math.nan, high=math.nan)
    _, of = np.unique(np.asarray(patients), return_inverse=True)
    sums, counts = np.bincount(of, weights=x), np.bincount(of)
    if counts.size < MIN_PATIENTS:
        return Interval(mean=float(x.mean()), low=math.nan, high=math.nan)
    times = np.random.default_rng(seed).multinomial(
        counts.size, np.full(counts.size, 1 / counts.size), size=resamples
    )
    means = (times @ sums) / (times @ counts)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean=float(x.mean()), low=float(low), high=float(high))
