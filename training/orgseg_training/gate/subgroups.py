"""The differences in kinds of scans: slices, size, sex, scanner, age. They are shown and decide nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.evaluation.non_inferiority import Bounds, Shown
from orgseg_training.gate.judgement import Margins, difference
from orgseg_training.gate.scans import PairedScan

UNKNOWN = "not known"
_CHILD_YEARS = 18.0
_THIN_MM, _THICK_MM = 2.0, 3.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SubgroupRow:
    """One organ in one kind of scans.

    Attributes
    ----------
    kind, value : such as ``slices`` and ``2 to 3.5 mm``
    organ : its key
    dice : the difference, candidate minus live
    shown : what it shows; "too few" with fewer than 6 patients
    """

    kind: str
    value: str
    organ: str
    dice: Bounds
    shown: Shown


def groups_of_scan(case: StoredCase, *, slice_mm: float, size: str) -> dict[str, str]:
    """What kind of scan it is.

    Parameters
    ----------
    case : the scan
    slice_mm : distance of its slices
    size : class of the patient's size, see `size_classes`
    """
    age = UNKNOWN if case.age_years is None else "child" if case.age_years < _CHILD_YEARS else "adult"
    return {
        "slices": _slices(slice_mm),
        "size": size,
        "age": age,
        "sex": case.sex or UNKNOWN,
        "scanner": case.scanner or UNKNOWN,
    }


def size_classes(sizes_cm: Mapping[str, float]) -> dict[str, str]:
    """Thirds of the patients by their effective diameter: a name with the limits for each scan.

    Parameters
    ----------
    sizes_cm : effective diameter by key of the scan; NaN where it is not known
    """
    known = [value for value in sizes_cm.values() if not math.isnan(value)]
    if not known:
        return dict.fromkeys(sizes_cm, UNKNOWN)
    low, high = (float(limit) for limit in np.quantile(known, [1 / 3, 2 / 3]))

    def name(value: float) -> str:
        if math.isnan(value):
            return UNKNOWN
        if value <= low:
            return f"up to {low:.0f} cm"
        return f"above {high:.0f} cm" if value > high else f"{low:.0f} to {high:.0f} cm"

    return {key: name(value) for key, value in sizes_cm.items()}


def subgroups(
    scans: Sequence[PairedScan], organs: Sequence[str], margins: Mapping[str, Margins], seed: int
) -> Iterator[SubgroupRow]:
    """The differences in each kind of scans of which there are two or more.

    Parameters
    ----------
    scans : contoured by both models
    organs : of the live model
    margins : of organs with margins of their own
    seed : of the bootstrap
    """
    for kind in sorted({kind for scan in scans for kind in scan.groups}):
        values = sorted({scan.groups.get(kind, UNKNOWN) for scan in scans})
        if len(values) < 2:
            continue
        for value in values:
            chosen = [scan for scan in scans if scan.groups.get(kind, UNKNOWN) == value]
            for organ in organs:
                found = difference(organ, chosen, "dsc", seed)
                if found.patients:
                    shown = found.shows(margins.get(organ, Margins()).dice)
                    yield SubgroupRow(kind=kind, value=value, organ=organ, dice=found, shown=shown)


def _slices(slice_mm: float) -> str:
    if math.isnan(slice_mm):
        return UNKNOWN
    if slice_mm <= _THIN_MM:
        return f"up to {_THIN_MM:g} mm"
    return f"above {_THICK_MM:g} mm" if slice_mm > _THICK_MM else f"{_THIN_MM:g} to {_THICK_MM:g} mm"
