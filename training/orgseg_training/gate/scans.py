"""The results of both models on one scan, organ by organ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orgseg_node.core.metrics import Comparison, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganResult:
    """What one model found of one organ in one scan, against the reference contours.

    Attributes
    ----------
    comparison : status and metrics
    implausible : whether the node would leave it out, because no organ looks like this
    """

    comparison: Comparison
    implausible: bool = False

    @property
    def is_missed(self) -> bool:
        """Whether the organ is in the reference, and nothing of it is delivered."""
        return self.comparison.status is Status.PRED_EMPTY

    @property
    def is_found(self) -> bool:
        """Whether both have the organ."""
        return self.comparison.status in {Status.OK, Status.CROPPED_BY_FOV}


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedScan:
    """One scan, contoured by both models.

    Attributes
    ----------
    case : key of the scan
    patient : keyed hash of the patient
    out_of_fold : whether a model was trained on other scans of the site only, and this one was held out of
    the
        network that was used; False for a locked scan
    live, candidate : result of each organ that was drawn, by key; an organ that the model does not have is
        missing
    refused : why a model did not contour the scan at all, by ``live`` and ``candidate``
    groups : what kind of scan it is: ``slices``, ``size``, ``sex``, ``scanner``, ``age``
    """

    case: str
    patient: str
    out_of_fold: bool
    live: Mapping[str, OrganResult]
    candidate: Mapping[str, OrganResult]
    refused: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)


def result_to_json(result: OrganResult) -> dict[str, Any]:
    """A result as plain values; NaN is None."""
    comparison = result.comparison
    names = [name for name in Comparison.__slots__ if name != "status"]
    numbers = {name: getattr(comparison, name) for name in names}
    plain = {name: None if value != value else value for name, value in numbers.items()}  # noqa: PLR0124 (NaN)
    return {"status": comparison.status.value, "implausible": result.implausible, **plain}


def result_from_json(row: Mapping[str, Any]) -> OrganResult:
    """The result in plain values."""
    numbers = {
        name: float("nan") if value is None else float(value)
        for name, value in row.items()
        if name not in {"status", "implausible"}
    }
    comparison = Comparison(status=Status(row["status"]), **numbers)
    return OrganResult(comparison=comparison, implausible=bool(row["implausible"]))
