"""Control charts find changes and stay quiet without; each number against scipy or by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from orgseg_node.core.control.chart import Chart, ChartRules, build_chart
from orgseg_node.core.control.fading import fading
from orgseg_node.core.control.limits import baseline_limits
from orgseg_node.core.control.signals import SignalKind, case_signals, ewma, month_signal

RULES = ChartRules()


def chart_of(*parts: list[float]) -> Chart:
    values = [value for part in parts for value in part]
    return build_chart(values, [f"m{index // 20}" for index in range(len(values))], RULES)


def stable(count: int, seed: int = 1, mean: float = 0.9) -> list[float]:
    return list(np.random.default_rng(seed).normal(mean, 0.02, count))


def test_limits_are_mean_and_deviation_of_the_first_cases_and_students_quantile() -> None:
    values = stable(200)
    limits = baseline_limits(values, baseline=150, provisional=20)
    assert limits is not None
    assert limits.mean == pytest.approx(np.mean(values[:150]))
    assert limits.deviation == pytest.approx(np.std(values[:150], ddof=1))
    width = stats.t.ppf(stats.norm.cdf(3), 149) * limits.deviation * math.sqrt(1 + 1 / 150)
    assert limits.band(3.0) == pytest.approx((limits.mean - width, limits.mean + width))
    ranks = (stats.rankdata(values[:150]) / 151)[:150]
    assert [limits.rank(value) for value in values[:150]] == pytest.approx(ranks)
    assert limits.rank_deviation == pytest.approx(ranks.std())
    assert limits.rank_width(3.0, 20) == pytest.approx(3 * ranks.std() * math.sqrt(1 / 20 + 1 / 150))
    assert not limits.is_provisional


def test_nineteen_cases_set_no_limits_and_twenty_provisional_ones() -> None:
    assert baseline_limits(stable(19), baseline=150, provisional=20) is None
    limits = baseline_limits(stable(20), baseline=150, provisional=20)
    assert limits is not None
    assert limits.is_provisional
    assert chart_of(stable(20)).segments == ()


def test_nelsons_rules_by_hand() -> None:
    limits = baseline_limits([0.0, 1.0] * 10, baseline=150, provisional=20)
    assert limits is not None  # mean and median 0.5, deviation 0.513
    kinds = {SignalKind.BEYOND_3_SIGMA, SignalKind.ONE_SIDE, SignalKind.TREND}

    def seen(*values: float) -> list[tuple[SignalKind, int, bool]]:
        return [(s.kind, s.index, s.is_high) for s in case_signals(values, limits) if s.kind in kinds]

    assert seen(0.4, 9.0, 0.6) == [(SignalKind.BEYOND_3_SIGMA, 1, True)]
    assert seen(*[0.6, 0.7] * 4) == []
    assert seen(*[0.6, 0.7] * 4, 0.6) == [(SignalKind.ONE_SIDE, 8, True)]
    assert seen(*[0.6, 0.7] * 4, 0.5, 0.6) == [], "a case on the median ends the run"
    assert seen(0.1, 0.2, 0.3, 0.6, 0.7) == []
    assert seen(0.1, 0.2, 0.3, 0.6, 0.7, 0.8) == [(SignalKind.TREND, 5, True)]
    assert seen(0.8, 0.7, 0.6, 0.3, 0.2, 0.1) == [(SignalKind.TREND, 5, False)]


def test_the_ewma_is_the_recursion() -> None:
    limits = baseline_limits(stable(20), baseline=150, provisional=20)
    assert limits is not None
    highest = 20.5 / 21
    first = 0.5 + 0.15 * (highest - 0.5)
    assert ewma([1.0, 0.0], limits) == pytest.approx([first, first + 0.15 * (0.5 / 21 - first)])


def test_what_was_never_seen_is_an_alarm_only_if_it_is_no_chance() -> None:
    """Of 40 organs none was deleted: two of the next 20 are no alarm, eight are."""
    none = [0.0] * 40
    assert chart_of(none, [1.0, 0.0] * 2 + [0.0] * 16).alarms == ()
    assert chart_of(none, [1.0, 0.0] * 8 + [0.0] * 4).alarms


def test_one_wild_case_is_a_warning_and_no_alarm() -> None:
    chart = chart_of(stable(150), [0.0], stable(19, seed=2))
    assert chart.alarms == ()
    assert SignalKind.BEYOND_3_SIGMA in {signal.kind for signal in chart.signals}


def test_a_month_is_judged_from_five_cases_on() -> None:
    limits = baseline_limits(stable(20), baseline=150, provisional=20)
    assert limits is not None
    assert month_signal([0.5] * 4, limits, 3) is None
    signal = month_signal([0.5] * 10, limits, 9)
    assert signal is not None
    assert (signal.kind, signal.is_high) == (SignalKind.MONTH_3_SIGMA, False)


@pytest.mark.parametrize("baseline", [20, 150])
def test_a_change_is_found_within_a_month_and_its_limits_stay(baseline: int) -> None:
    changed = chart_of(stable(baseline), stable(100, seed=2, mean=0.85))
    first = next(signal for signal in changed.alarms if signal.index >= baseline)
    assert first.index - baseline < 20
    assert not first.is_high
    limits = changed.limits
    assert limits is not None
    assert limits.cases <= max(20, baseline), "the change is no part of the limits"


def test_alarms_are_rare_without_a_change() -> None:
    """Of 200 charts with 20 new cases on 150, some 2 in 100 have an alarm."""
    count = sum(bool(chart_of(stable(170, seed)).alarms) for seed in range(200))
    assert count <= 30, "over all 150 cases, that is seven months"


def test_a_new_version_is_judged_by_the_limits_of_the_one_before() -> None:
    before = chart_of(stable(150)).limits or baseline_limits(stable(150), baseline=150, provisional=20)
    new = build_chart(stable(15, seed=3, mean=0.8), ["m"] * 15, RULES, before)
    assert new.segments[0].inherited
    assert new.alarms
    assert not build_chart(stable(15, seed=3, mean=0.8), ["m"] * 15, RULES).alarms, "alone it is blind"


def test_values_that_never_differ_give_no_signal() -> None:
    assert chart_of([1.0] * 60).signals == ()


def test_fading_is_a_fall_to_less_than_half_that_is_no_chance() -> None:
    rng = np.random.default_rng(5)
    steady = rng.uniform(0.2, 0.6, 60)
    falls = steady * np.linspace(1.0, 0.1, 60)
    assert fading(list(falls)).is_fading
    assert not fading(list(steady)).is_fading
    assert not fading(list(falls[:15])).is_fading, "too few cases"
    found = fading(list(falls))
    assert found.moving_mean[0] == pytest.approx(falls[:10].mean())
    expected = stats.kendalltau(np.arange(60), falls, alternative="less").pvalue
    assert found.probability == pytest.approx(expected)
