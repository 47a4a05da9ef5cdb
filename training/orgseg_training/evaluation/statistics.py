"""Tests and intervals for per-case results: those of the study, and the correct ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from orgseg_node.errors import ToolMissing

MIN_PAIRS = 6
"""With five pairs the smallest two-sided p of the signed-rank test is 0.0625, never significant."""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Normality:
    """Tests whether values are from a normal distribution; they are not if p is below 0.05.

    Attributes
    ----------
    n : number of values
    ks_raw_p : Kolmogorov-Smirnov against the *standard* normal distribution, apparently as in the study. It
        rejects any Dice values, normal or not, because their mean is not 0
    ks_p : the same for standardised values. Too lenient, because mean and deviation are estimated from them
    lilliefors_p : the same with p corrected for this (Lilliefors, J. Am. Stat. Assoc. 62 (1967) 399)
    """

    n: int
    ks_raw_p: float
    ks_p: float
    lilliefors_p: float


def normality(values: Sequence[float]) -> Normality:
    """The study's test of normality and the correct one; NaN with fewer than 6 or only equal values."""
    x = np.asarray(values, dtype=np.float64)
    if x.size < MIN_PAIRS or np.ptp(x) == 0:
        return Normality(n=x.size, ks_raw_p=math.nan, ks_p=math.nan, lilliefors_p=math.nan)
    try:
        from statsmodels.stats.diagnostic import lilliefors  # noqa: PLC0415 - of the extra 'train' only
    except ImportError as error:
        raise ToolMissing("statsmodels: pip install '.[train]' in the source folder.") from error
    return Normality(
        n=x.size,
        ks_raw_p=float(stats.kstest(x, "norm").pvalue),
        ks_p=float(stats.kstest((x - x.mean()) / x.std(ddof=1), "norm").pvalue),
        lilliefors_p=float(lilliefors(x, dist="norm", pvalmethod="table")[1]),
    )


def paired_differences(new: Sequence[float], old: Sequence[float], *, higher_is_better: bool) -> Values:
    """New minus old for each pair, with the sign changed if needed so that positive is better.

    A missing value (NaN: the organ was not found, so there is no distance) is worse than every value
    (worst-rank analysis: Lachin, Control. Clin. Trials 20 (1999) 408). If only one value of a pair is
    missing, the difference is larger than every finite one; if both are, it is 0.

    Parameters
    ----------
    new, old : (n,) values of a metric for the same scans, in the same order
    higher_is_better : true for overlaps, false for distances

    Returns
    -------
    (n,) float64
    """
    a, b = np.asarray(new, dtype=np.float64), np.asarray(old, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"{a.size} and {b.size} values cannot be paired.")
    differences: Values = (a - b) if higher_is_better else (b - a)
    finite = np.abs(differences[~np.isnan(differences)])
    worst = (float(finite.max()) if finite.size else 0.0) + 1.0
    lost, found = np.isnan(a) & ~np.isnan(b), ~np.isnan(a) & np.isnan(b)
    differences[np.isnan(a) & np.isnan(b)] = 0.0
    differences[lost], differences[found] = -worst, worst
    return differences


def signed_rank(differences: Sequence[float] | Values, alternative: str = "two-sided") -> float:
    """P of Wilcoxon's signed-rank test; NaN with fewer than 6 pairs, 1 if all differences are 0.

    Zeros are ranked and then left out (Pratt, J. Am. Stat. Assoc. 54 (1959) 655).

    Parameters
    ----------
    differences : (n,) paired differences
    alternative : ``two-sided``, ``greater`` or ``less``
    """
    x = np.asarray(differences, dtype=np.float64)
    if x.size < MIN_PAIRS:
        return math.nan
    if not x.any():
        return 1.0
    return float(stats.wilcoxon(x, zero_method="pratt", alternative=alternative).pvalue)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's correction for several tests (Scand. J. Stat. 6 (1979) 65); NaN counts as no test and stays."""
    p = np.asarray(p_values, dtype=np.float64)
    corrected = np.full(p.shape, math.nan)
    tests = np.flatnonzero(~np.isnan(p))
    order = tests[np.argsort(p[tests], kind="stable")]
    steps = p[order] * np.arange(order.size, 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if order.size else steps
    return tuple(float(value) for value in corrected)
