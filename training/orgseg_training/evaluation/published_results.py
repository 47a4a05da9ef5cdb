"""The values printed in the study, and which of them are inconsistent."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from orgseg_training.errors import TrainingSettingsInvalid

STRATEGY_2_ORGANS = frozenset(
    {
        "aorta", "brain", "clavicles", "colon", "esophagus", "eyeballs", "femoral_heads", "gall_bladder",
        "hips", "sacrum", "liver", "lungs", "pancreas", "ribs", "spleen", "stomach", "urinary_bladder",
        "vertebrae", "heart",
    }
)  # fmt: skip
"""The 19 organs of the study's multi-organ network."""

_ROUNDING = 0.0005  # the study prints three decimals
_NUMBERS = ("dsc", "dsc_sd", "jaccard", "jaccard_sd", "msd_mm", "hd_mm", "hd95_mm")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRow:
    """One line of a printed table; NaN if a value is not available.

    Attributes
    ----------
    table, subset, model, organ : its place in the study; an empty subset is not known
    n : number of patients
    dsc, jaccard, msd_mm, hd_mm, hd95_mm : printed means; ``_sd`` their standard deviations
    source : of the values
    """

    table: str
    subset: str
    model: str
    organ: str
    n: float
    dsc: float
    dsc_sd: float
    jaccard: float
    jaccard_sd: float
    msd_mm: float
    hd_mm: float
    hd95_mm: float
    source: str

    @property
    def name(self) -> str:
        """Such as ``table 3, subset 2, strategy-2, liver``."""
        return f"table {self.table}, subset {self.subset or '?'}, {self.model}, {self.organ}"


def read_published(path: Path) -> tuple[PublishedRow, ...]:
    """Read printed values; lines that start with # are comments.

    Raises
    ------
    TrainingSettingsInvalid
        If a column is missing or unknown, or a value is no number.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(line for line in stream if not line.startswith("#"))
            if reader.fieldnames != [field.name for field in fields(PublishedRow)]:
                raise TrainingSettingsInvalid(f"{path.name} has other columns than expected.")
            return tuple(_row(row) for row in reader)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise TrainingSettingsInvalid(f"{path.name} cannot be read as printed values.") from error


def _row(row: dict[str, str]) -> PublishedRow:
    numbers = {name: float(row[name]) if row[name].strip() else math.nan for name in ("n", *_NUMBERS)}
    texts = {name: row[name].strip() for name in ("table", "subset", "model", "organ", "source")}
    return PublishedRow(**texts, **numbers)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inconsistency:
    """An inconsistent printed row, and why."""

    row: PublishedRow
    reason: str


def inconsistencies(rows: Sequence[PublishedRow]) -> tuple[Inconsistency, ...]:
    """Every row that is inconsistent in itself or equal to another row."""
    found = [Inconsistency(row=row, reason=reason) for row in rows for reason in _within(row)]
    found += [
        Inconsistency(row=row, reason=f"is equal to {other.organ} in every value")
        for position, row in enumerate(rows)
        for other in rows[:position]
        if _is_copy(row, other)
    ]
    return tuple(found)


def _within(row: PublishedRow) -> Iterator[str]:
    """Inconsistencies within one row; comparisons with NaN are false, so unknown values are not checked.

    For one patient J = D / (2 - D), which is convex: by Jensen's inequality the mean of J is at least that of
    the mean of D on the same patients, and, as J <= D for each of them, at most the mean of D.
    """
    least = jaccard_bound(row.dsc - _ROUNDING)
    if row.jaccard + _ROUNDING < least:
        printed = f"mean J {row.jaccard:.3f} with mean D {row.dsc:.3f}"
        yield f"{printed}; on the same patients J is at least {jaccard_bound(row.dsc):.3f}"
    if row.jaccard - _ROUNDING > row.dsc + _ROUNDING:
        yield f"mean J {row.jaccard:.3f} is above mean D {row.dsc:.3f}"
    if not all(math.isnan(v) or 0 <= v <= 1 for v in (row.dsc, row.jaccard)):
        yield "an overlap is outside of 0 to 1"
    if row.hd95_mm > row.hd_mm or row.msd_mm > row.hd_mm:
        yield "a mean or 95 % distance is above the largest distance"
    # the largest standard deviation of values from 0 to 1 with this mean
    if row.dsc_sd - _ROUNDING > math.sqrt(max(row.dsc * (1 - row.dsc), 0)) * 1.05:
        yield f"no values from 0 to 1 with mean D {row.dsc:.3f} have a standard deviation of {row.dsc_sd:.3f}"
    if row.model == "strategy-2" and row.organ not in STRATEGY_2_ORGANS:
        yield "strategy 2 has no such organ"


def jaccard_bound(dice: float) -> float:
    """The smallest mean Jaccard index that is possible with a mean Dice."""
    return dice / (2 - dice)


def _is_copy(row: PublishedRow, other: PublishedRow) -> bool:
    """The same table, subset and model, another organ, and at least two values, all of them equal."""
    tables = [(r.table, r.subset, r.model) for r in (row, other)]
    if tables[0] != tables[1] or row.organ == other.organ:
        return False
    values = [[getattr(r, name) for name in _NUMBERS] for r in (row, other)]
    pairs = [(a, b) for a, b in zip(*values, strict=True) if not (math.isnan(a) and math.isnan(b))]
    return len(pairs) > 1 and all(a == b for a, b in pairs)
