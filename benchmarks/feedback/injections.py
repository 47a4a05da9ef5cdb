"""Injects changes into simulated departments: when they are found, and how often alarms are false.

Cases are drawn from pools of simulated ones. A month has 20 cases. An organ is watched by its alarming
measures (surface Dice at 2 mm and HD95) together, as the node does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.feedback.simulated import ORGANS, Model, Organ, simulate
from orgseg_node.core.control.chart import Chart, ChartRules, build_chart
from orgseg_node.core.geometry import FloatArray

MONTH = 20
_RULES = ChartRules()
_TRIALS = 200
_STABLE_MONTHS = 1000
_MEASURES = ("surface_dice_2mm", "hd95_mm")

Pool = dict[str, FloatArray]


def main(out: Path | None) -> None:
    """Print the results; draw a chart of each injection into a folder."""
    for organ in ORGANS:
        stable = simulate(organ, Model(), 250, 1)
        worse = simulate(organ, Model(error_mm=2.0), 120, 2)
        drift = [simulate(organ, Model(shift_mm=shift), 60, 3) for shift in (0.4, 0.8, 1.2, 1.6, 2.0)]
        means = [float(np.mean(pool["dice"])) for pool in (stable, worse)]
        print(f"\n{organ.name}: mean Dice {means[0]:.3f} stable, {means[1]:.3f} of the worse model")
        false = false_alarms(stable)
        print(
            f"  alarms in {_STABLE_MONTHS} stable months: {false[0]}; months with a warning only: {false[1]}"
        )
        for name, change in (
            ("a worse model from one case to the next", partial(_draw, worse)),
            ("2 mm to one side from one case to the next", partial(_draw, drift[-1])),
            ("2 mm to one side, growing over 30 cases", partial(_growing, drift)),
        ):
            for baseline in (20, 150):
                print(f"  {name}, {baseline} cases before: {detection(stable, change, baseline)}")
            if out is not None:
                _draw_example(out, organ, name, stable, change)


def false_alarms(stable: Pool) -> tuple[int, int]:
    """Of stable months, after 20 and after 150 cases: those with an alarm, and those with only a warning."""
    rng = np.random.default_rng(7)
    alarmed = warned = 0
    for number in range(_STABLE_MONTHS):
        before = (20, 150)[number % 2]
        charts = _charts([_draw(stable, rng, before + MONTH)])
        seen = [signal for chart in charts for signal in chart.signals if signal.index >= before]
        is_alarm = any(signal.is_alarm for signal in seen)
        alarmed += is_alarm
        warned += bool(seen) and not is_alarm
    return alarmed, warned


def detection(stable: Pool, change: Callable[[np.random.Generator, int], Pool], baseline: int) -> str:
    """After how many cases a change is found: the median, and how often within 20 and within 30 cases."""
    rng = np.random.default_rng(11)
    found = []
    for _ in range(_TRIALS):
        charts = _charts([_draw(stable, rng, baseline), change(rng, 3 * MONTH)])
        at = [
            signal.index - baseline + 1
            for chart in charts
            for signal in chart.alarms
            if signal.index >= baseline
        ]
        found.append(min(at, default=999))
    within = [sum(at <= limit for at in found) / len(found) for limit in (20, 30)]
    return f"median after {np.median(found):.0f} cases; {within[0]:.0%} within 20, {within[1]:.0%} within 30"


def _charts(parts: list[Pool]) -> list[Chart]:
    made = []
    for measure in _MEASURES:
        values = [float(value) for part in parts for value in part[measure]]
        months = [f"{index // MONTH:03d}" for index in range(len(values))]
        made.append(build_chart(values, months, _RULES))
    return made


def _draw(pool: Pool, rng: np.random.Generator, count: int) -> Pool:
    chosen = rng.integers(0, len(pool["dice"]), count)
    return {name: values[chosen] for name, values in pool.items()}


def _growing(pools: list[Pool], rng: np.random.Generator, count: int) -> Pool:
    """Cases that drift: over the first 30 cases through the pools, then the last of them."""
    parts = [_draw(pool, rng, 30 // len(pools)) for pool in pools]
    parts.append(_draw(pools[-1], rng, count - 30))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _draw_example(
    out: Path, organ: Organ, name: str, stable: Pool, change: Callable[[np.random.Generator, int], Pool]
) -> None:
    from orgseg_node.node.feedback.charts import OrganChart  # noqa: PLC0415
    from orgseg_node.node.feedback.pictures import draw_chart  # noqa: PLC0415

    rng = np.random.default_rng(3)
    parts = [_draw(stable, rng, 160), change(rng, 2 * MONTH)]
    out.mkdir(parents=True, exist_ok=True)
    for measure, chart in zip(_MEASURES, _charts(parts), strict=True):
        one = OrganChart(organ=organ.name, measure=measure, model=name, numbers=(), chart=chart)
        words = f"{organ.name} {name} {measure}".replace(" ", "_").replace(",", "")
        (out / f"{words}.png").write_bytes(draw_chart(one))
