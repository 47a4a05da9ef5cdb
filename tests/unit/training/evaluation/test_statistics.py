"""Our statistics compared with scipy, statsmodels and values calculated by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.diagnostic import lilliefors
from statsmodels.stats.multitest import multipletests

from orgseg_training.evaluation.statistics import (
    holm,
    normality,
    paired_differences,
    signed_rank,
)

DICE = np.clip(np.random.default_rng(1).normal(0.9, 0.03, 40), 0, 1)


def test_the_study_s_test_rejects_normal_values_and_lilliefors_does_not() -> None:
    found = normality(DICE.tolist())
    assert found.ks_raw_p == pytest.approx(stats.kstest(DICE, "norm").pvalue)
    assert found.lilliefors_p == pytest.approx(lilliefors(DICE)[1])
    assert found.ks_raw_p < 1e-6
    assert found.lilliefors_p > 0.05
    assert found.ks_p > found.lilliefors_p, "standardised without correction is too lenient"


def test_lilliefors_rejects_what_is_not_normal() -> None:
    skewed = 1 - np.random.default_rng(2).exponential(0.05, 60)
    assert normality(skewed.tolist()).lilliefors_p < 0.05


def test_five_pairs_are_too_few_and_six_are_enough() -> None:
    assert math.isnan(signed_rank([0.1, 0.2, 0.3, 0.4, 0.5]))
    assert signed_rank([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) == pytest.approx(2 / 2**6)
    assert math.isnan(normality([0.1, 0.2, 0.3, 0.4, 0.5]).lilliefors_p)


def test_signed_rank_is_that_of_scipy_also_with_ties_and_zeros() -> None:
    rng = np.random.default_rng(3)
    for differences in (rng.normal(0.01, 0.05, 25), np.round(rng.normal(0.01, 0.02, 40), 2)):
        expected = stats.wilcoxon(differences, zero_method="pratt").pvalue
        assert signed_rank(differences) == pytest.approx(expected)
    assert signed_rank([0.0] * 8) == 1.0


def test_holm_is_that_of_statsmodels_and_leaves_out_what_is_no_test() -> None:
    p = [0.01, 0.04, 0.03, 0.005, 0.5]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    with_gaps = holm([0.01, math.nan, 0.04, 0.03, 0.005, math.nan, 0.5])
    assert [x for x in with_gaps if not math.isnan(x)] == pytest.approx(list(holm(p)))
    assert math.isnan(with_gaps[1])
    assert holm([]) == ()
    assert holm([0.9, 0.8]) == (1.0, 1.0)


def test_a_miss_takes_the_worst_rank_and_two_misses_are_a_draw() -> None:
    new, old = [1.0, math.nan, 2.0, math.nan], [1.5, 9.0, math.nan, math.nan]
    found = paired_differences(new, old, higher_is_better=False)
    assert found[0] == 0.5
    assert found[1] < -0.5, "worse than every other"
    assert found[2] == -found[1]
    assert found[3] == 0.0
    assert paired_differences([0.9], [0.8], higher_is_better=True) == pytest.approx([0.1])
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_differences([1.0], [1.0, 2.0], higher_is_better=True)
