"""Injects changes into simulated departments: when they are found, and how often alarms are false.

Cases are drawn from pools of simulated ones. A month has 20 cases. An organ is watched by its alarming
measures (surface Dice at 2 mm and HD95) together, as the node does.
"""

from __future__ import annotations

from collections.abc import Callable
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
Pools = dict[str, list[Pool]]
_DEPARTMENT = ("parotid",) * 5 + ("optic nerve",) * 2


def main(out: Path | None) -> None:
    """Print the results; draw a chart of each injection into a folder."""
    pools = {organ.name: _pools(organ) for organ in ORGANS}
    for name, pool in pools.items():
        means = [float(np.mean(pool[kind][0]["dice"])) for kind in ("stable", "worse")]
        print(f"\n{name}: mean Dice {means[0]:.3f}, of the worse model {means[1]:.3f}")
        _report([pool])
        for change in CHANGES if out is not None else ():
            _draw_example(out or Path(), name, change, pool)
    print(f"\n{len(_DEPARTMENT)} organs together (any of them): {', '.join(_DEPARTMENT)}")
    _report([pools[name] for name in _DEPARTMENT])


def _report(organs: list[Pools]) -> None:
    alarmed, warned = false_alarms(organs)
    print(f"  of {_STABLE_MONTHS} stable months {alarmed} have an alarm, and {warned} only a warning")
    for change in CHANGES:
        for baseline in (20, 150):
            print(f"  {change}, {baseline} cases before: {detection(organs, change, baseline)}", flush=True)


def _pools(organ: Organ) -> Pools:
    """Pools of simulated cases: of the stable model, of a worse one, and of one that drifts."""
    return {
        "stable": [simulate(organ, Model(), 250, 1)],
        "worse": [simulate(organ, Model(error_mm=2.0), 120, 2)],
        "drift": [simulate(organ, Model(shift_mm=shift), 60, 3) for shift in (0.4, 0.8, 1.2, 1.6, 2.0)],
    }


def false_alarms(organs: list[Pools]) -> tuple[int, int]:
    """Of stable months, after 20 and after 150 cases: those with an alarm, and those with only a warning."""
    rng = np.random.default_rng(7)
    alarmed = warned = 0
    for number in range(_STABLE_MONTHS):
        before = (20, 150)[number % 2]
        charts = [
            chart for pool in organs for chart in _charts([_draw(pool["stable"][0], rng, before + MONTH)])
        ]
        seen = [signal for chart in charts for signal in chart.signals if signal.index >= before]
        is_alarm = any(signal.is_alarm for signal in seen)
        alarmed += is_alarm
        warned += bool(seen) and not is_alarm
    return alarmed, warned


def detection(organs: list[Pools], change: str, baseline: int) -> str:
    """After how many cases a change is found: the median, and how often within 20 and within 30 cases.

    Parameters
    ----------
    organs : pools of the organs that change together
    change : one of `CHANGES`
    baseline : number of cases before it
    """
    rng = np.random.default_rng(11)
    found = []
    for _ in range(_TRIALS):
        charts = [
            chart
            for pool in organs
            for chart in _charts([_draw(pool["stable"][0], rng, baseline), CHANGES[change](pool, rng)])
        ]
        seen = [signal.index for chart in charts for signal in chart.alarms if signal.index >= baseline]
        found.append(min(seen, default=998) - baseline + 1)
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


def _worse(pools: Pools, rng: np.random.Generator) -> Pool:
    return _draw(pools["worse"][0], rng, 2 * MONTH)


def _shifted(pools: Pools, rng: np.random.Generator) -> Pool:
    return _draw(pools["drift"][-1], rng, 2 * MONTH)


def _drifting(pools: Pools, rng: np.random.Generator) -> Pool:
    """Over the first 30 cases through the pools, then the last of them."""
    drift = pools["drift"]
    parts = [_draw(pool, rng, 30 // len(drift)) for pool in drift] + [_draw(drift[-1], rng, MONTH)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


CHANGES: dict[str, Callable[[Pools, np.random.Generator], Pool]] = {
    "a worse model from one case to the next": _worse,
    "2 mm to one side from one case to the next": _shifted,
    "2 mm to one side, growing over 30 cases": _drifting,
}
"""What is injected."""


def _draw_example(out: Path, organ: str, change: str, pools: Pools) -> None:
    from orgseg_node.node.feedback.charts import OrganChart  # noqa: PLC0415
    from orgseg_node.node.feedback.pictures import draw_chart  # noqa: PLC0415

    rng = np.random.default_rng(3)
    parts = [_draw(pools["stable"][0], rng, 160), CHANGES[change](pools, rng)]
    out.mkdir(parents=True, exist_ok=True)
    for measure, chart in zip(_MEASURES, _charts(parts), strict=True):
        one = OrganChart(organ=organ, measure=measure, model=change, numbers=(), chart=chart)
        words = f"{organ} {change} {measure}".replace(" ", "_").replace(",", "")
        (out / f"{words}.png").write_bytes(draw_chart(one))
