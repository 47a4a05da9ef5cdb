"""Whether the numbers of a scan are those of a CT of a patient: phantoms, other HU scales, metal.

Without reference scans only what no CT of a patient shows is reported; with them, what none of them shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy import ndimage

from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.scan.grid import ScanGrid

SCAN_KIND_DOUBTFUL: Final = "SCAN_KIND_DOUBTFUL"
METAL: Final = "SCAN_MUCH_METAL"
LEAST_ML: Final = 1500.0  # with less of a patient the measures mean nothing
_BINS_HU: Final = np.arange(-400.0, 405.0, 10.0)
_PEAK: Final = 0.35  # a peak of the histogram is at least this high, compared with the highest
_NEAR_HU: Final = 20.0
_METAL_HU: Final = 2000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanNumbers:
    """The numbers of a scan.

    Attributes
    ----------
    soft_hu : HU of the densest soft tissue that is frequent: muscle and organs, about 50
    high_hu : HU that 2 % of the patient exceed: bone
    uniform : fraction of the patient within 20 HU of `soft_hu`; a water phantom has nearly 1
    metal_ml : volume of blocks above 2000 HU
    """

    soft_hu: float
    high_hu: float
    uniform: float
    metal_ml: float


NAMES: Final[Mapping[str, str]] = {
    "soft_hu": "the HU of soft tissue",
    "high_hu": "the HU of bone",
    "uniform": "the fraction of a single density",
    "metal_ml": "the volume of metal in ml",
}
_OTHER_KIND: Final = (
    "This may not be a planning CT of a patient: {measured} It may be a phantom, a cone-beam CT, or not"
    " calibrated in HU."
)
_MESSAGES: Final[Mapping[str, str]] = {
    "metal_ml": "There is much metal in the scan: {measured} Its streaks may have misled the network."
}
_MARGINS: Final[Mapping[str, float]] = {"soft_hu": 20.0, "high_hu": 150.0, "uniform": 0.05, "metal_ml": 5.0}
"""How far a scan may at least be outside the range of the reference scans before it is reported."""
_SCALE: Final = frozenset({"soft_hu", "uniform"})
"""What is the same in all regions of the body, so that a gross deviation holds the scan."""
_EVERY_PATIENT: Final[Mapping[str, tuple[float, float]]] = {
    "soft_hu": (-30.0, 200.0),
    "high_hu": (80.0, 2000.0),
    "uniform": (0.0, 0.9),
    "metal_ml": (0.0, 60.0),
}
"""Ranges that no CT of a patient leaves: soft tissue has 20 to 80 HU (Schneider et al., Phys. Med. Biol. 45,
2000), with contrast agent up to some 150; everywhere there is some bone or contrast agent and more than one
tissue; the metal is at most that of two artificial hips."""


def scan_numbers(scan: ScanGrid) -> ScanNumbers | None:
    """Measure a scan; None if there is too little of a patient in it."""
    values = scan.hu[scan.inside]
    block_ml = float(np.prod(scan.spacing_mm)) / 1000.0
    if values.size * block_ml < LEAST_ML:
        return None
    soft = _densest_peak(np.histogram(values, _BINS_HU)[0].astype(float))
    return ScanNumbers(
        soft_hu=soft,
        high_hu=float(np.percentile(values, 98)),
        uniform=float((np.abs(values - soft) <= _NEAR_HU).mean()),
        metal_ml=float((values > _METAL_HU).sum()) * block_ml,
    )


def _densest_peak(counts: Any) -> float:
    smooth = ndimage.gaussian_filter1d(counts, 1.0)
    middles = (_BINS_HU[:-1] + _BINS_HU[1:]) / 2
    higher = (smooth >= np.roll(smooth, 1)) & (smooth >= np.roll(smooth, -1))
    peaks = np.flatnonzero(higher & (smooth >= _PEAK * smooth.max()))
    return float(middles[peaks[-1]])


def learn_ranges(scans: Sequence[ScanGrid]) -> dict[str, tuple[float, float]]:
    """The ranges of the numbers of reference scans, from the 1st to the 99th percentile."""
    numbers = [each for each in map(scan_numbers, scans) if each is not None]
    found = {}
    for name in NAMES:
        values = [getattr(each, name) for each in numbers]
        low, high = np.percentile(values, (1, 99)) if values else _EVERY_PATIENT[name]
        found[name] = (round(float(low), 3), round(float(high), 3))
    return found


def kind_findings(
    numbers: ScanNumbers, ranges: Mapping[str, tuple[float, float]] | None = None
) -> tuple[Finding, ...]:
    """What is unusual about the numbers of a scan.

    Parameters
    ----------
    numbers : of the scan
    ranges : of the reference scans; None to report only what no CT of a patient shows

    Returns
    -------
    Warnings; an error where soft tissue is so far outside the range of the reference scans that the
    scale of the HU must be another one, or where the scan is of a single density.
    """
    found = []
    for name, sentence in NAMES.items():
        value = getattr(numbers, name)
        low, high = (ranges or _EVERY_PATIENT)[name]
        margin = max(_MARGINS[name], (high - low) / 2) if ranges else 0.0
        if low - margin <= value <= high + margin:
            continue
        beyond = max(low - value, value - high)
        gross = ranges is not None and name in _SCALE and beyond > 3 * margin
        whose = "in the scans that the bundle was trained on" if ranges else "in any patient"
        measured = f"{sentence} is {value:.4g}, and {whose} it is {low:.4g} to {high:.4g}."
        found.append(
            Finding(
                level=Level.ERROR if gross else Level.WARNING,
                code=METAL if name == "metal_ml" else SCAN_KIND_DOUBTFUL,
                message=_MESSAGES.get(name, _OTHER_KIND).format(measured=measured),
                value=round(value, 2),
            )
        )
    return tuple(found)
