"""Training and validation scans of each fold of a fine-tuning; a patient is never on both sides."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.datasets.scan_groups import groups_of
from orgseg_training.errors import TooFewDrawn, TrainingSettingsInvalid

MIN_TRAINING: Final = 4
"""Scans in which an organ must be drawn among those a fold is trained on."""
_VALIDATION_PARTS: Final = 5

Fold = Mapping[str, Sequence[str]]


def make_folds(cases: Sequence[StoredCase], organs: Sequence[str], folds: int, seed: int) -> tuple[Fold, ...]:
    """Folds in which every organ is drawn on both sides.

    With one fold, about a fifth of the patients validate; with more, each patient validates once.

    Parameters
    ----------
    cases : the scans
    organs : that are trained
    folds : number of networks
    seed : of the random order

    Raises
    ------
    TooFewDrawn
        With every organ that is drawn in too few scans.
    """
    groups = list(groups_of(cases, copies=True))
    random.Random(seed).shuffle(groups)  # noqa: S311 (reproducible, no secret)
    parts = folds if folds > 1 else max(2, min(_VALIDATION_PARTS, len(groups) // 2))
    placed = _distribute(groups, organs, parts)
    keys = {case.key for case in cases}
    every = [{"train": sorted(keys.difference(part)), "val": sorted(part)} for part in placed]
    if folds > 1:
        _require_drawn(cases, organs, every)
        return tuple(every)
    good = [fold for fold in every if not _too_few(cases, organs, [fold])]
    _require_drawn(cases, organs, good[:1] or every[:1])
    return (good[0],)


def given_fold(cases: Sequence[StoredCase], organs: Sequence[str], validation: Collection[str]) -> Fold:
    """The fold in which certain scans validate.

    Parameters
    ----------
    cases : the scans
    organs : that are trained
    validation : keys of the scans that validate

    Raises
    ------
    TrainingSettingsInvalid
        If a scan is not there, or another one of its patient, or a copy, would be trained on.
    TooFewDrawn
        With every organ that is drawn in too few scans.
    """
    keys = {case.key for case in cases}
    missing = sorted(set(validation) - keys)
    if missing:
        raise TrainingSettingsInvalid(f"validation: there is no scan {', '.join(missing)}.")
    for group in groups_of(cases, copies=True):
        sides = {case.key in validation for case in group}
        if len(sides) > 1:
            raise TrainingSettingsInvalid(
                f"validation: {', '.join(case.key for case in group)} are of one patient."
            )
    fold = {"train": sorted(keys.difference(validation)), "val": sorted(validation)}
    _require_drawn(cases, organs, [fold])
    return fold


def validation_scans(
    cases: Sequence[StoredCase], organs: Sequence[str], fold: Fold, most: int
) -> tuple[str, ...]:
    """The scans on which the best moment of a training is chosen: each organ is drawn in some of them.

    Parameters
    ----------
    cases : the scans
    organs : that are trained
    fold : whose validation scans are taken
    most : number of scans at most; more only if an organ would be in none
    """
    drawn = {case.key: case.drawn & set(organs) for case in cases}
    remaining = list(fold["val"])
    count: Counter[str] = Counter()
    chosen: list[str] = []
    while remaining and (len(chosen) < most or any(not count[organ] for organ in organs)):
        best = max(remaining, key=lambda key: sum(1 / (1 + 4 * count[organ]) for organ in drawn[key]))
        remaining.remove(best)
        chosen.append(best)
        count.update(drawn[best])
    return tuple(chosen)


def _distribute(
    groups: Sequence[tuple[StoredCase, ...]], organs: Sequence[str], parts: int
) -> list[list[str]]:
    """Patients in parts: those with the rarest organs first, each to the part with the fewest of them."""
    count = Counter(organ for group in groups for case in group for organ in case.drawn)
    placed: list[list[str]] = [[] for _ in range(parts)]
    have: list[Counter[str]] = [Counter() for _ in range(parts)]
    remaining = list(groups)
    for organ in [*sorted(organs, key=lambda one: (count[one], one)), None]:
        for group in list(remaining):
            drawn = {one for case in group for one in case.drawn}
            if organ is not None and organ not in drawn:
                continue
            number = min(range(parts), key=lambda n: (have[n][organ] if organ else 0, len(placed[n]), n))
            placed[number] += [case.key for case in group]
            have[number].update(drawn)
            remaining.remove(group)
    return placed


def _require_drawn(cases: Sequence[StoredCase], organs: Sequence[str], folds: Sequence[Fold]) -> None:
    problems = _too_few(cases, organs, folds)
    if problems:
        counts = ", ".join(
            f"{organ} is drawn in {sum(organ in case.drawn for case in cases)}" for organ in problems
        )
        raise TooFewDrawn(
            f"Of {len(cases)} scans, {counts}; each network needs {MIN_TRAINING} for training and 1 for"
            " validation."
        )


def _too_few(cases: Sequence[StoredCase], organs: Sequence[str], folds: Sequence[Fold]) -> list[str]:
    drawn = {case.key: case.drawn for case in cases}
    return [
        organ
        for organ in organs
        if any(sum(organ in drawn[key] for key in fold["train"]) < MIN_TRAINING for fold in folds)
        or not all(any(organ in drawn[key] for key in fold["val"]) for fold in folds)
    ]
