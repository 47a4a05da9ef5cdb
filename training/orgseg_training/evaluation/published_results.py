"""The study's own printed values, and where they contradict themselves."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from orgseg_node.errors import ConfigError

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
class PrintedRow:
    """One line of a printed table; NaN where a value is not at hand.

    Attributes
    ----------
    table, subset, model, organ : where it stands; an empty subset is not at hand
    n : patients
    dsc, jaccard, msd_mm, hd_mm, hd95_mm : printed means; ``_sd`` their deviations
    source : where the value was taken from
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


def read_printed(path: Path) -> tuple[PrintedRow, ...]:
    """Read printed values; lines that begin with # are comments.

    Raises
    ------
    ConfigError
        If a column is missing or unknown, or a value is no number.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(line for line in stream if not line.startswith("#"))
            if reader.fieldnames != [field.name for field in fields(PrintedRow)]:
                raise ConfigError(f"{path.name} has other columns than expected.")
            return tuple(_row(row) for row in reader)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path.name} cannot be read as printed values.") from error


def _row(row: dict[str, str]) -> PrintedRow:
    numbers = {name: float(row[name]) if row[name].strip() else math.nan for name in ("n", *_NUMBERS)}
    texts = {name: row[name].strip() for name in ("table", "subset", "model", "organ", "source")}
    return PrintedRow(**texts, **numbers)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inconsistency:
    """A printed row that cannot be, and why."""

    row: PrintedRow
    reason: str


def inconsistencies(rows: Sequence[PrintedRow]) -> tuple[Inconsistency, ...]:
    """Every row that contradicts itself or another, found by computation."""
    found = [Inconsistency(row=row, reason=reason) for row in rows for reason in _within(row)]
    found += [
        Inconsistency(row=row, reason=f"is equal to {other.organ} in every value")
        for place, row in enumerate(rows)
        for other in rows[:place]
        if _is_copy(row, other)
    ]
    return tuple(found)


def _within(row: PrintedRow) -> Iterator[str]:
    """What one row alone shows; comparisons with NaN are false, so what is not at hand is not judged.

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
        yield "an overlap lies outside of 0 to 1"
    if row.hd95_mm > row.hd_mm or row.msd_mm > row.hd_mm:
        yield "a mean or 95 % distance is above the largest distance"
    # the largest deviation of values from 0 to 1 with this mean
    if row.dsc_sd - _ROUNDING > math.sqrt(max(row.dsc * (1 - row.dsc), 0)) * 1.05:
        yield f"no values from 0 to 1 with mean D {row.dsc:.3f} deviate by {row.dsc_sd:.3f}"
    if row.model == "strategy-2" and row.organ not in STRATEGY_2_ORGANS:
        yield "strategy 2 has no such organ"


def jaccard_bound(dice: float) -> float:
    """The least mean Jaccard index that goes with a mean Dice."""
    return dice / (2 - dice)


def _is_copy(row: PrintedRow, other: PrintedRow) -> bool:
    """The same table, subset and model, another organ, and at least two values, all of them equal."""
    places = [(r.table, r.subset, r.model) for r in (row, other)]
    if places[0] != places[1] or row.organ == other.organ:
        return False
    values = [[getattr(r, name) for name in _NUMBERS] for r in (row, other)]
    pairs = [(a, b) for a, b in zip(*values, strict=True) if not (math.isnan(a) and math.isnan(b))]
    return len(pairs) > 1 and all(a == b for a, b in pairs)
