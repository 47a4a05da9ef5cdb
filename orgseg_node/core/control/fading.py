"""Whether a person edits less and less: a moving mean that falls, tested against chance.

In 18 % of the charts of one clinic editing faded with time, which may be a better model or a person who has
stopped looking (automation bias). A chart is fading if Kendall's tau of the edits with time is negative with
probability below 1 in 1000, and the moving mean has fallen to less than half of what it was at first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

WINDOW: Final = 10
"""Cases in the moving mean."""

LEAST: Final = 20
"""Fewer cases are not judged."""

_PROBABILITY: Final = 0.001
_HALF: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Fading:
    """How the edits of one person change.

    Attributes
    ----------
    moving_mean : of the last `WINDOW` cases, from the case on with which there are so many
    probability : of such a fall by chance
    is_fading : whether the edits fade
    """

    moving_mean: tuple[float, ...]
    probability: float
    is_fading: bool


def fading(edits: Sequence[float]) -> Fading:
    """How the edits of one person change with time.

    Parameters
    ----------
    edits : of each case in its order, such as the share of slices that were edited
    """
    values = np.asarray(edits, dtype=np.float64)
    if values.size < WINDOW:
        return Fading(moving_mean=(), probability=1.0, is_fading=False)
    means = np.convolve(values, np.ones(WINDOW) / WINDOW, mode="valid")
    probability = 1.0
    if values.size >= LEAST and np.ptp(values) > 0:
        from scipy import stats  # noqa: PLC0415  # it takes a second, and few processes need it

        probability = float(stats.kendalltau(np.arange(values.size), values, alternative="less").pvalue)
    falls = probability < _PROBABILITY and means[-1] < _HALF * means[0]
    return Fading(moving_mean=tuple(map(float, means)), probability=probability, is_fading=bool(falls))
