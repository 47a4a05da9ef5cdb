"""What became of one scan: each organ with its metrics, or why the scan was not contoured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from orgseg_node.core.metrics import Comparison, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganResult:
    """One organ of one scan, the clinical contours being the reference.

    Attributes
    ----------
    comparison : status and metrics
    left_out : whether the node left it out of the objects, because no organ looks like this
    """

    comparison: Comparison
    left_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanResult:
    """One scan.

    Attributes
    ----------
    organs : results by key of the organ
    refused : code and sentence of the error for which it was not contoured; empty if it was
    not_used : why clinical ROIs were not compared, by name
    seconds : how long it took
    """

    organs: Mapping[str, OrganResult] = field(default_factory=dict)
    refused: str = ""
    not_used: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def as_json(self) -> dict[str, Any]:
        """The result as JSON values; an undefined metric is None."""
        organs = {
            key: {"left_out": one.left_out, **{k: _plain(v) for k, v in asdict(one.comparison).items()}}
            for key, one in self.organs.items()
        }
        return {
            "organs": organs,
            "refused": self.refused,
            "not_used": dict(self.not_used),
            "seconds": round(self.seconds, 1),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ScanResult:
        """The result from JSON values. Raises KeyError, TypeError, ValueError or AttributeError."""
        organs = {}
        for key, row in values["organs"].items():
            numbers = {
                name: math.nan if value is None else float(value)
                for name, value in row.items()
                if name not in {"status", "left_out"}
            }
            comparison = Comparison(status=Status(row["status"]), **numbers)
            organs[key] = OrganResult(comparison=comparison, left_out=bool(row["left_out"]))
        return cls(
            organs=organs,
            refused=str(values["refused"]),
            not_used=dict(values["not_used"]),
            seconds=float(values["seconds"]),
        )


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
