"""Non-inferiority: bounds by patient, and the number of patients that a gate needs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from orgseg_training.evaluation.non_inferiority import (
    Shown,
    bounds,
    by_patient,
    needed_patients,
    pass_probability,
)

SEVEN = ([0.02] * 7, [0.03] * 7)


def test_it_passes_fails_and_says_what_it_cannot_know() -> None:
    rng = np.random.default_rng(4)
    same, worse = rng.normal(0, 0.005, 40), rng.normal(-0.05, 0.01, 40)
    noisy, few = rng.normal(0, 0.05, 10), rng.normal(0, 0.001, 5)
    found = [bounds(one, seed=1).shows(0.01) for one in (same, worse, noisy, few)]
    assert found == [Shown.NOT_WORSE, Shown.WORSE, Shown.OPEN, Shown.TOO_FEW]


def test_the_bound_is_never_above_student_s() -> None:
    rng = np.random.default_rng(2)
    for n in (6, 12, 40):
        x = rng.normal(0.01, 0.03, n)
        student = x.mean() - stats.t.ppf(0.95, n - 1) * x.std(ddof=1) / math.sqrt(n)
        found = bounds(x, seed=1)
        assert found.low <= student + 1e-12
        assert found.low < found.mean < found.high


def test_scans_of_one_patient_count_once() -> None:
    values, patients = [0.1, 0.3, -0.1], ["b", "b", "a"]
    assert by_patient(values, patients) == pytest.approx([-0.1, 0.2])
    assert by_patient([], []).size == 0


def test_equal_differences_have_no_width_and_none_at_all_shows_nothing() -> None:
    same = bounds([-0.01] * 8, seed=1)
    assert (same.low, same.high) == (-0.01, -0.01)
    assert same.shows(0.02) is Shown.NOT_WORSE
    assert bounds([], seed=1).shows(0.02) is Shown.TOO_FEW


def test_seven_organs_need_about_thirty_patients_and_not_six() -> None:
    """Deviation 0.03, margin 0.02: an equal model passes in 8, 19, 44, 82 and 99 of 100 gates."""
    found = [round(100 * pass_probability(n, *SEVEN)) for n in (12, 15, 20, 30, 50)]
    assert found == [8, 19, 44, 82, 99]
    assert needed_patients(*SEVEN) == 30
    assert needed_patients([0.02], [0.03]) in {15, 16}
    assert needed_patients([0.001], [0.3]) is None


def test_the_theory_is_what_happens() -> None:
    rng = np.random.default_rng(7)
    trials = rng.normal(0, 0.03, (60, 2, 20))
    passed = [
        all(bounds(organ, seed=n).shows(0.02) is Shown.NOT_WORSE for organ in gate)
        for n, gate in enumerate(trials)
    ]
    expected = pass_probability(20, [0.02] * 2, [0.03] * 2)
    assert abs(np.mean(passed) - expected) < 0.15


def test_few_bad_failures_do_not_pass_as_noise() -> None:
    """Worse by the margin because of few failures: the percentile bootstrap passes 14 of 100."""
    rng = np.random.default_rng(3)
    skewed = -rng.gamma(1.0, 0.03, (150, 12)) + 0.01
    passed = [bounds(x, seed=n).shows(0.02) is Shown.NOT_WORSE for n, x in enumerate(skewed)]
    assert np.mean(passed) < 0.12


def test_one_patient_in_whom_only_the_new_model_finds_the_organ_does_not_hide_that_it_is_better() -> None:
    better = [0.01, 0.02, 0.03, 0.02, 0.01, 0.03, 0.02, 0.02, 0.01]
    found = bounds([*better, 0.87], seed=1)
    assert found.mean == pytest.approx(0.104)
    assert 0 < found.low < found.mean
    assert found.shows(0.02) is Shown.NOT_WORSE
    worse = bounds([*(-value - 0.03 for value in better), 0.87], seed=1)
    assert worse.shows(0.02) is Shown.OPEN, "one gain does not make up for losses in all others"


def test_a_model_that_is_far_better_in_most_patients_is_shown_to_be_better() -> None:
    gains = [0.2 + 0.01 * number for number in range(30)]
    found = bounds([*gains, 0.01, 0.02, 0.05], seed=1)
    assert 0.2 < found.low < found.mean


def test_no_bound_is_beyond_what_dice_can_differ() -> None:
    for x in ([0.9] * 11 + [0.0], [0.02] * 11 + [-0.8], [-0.9] * 11 + [0.0]):
        found = bounds(x, seed=1)
        assert -1 <= found.low <= found.mean <= found.high <= 1
