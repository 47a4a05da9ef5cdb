"""Tables of what was found, and whether the goals are reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from benchmarks.qa.goals import Goal
from benchmarks.qa.scoring import CLEAN, Row
from orgseg_node.core.checks import Grade

GROSS_KINDS: Final = ("shift 20 mm", "swapped sides", "exchanged names", "other patient")
"""Faults that are gross whatever the Dice; all others are gross where the Dice is below 0.5."""
_GROSS, _MIDDLING = 0.5, 0.7  # Dice
GOAL_GROSS, GOAL_MIDDLING, GOAL_CLEAN = 0.95, 0.7, 0.03


def table(rows: Sequence[Row]) -> list[str]:
    """Found and left out of each kind of fault, by Dice and by organ, and the area under the ROC curve."""
    clean = [r.score for r in rows if r.kind == CLEAN]
    organs = sorted({r.organ for r in rows})
    lines = [
        f"{'fault':<16}{'n':>6}{'found':>7}{'left out':>10}{'gross':>12}{'middling':>12}{'AUC':>6}  "
        + " ".join(f"{o[:8]:>8}" for o in organs)
    ]
    for kind in dict.fromkeys(r.kind for r in rows if r.kind != CLEAN):
        own = [r for r in rows if r.kind == kind]
        by_organ = " ".join(f"{_rate([r for r in own if r.organ == o]):>8}" for o in organs)
        bands = [[r for r in own if is_gross(r)], [r for r in own if is_middling(r)]]
        shown = "".join(f"{_rate(band):>7}/{len(band):<4}" for band in bands)
        auc = area(clean, [r.score for r in own])
        lines.append(
            f"{kind:<16}{len(own):>6}{_rate(own):>7}{left_out(own):>10.2f}{shown}{auc:>6.3f}  {by_organ}"
        )
    return lines


def is_gross(row: Row) -> bool:
    """Whether a fault must be found."""
    return row.kind in GROSS_KINDS or row.dice < _GROSS


def is_middling(row: Row) -> bool:
    """Whether most faults of this size should be found."""
    return not is_gross(row) and (row.kind == "shift 10 mm" or _GROSS <= row.dice < _MIDDLING)


def goals(rows: Sequence[Row], known_wrong: Mapping[str, str]) -> list[Goal]:
    """The goals of the judgement of contours.

    Parameters
    ----------
    rows : of all patients
    known_wrong : clinical contours that are wrong themselves, as ``patient organ``, with the reason
    """
    faults = [r for r in rows if r.kind != CLEAN and f"{r.patient} {r.organ}" not in known_wrong]
    clean = [r for r in rows if r.kind == CLEAN and f"{r.patient} {r.organ}" not in known_wrong]
    low = [r for r in faults if r.kind not in GROSS_KINDS and r.dice < _GROSS]
    gross = [(kind, [r for r in faults if r.kind == kind]) for kind in GROSS_KINDS]
    ten = [r for r in faults if r.kind == "shift 10 mm"]
    middling = [r for r in faults if is_middling(r)]
    return [
        *(_goal(f"gross fault found: {kind}", own, GOAL_GROSS) for kind, own in gross),
        _goal("gross fault found: any other with Dice < 0.5", low, GOAL_GROSS),
        _goal("middling fault found: shift 10 mm", ten, GOAL_MIDDLING),
        _goal("middling fault found: all", middling, GOAL_MIDDLING),
        Goal(
            text=f"correct contours flagged, {len(clean)}", value=share(clean), limit=GOAL_CLEAN, at_most=True
        ),
    ]


def _goal(text: str, rows: Sequence[Row], limit: float) -> Goal:
    return Goal(text=f"{text}, {len(rows)}", value=share(rows), limit=limit)


def share(rows: Iterable[Row]) -> float:
    """Fraction that is flagged."""
    found = [row.is_flagged for row in rows]
    return float(np.mean(found)) if found else float("nan")


def left_out(rows: Iterable[Row]) -> float:
    """Fraction that is implausible."""
    found = [row.grade is Grade.IMPLAUSIBLE for row in rows]
    return float(np.mean(found)) if found else float("nan")


def area(clean: Sequence[float], faulty: Sequence[float]) -> float:
    """Area under the ROC curve: how often a faulty contour scores higher than a correct one."""
    if not clean or not faulty:
        return float("nan")
    order = np.argsort(np.concatenate([clean, faulty]), kind="stable")
    ranks = np.empty(order.size)
    ranks[order] = np.arange(1, order.size + 1)
    low = len(faulty) * (len(faulty) + 1) / 2
    return float((ranks[len(clean) :].sum() - low) / (len(clean) * len(faulty)))


def _rate(rows: Sequence[Row]) -> str:
    return f"{share(rows):.2f}" if rows else "-"
