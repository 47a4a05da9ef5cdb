"""Per-case results: one line for each model, patient and organ; every table is made from them.

They are stored as Parquet, whose columns have types and may be empty: CSV cannot distinguish an empty value
from NaN, and every reader has to guess the types. pyarrow is the smallest package that reads and writes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from orgseg_node.core.metrics import Comparison, Status
from orgseg_node.durable import atomic_file
from orgseg_node.errors import CasesInvalid, DiskFull, EvaluationError, NotDurable, ToolMissing

_VERSION = b"1"
_VERSION_KEY = b"orgseg.cases.version"
_TEXTS = ("model", "subset", "case", "organ", "group", "db")
NUMBERS = tuple(field.name for field in fields(Comparison) if field.name != "status")
"""Columns of numbers; empty if there is no value for the status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseScore:
    """One organ in one patient by one model.

    Attributes
    ----------
    model : such as ``strategy-1``
    subset : such as ``cv``, ``1``, ``2``, ``3``
    case, organ : scan and organ
    group : the patient, the same for all scans of a patient
    db : data set of the scan
    child : whether the patient is a child, or None if not known
    comparison : status and metrics
    """

    model: str
    subset: str
    case: str
    organ: str
    group: str
    db: str
    child: bool | None
    comparison: Comparison

    @property
    def status(self) -> Status:
        """Which masks there were to compare."""
        return self.comparison.status

    def value(self, metric: str) -> float:
        """A metric by the name of its column; NaN if there is no value."""
        return float(getattr(self.comparison, metric))


def write_cases(scores: Iterable[CaseScore], path: Path) -> None:
    """Write results as Parquet, wholly or not at all.

    Raises
    ------
    DiskFull
        If the disk is full; nothing is left behind, and an older file stays.
    EvaluationError
        If the folder cannot be written to.
    """
    arrow, parquet = _arrow()
    rows = [_row(score) for score in scores]
    table = arrow.Table.from_pylist(rows, schema=_schema(arrow))
    try:
        with atomic_file(path) as part, part.open("wb") as stream:
            parquet.write_table(table, stream, compression="zstd")
    except DiskFull as error:
        raise DiskFull(f"{path.name} was not written.") from error
    except NotDurable as error:
        raise EvaluationError(f"{path.name} cannot be written: {error.detail}") from error


def read_cases(path: Path) -> tuple[CaseScore, ...]:
    """Read results and check them against the schema.

    Raises
    ------
    CasesInvalid
        If the file is missing or damaged, or has other columns, an unknown status, or two lines for an organ
        of a case and a model.
    """
    arrow, parquet = _arrow()
    try:
        table = parquet.read_table(path)
    except (OSError, arrow.ArrowException) as error:
        raise CasesInvalid(f"{path.name} cannot be read.") from error
    version = (table.schema.metadata or {}).get(_VERSION_KEY)
    if version != _VERSION or not table.schema.equals(_schema(arrow)):
        raise CasesInvalid(f"{path.name} has other columns than expected.")
    try:
        scores = tuple(_score(row) for row in table.to_pylist())
    except (TypeError, ValueError) as error:
        raise CasesInvalid(f"{path.name} has an invalid value.") from error
    require_unique(scores)
    return scores


def require_unique(scores: Sequence[CaseScore]) -> None:
    """Refuse results with two lines for an organ of a case and a model.

    Raises
    ------
    CasesInvalid
        With the first such case.
    """
    seen = set()
    for score in scores:
        key = (score.model, score.subset, score.case, score.organ)
        if key in seen:
            raise CasesInvalid(f"{score.organ} of case {score.case} is given twice for {score.model}.")
        seen.add(key)


def _row(score: CaseScore) -> dict[str, object]:
    numbers = {name: None if math.isnan(score.value(name)) else score.value(name) for name in NUMBERS}
    texts = {name: getattr(score, name) for name in _TEXTS}
    return {**texts, "child": score.child, "status": score.status.value, **numbers}


def _score(row: dict[str, Any]) -> CaseScore:
    numbers = {name: math.nan if row[name] is None else row[name] for name in NUMBERS}
    comparison = Comparison(status=Status(row["status"]), **numbers)
    return CaseScore(**{name: row[name] for name in _TEXTS}, child=row["child"], comparison=comparison)


def _schema(arrow: Any) -> Any:
    columns = [arrow.field(name, arrow.string(), nullable=False) for name in _TEXTS]
    columns += [arrow.field("child", arrow.bool_()), arrow.field("status", arrow.string(), nullable=False)]
    columns += [arrow.field(name, arrow.float64()) for name in NUMBERS]
    return arrow.schema(columns, metadata={_VERSION_KEY: _VERSION})


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # noqa: ICN001, PLC0415 - of the extra 'train' only
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as error:
        raise ToolMissing("pyarrow: pip install '.[train]' in the source folder.") from error
    return pyarrow, pyarrow.parquet
