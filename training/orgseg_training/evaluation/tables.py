"""The tables of the study, made from per-case results, next to the values printed in the study."""

from __future__ import annotations

import csv
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from scipy import stats

from orgseg_node.core.bootstrap import bootstrap_mean
from orgseg_node.core.metrics import Status
from orgseg_training.errors import TrainingSettingsInvalid
from orgseg_training.evaluation.published_results import PublishedRow, inconsistencies
from orgseg_training.evaluation.results import CaseScore
from orgseg_training.evaluation.statistics import (
    MIN_PAIRS,
    holm,
    normality,
    paired_differences,
    signed_rank,
)
from orgseg_training.evaluation.table_formats import Table

_SEED = 20250101  # of the bootstrap: the same results give the same table
_METRICS = {
    "dsc": "DSC",
    "jaccard": "J",
    "msd_mm": "MSD mm",
    "hd_mm": "HD mm",
    "hd95_mm": "HD95 mm",
    "vd_ml": "VD ml",
    "sdsc": "SDSC",
    "apl_mm": "APL mm",
}
_STUDY_TABLES = {
    "1": (("cv",), "Five-fold cross-validation"),
    "2": (("1",), "Subset 1, the held-out tenth of the training databases"),
    "3": (("2", "3"), "Subset 2 (TotalSegmentator test) and subset 3 (external)"),
}
_NOTE = (
    "Mean ± standard deviation over cases. missed: the organ was not found; its overlaps count as 0, its"
    " distances do not exist. cropped: the scan ends inside the organ. VD is prediction minus reference."
)
_SELF_CONSISTENCY = (
    " Cross-validation of strategy 2 is against completed labels: it shows self-consistency, not accuracy."
)
_INCONSISTENT = " A printed value with * is inconsistent; 'orgseg-train study check' shows why."

Groups = dict[tuple[str, str, str], list[CaseScore]]


def group_scores(scores: Iterable[CaseScore]) -> Groups:
    """Results grouped by subset, organ and model, in this order."""
    groups: Groups = defaultdict(list)
    for score in scores:
        if score.status is not Status.NOT_LABELLED:
            groups[score.subset, score.organ, score.model].append(score)
    return dict(sorted(groups.items()))


def study_table(number: str, groups: Groups, printed: Sequence[PublishedRow]) -> Table:
    """Table 1, 2 or 3: a line for each subset, organ and model, with our results and the printed ones.

    Parameters
    ----------
    number : 1, 2 or 3
    groups : per-case results
    printed : values of the study
    """
    subsets, title = _STUDY_TABLES[number]
    marked = {(i.row.table, i.row.subset, i.row.model, i.row.organ) for i in inconsistencies(printed)}
    study = {(r.subset, r.organ, r.model): r for r in printed if r.table == number}
    keys = {key for key in groups if key[0] in subsets} | set(study)
    rows = []
    for key in sorted(keys):
        subset, organ, model = key
        published = study.get(key)
        star = "*" if (number, subset, model, organ) in marked else ""
        rows.append((subset, organ, model, *_summary(groups.get(key, [])), *_printed(published, star)))
    return Table(
        name=f"table_{number}",
        title=f"Table {number}. {title}",
        note=_NOTE + (_SELF_CONSISTENCY if number == "1" else "") + _INCONSISTENT,
        columns=("subset", "organ", "model", "n", "missed", "cropped", *_METRICS.values(), "study n",
                 "study DSC", "study J"),
        rows=tuple(rows),
    )  # fmt: skip


def _summary(scores: Sequence[CaseScore]) -> tuple[str, ...]:
    scored = [s for s in scores if s.status.is_scored]
    missed = sum(s.status is Status.PRED_EMPTY for s in scored)
    cropped = sum(s.status is Status.CROPPED_BY_FOV for s in scored)
    means = (mean_and_sd([s.value(metric) for s in scored]) for metric in _METRICS)
    return str(len(scored)), str(missed), str(cropped), *means


