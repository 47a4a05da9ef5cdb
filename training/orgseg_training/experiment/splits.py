"""Splits of the scans into training, validation and test; fixed once, before anything is trained."""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.datasets.scan_groups import groups_of
from orgseg_training.durable import read_json, write_json
from orgseg_training.errors import NoPositives, SplitChanged, TrainingSettingsInvalid
from orgseg_training.experiment.config import Database, Experiment

_CHILD_YEARS = 18.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Keys of scans.

    Attributes
    ----------
    subsets : of each test subset, by its number
    folds : of the validation scans of each fold; together they are all scans of the cross-validation
    """

    subsets: Mapping[int, tuple[str, ...]]
    folds: tuple[tuple[str, ...], ...]

    @property
    def development(self) -> frozenset[str]:
        """All scans of the cross-validation."""
        return frozenset(key for fold in self.folds for key in fold)

    @property
    def tested(self) -> frozenset[str]:
        """All scans that are held out."""
        return frozenset(key for keys in self.subsets.values() for key in keys)


def make_splits(
    experiment: Experiment,
    cases: Sequence[StoredCase],
    *,
    copies: Iterable[tuple[str, str]] = (),
    left_out: Iterable[str] = (),
) -> Splits:
    """Split the scans; a patient, with all copies of their scans, is never on two sides.

    In the mode ``paper`` copies in other data sets are not looked for, as in the study, and only scans of the
    same patient in a data set are kept together.

    Parameters
    ----------
    experiment : its data sets and number of folds
    cases : all scans, also those left out, since their patients may have others
    copies : keys of scans that are copies of each other, in addition to those with equal hashes
    left_out : keys of scans that are in no fold and no subset

    Raises
    ------
    TrainingSettingsInvalid
        If too few patients are left for the folds.
    """
    by_database = {database.name: database for database in experiment.databases}
    strict = experiment.mode == "strict"
    without = set(left_out)
    together = groups_of(cases, copies=strict, links=copies if strict else ())
    groups = [used for group in together if (used := tuple(c for c in group if c.key not in without))]
    rng = random.Random(experiment.seed)  # noqa: S311 (reproducible, no secret)
    subsets: dict[int, list[str]] = defaultdict(list)
    development: list[tuple[StoredCase, ...]] = []
    chosen = _sample_held_out(by_database, groups, rng)
    for number, group in enumerate(groups):
        held = {
            by_database[c.database].subset for c in group if is_held_out(experiment, c) or number in chosen
        }
        if held:
            for case in group:
                # a copy in another data set is held out too, in the subset of its own data set
                subset = by_database[case.database].subset
                subsets[subset if subset in held else min(held)].append(case.key)
        else:
            development.append(group)
    if len(development) < experiment.folds:
        gone, tested = len(without), len(groups) - len(development)
        raise TrainingSettingsInvalid(
            f"{len(development)} patients are left for {experiment.folds} folds. Of {len(cases)} scans "
            f"{gone} were left out, as copies of others or by the list of rejects; "
            f"{tested} patients are for the test."
        )
    return Splits(
        subsets={number: tuple(sorted(keys)) for number, keys in sorted(subsets.items())},
        folds=_folds(development, experiment.folds, rng),
    )


def require_positives(experiment: Experiment, splits: Splits, cases: Sequence[StoredCase]) -> None:
    """Refuse splits with a fold in which an organ was drawn in no scan.

    Parameters
    ----------
    experiment : its organs
    splits : of its scans
    cases : the scans

    Raises
    ------
    NoPositives
        With the first such organ and its folds.
    """
    drawn = {case.key: case.drawn for case in cases}
    for organ in experiment.strategy_1:
        without = [n for n, fold in enumerate(splits.folds) if not any(organ in drawn[key] for key in fold)]
        if without:
            raise NoPositives(f"Fold without positives: {organ} in {', '.join(map(str, without))}.")


def is_held_out(experiment: Experiment, case: StoredCase) -> bool:
    """Whether a scan is held out by its data set or the experiment, not by chance."""
    how = next(database.test for database in experiment.databases if database.name == case.database)
    return how == "all" or (how == "source" and case.test)


def _sample_held_out(
    databases: Mapping[str, Database], groups: Sequence[tuple[StoredCase, ...]], rng: random.Random
) -> frozenset[int]:
    """Indices of the groups that are held out by chance, a fraction of each data set."""
    chosen: set[int] = set()
    for name, database in sorted(databases.items()):
        if database.test == "fraction":
            own = [n for n, group in enumerate(groups) if any(case.database == name for case in group)]
            chosen |= set(rng.sample(own, max(1, round(database.fraction * len(own))))) if own else set()
    return frozenset(chosen)


def _folds(
    groups: Sequence[tuple[StoredCase, ...]], count: int, rng: random.Random
) -> tuple[tuple[str, ...], ...]:
    """Stratified folds: patients of each data set, age group and set of organs are distributed evenly."""
    strata: dict[tuple[object, ...], list[tuple[StoredCase, ...]]] = defaultdict(list)
    for group in groups:
        first = group[0]
        child = first.age_years is not None and first.age_years < _CHILD_YEARS
        strata[first.database, child, tuple(sorted(first.drawn))].append(group)
    folds: list[list[str]] = [[] for _ in range(count)]
    turn = 0
    for _, members in sorted(strata.items(), key=lambda item: repr(item[0])):
        rng.shuffle(members)
        for group in members:
            folds[turn % count] += [case.key for case in group]
            turn += 1
    return tuple(tuple(sorted(fold)) for fold in folds)


def lock_splits(splits: Splits, path: Path) -> None:
    """Write the splits; once written they are never changed.

    Raises
    ------
    SplitChanged
        If other splits were locked before.
    """
    content = {
        "subsets": {str(number): list(keys) for number, keys in splits.subsets.items()},
        "folds": [list(fold) for fold in splits.folds],
    }
    document = {**content, "sha256": _sha256(content)}
    if path.is_file():
        if read_json(path) != document:
            raise SplitChanged(f"{path.name} was locked for other scans.")
        return
    write_json(path, document)


def _sha256(content: Mapping[str, object]) -> str:
    return hashlib.sha256(repr(sorted(content.items())).encode()).hexdigest()


def read_splits(path: Path) -> Splits:
    """The locked splits.

    Raises
    ------
    SplitChanged
        If the file was changed after it was locked.
    StorageError
        If it cannot be read.
    """
    document = read_json(path)
    sha256 = document.pop("sha256", "")
    if _sha256(document) != sha256:
        raise SplitChanged(f"{path.name} does not have the hash of its content.")
    return Splits(
        subsets={int(number): tuple(keys) for number, keys in document["subsets"].items()},
        folds=tuple(tuple(fold) for fold in document["folds"]),
    )
