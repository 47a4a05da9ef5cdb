"""Box plots of per-case results, one image for each subset and metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from orgseg_node.durable import atomic_file
from orgseg_training.evaluation.results import CaseScore
from orgseg_training.evaluation.tables import group_scores

_METRICS = {"dsc": "DSC", "hd95_mm": "HD95 (mm)"}
_COLOURS = (
    "#4477aa",
    "#ee6677",
    "#228833",
    "#ccbb44",
    "#66ccee",
    "#aa3377",
)  # distinguishable with colour blindness


def write_box_plots(scores: Sequence[CaseScore], folder: Path) -> tuple[Path, ...]:
    """Write a PNG for each subset and metric: organs side by side, models in colours.

    Boxes show quartiles and median, whiskers extend to 1.5 interquartile ranges, points are outliers.
    """
    paths = []
    for subset in sorted({key[0] for key in group_scores(scores)}):
        for metric, title in _METRICS.items():
            path = folder / f"boxes_{_file_name(subset)}_{metric}.png"
            figure = _box_plot([s for s in scores if s.subset == subset], metric, f"Subset {subset}: {title}")
            with atomic_file(path) as part:
                figure.savefig(part, format="png")
            paths.append(path)
    return tuple(paths)


def _box_plot(scores: Sequence[CaseScore], metric: str, title: str) -> Figure:
    groups = group_scores(scores)
    organs, models = sorted({k[1] for k in groups}), sorted({k[2] for k in groups})
    figure = Figure(figsize=(max(5.0, 1.5 + 0.35 * len(organs) * len(models)), 5.0), layout="constrained")
    axes = figure.add_subplot()
    step = 1 / (len(models) + 1)
    for position, organ in enumerate(organs):
        for number, model in enumerate(models):
            found = [s for key, group in groups.items() if key[1:] == (organ, model) for s in group]
            values = [s.value(metric) for s in found if s.status.is_scored]
            values = [v for v in values if not math.isnan(v)]
            if values:
                at = position + (number - (len(models) - 1) / 2) * step
                drawn = axes.boxplot([values], positions=[at], widths=step * 0.8, patch_artist=True)
                drawn["boxes"][0].set_facecolor(_COLOURS[number % len(_COLOURS)])
                drawn["medians"][0].set_color("black")
    axes.set_xticks(range(len(organs)), organs, rotation=60, ha="right")
    axes.set_title(title)
    axes.grid(axis="y", alpha=0.3)
    patches = [Patch(color=_COLOURS[n % len(_COLOURS)], label=model) for n, model in enumerate(models)]
    axes.legend(handles=patches)
    return figure


def _file_name(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-." else "_" for c in text) or "none"