def _printed(row: PublishedRow | None, star: str) -> tuple[str, str, str]:
    if row is None:
        return "", "", ""

    def cell(mean: float, sd: float) -> str:
        if math.isnan(mean):
            return ""
        return f"{mean:.3f}{'' if math.isnan(sd) else f' ± {sd:.3f}'}{star}"

    return (
        "" if math.isnan(row.n) else f"{row.n:.0f}",
        cell(row.dsc, row.dsc_sd),
        cell(row.jaccard, row.jaccard_sd),
    )


def mean_and_sd(values: Iterable[float]) -> str:
    """Such as ``0.912 ± 0.034``; without deviation for one value, empty for none."""
    known = [v for v in values if not math.isnan(v)]
    if not known:
        return ""
    spread = f" ± {statistics.stdev(known):.3f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.3f}{spread}"


def dice_table(scores: Iterable[CaseScore]) -> str:
    """A Markdown table of Dice for a model card: organ, scans, mean, standard deviation, median and worst."""
    by_organ: dict[str, list[float]] = defaultdict(list)
    for score in scores:
        if score.status.is_scored:
            by_organ[score.organ].append(score.value("dsc"))
    lines = ["| organ | scans | Dice mean | sd | median | worst |", "|---|---|---|---|---|---|"]
    for organ, values in sorted(by_organ.items()):
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        lines.append(
            f"| {organ} | {len(values)} | {statistics.mean(values):.3f} | {spread:.3f} "
            f"| {statistics.median(values):.3f} | {min(values):.3f} |"
        )
    return "\n".join(lines)


def comparison_table(groups: Groups, metric: str, *, higher_is_better: bool) -> Table:
    """Every two models on the same cases: mean difference with interval, signed-rank test, Holm's correction.

    Parameters
    ----------
    groups : per-case results
    metric : name of its column
    higher_is_better : true for overlaps, false for distances
    """
    pairs = []
    for (subset, organ, one), first in groups.items():
        for other in sorted({key[2] for key in groups if key[:2] == (subset, organ) and key[2] > one}):
            by_case = {s.case: s for s in groups[subset, organ, other] if s.status.is_scored}
            both = [(s, by_case[s.case]) for s in first if s.status.is_scored and s.case in by_case]
            pairs.append((subset, organ, one, other, both))
    tested = []
    for *names, both in pairs:
        new, old = ([s[i].value(metric) for s in both] for i in (1, 0))
        p = signed_rank(paired_differences(new, old, higher_is_better=higher_is_better))
        kept = [(b - a, s[0].group) for a, b, s in zip(old, new, both, strict=True) if not math.isnan(b - a)]
        interval = bootstrap_mean([d for d, _ in kept], [g for _, g in kept], seed=_SEED)
        tested.append((names, len(both), interval, p))
    corrected = holm([p for *_, p in tested])
    rows = tuple(
        (*names, str(n), _number(i.mean), _range(i.low, i.high), _p(p, n), _p(adjusted, n))
        for (names, n, i, p), adjusted in zip(tested, corrected, strict=True)
    )
    return Table(
        name=f"models_{metric}",
        title=f"Models on the same cases: {_METRICS[metric]}",
        note="Difference: second model minus first; interval: bootstrap by patient. A missed organ gets"
        " the worst rank in the test. Wilcoxon signed rank, Holm over this table; below"
        f" {MIN_PAIRS} pairs: too few.",
        columns=("subset", "organ", "first", "second", "pairs", "difference", "95 % interval", "p", "p Holm"),
        rows=rows,
    )


def normality_table(groups: Groups) -> Table:
    """The study's test of normality and the correct one, for Dice."""
    rows = []
    for key, scores in groups.items():
        found = normality([s.value("dsc") for s in scores if s.status.is_scored])
        p = (found.ks_raw_p, found.ks_p, found.lilliefors_p)
        rows.append((*key, str(found.n), *(_p(value, found.n) for value in p)))
    return Table(
        name="normality",
        title="Are the Dice values normally distributed?",
        note="Kolmogorov-Smirnov of raw values rejects any Dice values; standardised, it is too lenient;"
        " Lilliefors' test is the correct one. No other table depends on this one.",
        columns=("subset", "organ", "model", "n", "KS raw p", "KS standardised p", "Lilliefors p"),
        rows=tuple(rows),
    )


