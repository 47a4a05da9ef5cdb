"""The content of the report: each organ with means, intervals and what observers reach."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from orgseg_node.commissioning.results import OrganResult, ScanResult
from orgseg_node.core.bootstrap import MIN_PATIENTS, bootstrap_mean
from orgseg_node.core.metrics import Comparison, Status
from orgseg_node.core.organs import Organ, OrganTable

FORMAT: Final = "orgseg-commissioning/1"

MEASURES: Final[Mapping[str, tuple[str, str, int, bool]]] = {
    "dsc": ("Dice", "", 3, True),
    "sdsc": ("surface Dice at the tolerance", "", 3, True),
    "sdsc_2mm": ("surface Dice 2 mm", "", 3, True),
    "hd95_mm": ("HD95", "mm", 1, False),
    "msd_mm": ("mean surface distance", "mm", 2, False),
    "apl_mm": ("added path length", "mm", 0, False),
    "vd_percent": ("volume difference", "%", 1, False),
    "reference_ml": ("clinical volume", "ml", 1, True),
}
"""Title, unit, digits, and whether low values are the bad ones, of each measure."""

_ROUGH: Final = 20
_SEED: Final = 20250101  # of the bootstrap: the same results give the same report


def organ_rows(
    results: Mapping[str, ScanResult], patients: Mapping[str, str], organs: OrganTable
) -> list[dict[str, Any]]:
    """A row for each organ that was drawn in a scan, in order of their keys.

    Parameters
    ----------
    results : of each scan, by its name
    patients : the patient of each scan, by its name
    organs : the organ table
    """
    keys = sorted({key for result in results.values() for key in result.organs})
    return [
        _organ_row(
            organs[key],
            [(name, result.organs[key]) for name, result in sorted(results.items()) if key in result.organs],
            patients,
        )
        for key in keys
    ]


def _organ_row(
    organ: Organ, found: Sequence[tuple[str, OrganResult]], patients: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "organ": organ.key,
        "name": organ.name,
        "scans": len(found),
        "patients": len({patients[name] for name, _ in found}),
        "missed": [
            name for name, one in found if one.comparison.status is Status.PRED_EMPTY and not one.left_out
        ],
        "left_out": [name for name, one in found if one.left_out],
        "cut_by_scan": [name for name, one in found if one.comparison.status is Status.CROPPED_BY_FOV],
        "tolerance_mm": organ.tolerance_mm,
        "observers": asdict(organ.observers) if organ.observers else None,
        "measures": {measure: _measure_row(measure, found, patients) for measure in MEASURES},
    }


def _measure_row(
    measure: str, found: Sequence[tuple[str, OrganResult]], patients: Mapping[str, str]
) -> dict[str, Any]:
    """Mean with interval, median and the worst scan of a measure; None where it is not defined.

    A missed organ counts with 0 in overlaps, and with its whole contour in the added path length; it has no
    distance, so distances are of the scans in which both have the organ.
    """
    value_of = _values[measure] if measure in _values else lambda one: float(getattr(one, measure))
    values = [(name, value_of(one.comparison)) for name, one in found]
    values = [(name, value) for name, value in values if math.isfinite(value)]
    if not values:
        return dict.fromkeys(("mean", "low", "high", "median", "worst", "worst_scan")) | {"patients": 0}
    numbers = [value for _, value in values]
    interval = bootstrap_mean(numbers, [patients[name] for name, _ in values], seed=_SEED)
    low_is_bad = MEASURES[measure][3]
    worst_scan, worst = min(values, key=lambda one: one[1] if low_is_bad else -abs(one[1]))
    return {
        "patients": len({patients[name] for name, _ in values}),
        "mean": interval.mean,
        "low": _plain(interval.low),
        "high": _plain(interval.high),
        "median": float(np.median(numbers)),
        "worst": worst,
        "worst_scan": worst_scan,
    }


def _volume_percent(one: Comparison) -> float:
    return 100.0 * one.vd_ml / one.reference_ml if one.reference_ml > 0 else math.nan


_values: Final[Mapping[str, Callable[[Comparison], float]]] = {"vd_percent": _volume_percent}


def facts(content: Mapping[str, Any]) -> list[str]:
    """What was measured with what, as sentences.

    Parameters
    ----------
    content : of the report
    """
    scans = content["scans"]
    models = ", ".join(f"{one['name']} {one['version']} ({one['sha256'][:12]})" for one in content["models"])
    lines = [
        f"{scans['measured']} scans of {scans['patients']} patients were contoured and compared.",
        f"Models: {models or 'none'}. Protocol: {content['protocol']}. Method: {content['method']}.",
        f"Made {content['created']} by orgseg_node {content['program']}.",
        "The clinical contours are the reference.",
        f"Intervals are 95 % of the bootstrap by patient; below {MIN_PATIENTS} patients there is none.",
        f"With fewer than {_ROUGH} patients they are rough, and rather too narrow.",
        "Volume difference: what the node draws minus the clinical volume, in % of the clinical volume.",
        "Slices beyond an end at which people stop drawing an organ are not compared.",
        "Organs that reach the edge of the scan count as cut by the scan, and are compared like others.",
        "Observers: what persons reach among each other, from the organ table; its source is named below.",
        "Whether the models were trained on these patients is not known here: a person must make sure.",
    ]
    if scans["unapproved"]:
        lines.append(f"Scans whose clinical contours no person approved: {scans['unapproved']}.")
    return lines


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
