"""The bootstrap by patient, compared with scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from orgseg_node.core.bootstrap import bootstrap_mean

DICE = np.clip(np.random.default_rng(1).normal(0.9, 0.03, 40), 0, 1)


def test_bootstrap_of_independent_patients_agrees_with_scipy() -> None:
    patients = [str(n) for n in range(DICE.size)]
    ours = bootstrap_mean(DICE.tolist(), patients, seed=1)
    theirs = stats.bootstrap((DICE,), np.mean, method="percentile", rng=2).confidence_interval
    assert ours.mean == pytest.approx(DICE.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.001)


def test_scans_of_one_patient_are_not_independent() -> None:
    """Each patient scanned five times with the same result: no more is known than from one scan each."""
    patients = [str(n) for n in range(DICE.size)]
    once = bootstrap_mean(DICE.tolist(), patients, seed=1)
    often = bootstrap_mean(np.repeat(DICE, 5).tolist(), np.repeat(patients, 5).tolist(), seed=1)
    naive = bootstrap_mean(np.repeat(DICE, 5).tolist(), [str(n) for n in range(5 * DICE.size)], seed=1)
    assert (often.mean, often.low, often.high) == pytest.approx((once.mean, once.low, once.high))
    assert naive.high - naive.low < 0.6 * (often.high - often.low)


def test_bootstrap_of_few_patients_gives_no_interval() -> None:
    found = bootstrap_mean([0.9, 0.8, 0.7], ["a", "b", "b"], seed=1)
    assert found.mean == pytest.approx(0.8)
    assert math.isnan(found.low)
    assert math.isnan(bootstrap_mean([], [], seed=1).mean)