def children_table(groups: Groups) -> Table:
    """Dice of adults and children, with the rank-sum test for independent samples."""
    rows = []
    for key, scores in groups.items():
        values = {
            child: [s.value("dsc") for s in scores if s.status.is_scored and s.child is child]
            for child in (False, True)
        }
        if not values[False] and not values[True]:
            continue
        least = min(len(v) for v in values.values())
        p = float(stats.mannwhitneyu(values[False], values[True]).pvalue) if least >= MIN_PAIRS else math.nan
        cells = [cell for v in values.values() for cell in (str(len(v)), mean_and_sd(v))]
        rows.append((*key, *cells, _p(p, least)))
    return Table(
        name="adults_children",
        title="Adults and children: DSC",
        note=f"Mann-Whitney rank sum, not corrected; below {MIN_PAIRS} on either side: too few.",
        columns=("subset", "organ", "model", "adults", "DSC adults", "children", "DSC children", "p"),
        rows=tuple(rows),
    )


def false_findings_table(groups: Groups) -> Table:
    """Organs that are not in the reference: falsely found, and correctly not found."""
    rows = []
    for key, scores in groups.items():
        false = [s.value("prediction_ml") for s in scores if s.status is Status.REF_EMPTY]
        correct = sum(s.status is Status.BOTH_EMPTY for s in scores)
        if false or correct:
            rows.append((*key, str(len(false)), mean_and_sd(false), str(correct)))
    return Table(
        name="false_findings",
        title="Organs found where there are none",
        note="These cases are in no mean of overlaps or distances.",
        columns=("subset", "organ", "model", "false findings", "volume ml", "correctly nothing"),
        rows=tuple(rows),
    )


def cost_table(path: Path) -> Table:
    """GPU hours of each step, from a CSV ``step,jobs,gpu_hours_each,device``; lines with # are comments.

    Raises
    ------
    TrainingSettingsInvalid
        If the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            lines = list(csv.DictReader(line for line in stream if not line.startswith("#")))
        costs = [(r["step"], int(r["jobs"]), float(r["gpu_hours_each"]), r["device"]) for r in lines]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise TrainingSettingsInvalid(f"{path.name} cannot be read as a table of costs.") from error
    rows = [(step, str(n), f"{each:g}", f"{n * each:g}", device) for step, n, each, device in costs]
    rows.append(
        ("all", str(sum(n for _, n, _, _ in costs)), "", f"{sum(n * e for _, n, e, _ in costs):g}", "")
    )
    return Table(
        name="cost",
        title="Cost in GPU hours",
        note="Hours of different devices are added without conversion.",
        columns=("step", "jobs", "hours each", "hours", "device"),
        rows=tuple(rows),
    )


def all_tables(scores: Sequence[CaseScore], printed: Sequence[PublishedRow]) -> tuple[Table, ...]:
    """Every table that is made from per-case results."""
    groups = group_scores(scores)
    several = [
        comparison_table(groups, m, higher_is_better=h) for m, h in (("dsc", True), ("hd95_mm", False))
    ]
    return (
        *(study_table(number, groups, printed) for number in _STUDY_TABLES),
        other_subsets_table(groups),
        *several,
        normality_table(groups),
        children_table(groups),
        false_findings_table(groups),
    )


def other_subsets_table(groups: Groups) -> Table:
    """Results of subsets that are not in the study."""
    known = {subset for subsets, _ in _STUDY_TABLES.values() for subset in subsets}
    rows = tuple((*key, *_summary(scores)) for key, scores in groups.items() if key[0] not in known)
    return Table(
        name="other_subsets",
        title="Other subsets",
        note=_NOTE,
        columns=("subset", "organ", "model", "n", "missed", "cropped", *_METRICS.values()),
        rows=rows,
    )


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:+.3f}"


def _range(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"{low:+.3f} to {high:+.3f}"


def _p(value: float, n: int) -> str:
    if math.isnan(value):
        return "too few" if n < MIN_PAIRS else ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
