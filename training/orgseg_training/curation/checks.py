"""Checks that point a person to scans worth a look before training; each is a function in `CHECKS`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from orgseg_node.core.checks import SEVERAL_PARTS, Finding, Level
from orgseg_training.curation.measurements import ScanMeasurements

OUTLIER_Z: Final = 3.5
"""A robust z beyond this is an outlier (Iglewicz and Hoaglin 1993, How to Detect and Handle Outliers)."""
MIN_SCANS: Final = 8
"""With fewer scans nothing is called typical."""
_TO_SIGMA: Final = 0.6745  # MAD of a normal distribution with the standard deviation 1
# lower limits: a few scans that agree by chance do not make the next one an outlier
_MIN_SPREAD_LOG: Final = 0.02
_MIN_SPREAD_HU: Final = 2.0
_SLICES_MM: Final = (0.4, 6.0)
_PIXELS_MM: Final = (0.3, 5.0)
_OBLONG: Final = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class TypicalRange:
    """Typical values of a quantity among all scans.

    Attributes
    ----------
    median : of the values
    spread : their median absolute deviation, at least a lower limit
    """

    median: float
    spread: float

    @classmethod
    def of(cls, values: Iterable[float], min_spread: float) -> TypicalRange | None:
        """Median and spread of values; None with fewer than `MIN_SCANS` values."""
        known = np.fromiter(values, float)
        if known.size < MIN_SCANS:
            return None
        median = float(np.median(known))
        spread = max(float(np.median(np.abs(known - median))), min_spread)
        return cls(median=median, spread=spread)

    def z(self, value: float) -> float:
        """The robust z of a value."""
        return _TO_SIGMA * (value - self.median) / self.spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Typical volumes and HU of organs, for organs that enough scans have.

    Attributes
    ----------
    log_volumes : natural logarithm of ml, of organs that are complete in the scan
    mean_hu : of all organs
    """

    log_volumes: Mapping[str, TypicalRange]
    mean_hu: Mapping[str, TypicalRange]

    @classmethod
    def of(cls, scans: Iterable[ScanMeasurements]) -> Cohort:
        """Typical values among these scans."""
        volumes: defaultdict[str, list[float]] = defaultdict(list)
        hu: defaultdict[str, list[float]] = defaultdict(list)
        for scan in scans:
            for organ, measured in scan.organs.items():
                hu[organ].append(measured.mean_hu)
                if measured.complete:
                    volumes[organ].append(math.log(measured.volume_ml))
        return cls(
            log_volumes=_typical_ranges(volumes, _MIN_SPREAD_LOG), mean_hu=_typical_ranges(hu, _MIN_SPREAD_HU)
        )


Check = Callable[[ScanMeasurements, Cohort], Iterator[Finding]]


def check_scan(scan: ScanMeasurements, cohort: Cohort) -> tuple[Finding, ...]:
    """All findings of a scan, the most severe first."""
    found = [finding for check in CHECKS for finding in check(scan, cohort)]
    return tuple(sorted(found, key=lambda finding: -list(Level).index(finding.level)))


def anatomy(scan: ScanMeasurements, _: Cohort) -> Iterator[Finding]:
    """Organs at an impossible position or of an impossible size."""
    yield from scan.anatomy


def unusual_volume(scan: ScanMeasurements, cohort: Cohort) -> Iterator[Finding]:
    """Organs much smaller or larger than in the other scans.

    The logarithm is compared: half the usual volume counts as much as twice the usual volume, and a nearly
    empty organ is an outlier however much volumes differ.
    """
    for organ, measured in scan.organs.items():
        typical = cohort.log_volumes.get(organ)
        z = typical.z(math.log(measured.volume_ml)) if typical and measured.complete else 0.0
        if typical and abs(z) > OUTLIER_Z:
            message = (
                f"{organ} has {measured.volume_ml:.3g} ml, the median scan {math.exp(typical.median):.3g}."
            )
            yield _warning("VOLUME_OUTLIER", message, organ, z)


def pieces(scan: ScanMeasurements, _: Cohort) -> Iterator[Finding]:
    """Organs in more pieces than their anatomy allows."""
    yield from _node_findings(scan, {"ORGAN_IN_PIECES"})


def cut_off(scan: ScanMeasurements, _: Cohort) -> Iterator[Finding]:
    """Organs that touch the border of the scan; at the first and last slice this is no error."""
    yield from (replace(finding, level=Level.INFO) for finding in _node_findings(scan, {"ORGAN_AT_SCAN_END"}))
    yield from _node_findings(scan, {"ORGAN_AT_PICTURE_BORDER"})


def unusual_hu(scan: ScanMeasurements, cohort: Cohort) -> Iterator[Finding]:
    """Organs much darker or brighter than in the other scans: drawn elsewhere, or a wrong rescale."""
    for organ, measured in scan.organs.items():
        typical = cohort.mean_hu.get(organ)
        if typical and abs(typical.z(measured.mean_hu)) > OUTLIER_Z:
            yield _warning(
                "HU_OUTLIER",
                f"{organ} has {measured.mean_hu:.0f} HU on average, the median scan {typical.median:.0f}.",
                organ,
                typical.z(measured.mean_hu),
            )


def spacing(scan: ScanMeasurements, _: Cohort) -> Iterator[Finding]:
    """Slice distances or pixel sizes that no planning CT has, and slices that are missing or repeated."""
    between, row, column = scan.spacing_mm
    pixel = f"{row:.3g} x {column:.3g} mm"
    if not _SLICES_MM[0] <= between <= _SLICES_MM[1]:
        yield _warning("SCAN_SPACING", f"The slice distance is {between:.3g} mm.", None, between)
    if not all(_PIXELS_MM[0] <= side <= _PIXELS_MM[1] for side in (row, column)):
        yield _warning("SCAN_SPACING", f"The pixel size is {pixel}.", None, max(row, column))
    elif max(row, column) > _OBLONG * min(row, column):
        yield _warning("SCAN_SPACING", f"The pixels are oblong: {pixel}.", None, row / column)
    if scan.repeated:
        message = f"{scan.repeated} slices are copies of the previous slice: missing slices were filled in."
        yield _warning("SCAN_SLICES_REPEATED", message, None, scan.repeated)
    if scan.empty:
        message = f"{scan.empty} slices between slices of the patient hold only air."
        yield _warning("SCAN_SLICES_EMPTY", message, None, scan.empty)


def skipped_slices(scan: ScanMeasurements, _: Cohort) -> Iterator[Finding]:
    """Organs with slices without contour between slices with contours; pairs may have one gap."""
    for organ, measured in scan.organs.items():
        if measured.runs > (2 if organ in SEVERAL_PARTS else 1):
            message = f"{organ} is not drawn on {measured.gap_slices} slices between its first and its last."
            yield _warning("SLICES_SKIPPED", message, organ, measured.gap_slices)


CHECKS: Final[tuple[Check, ...]] = (
    anatomy,
    unusual_volume,
    pieces,
    cut_off,
    unusual_hu,
    spacing,
    skipped_slices,
)
"""All checks, in the order in which their findings are listed."""


def _typical_ranges(values: Mapping[str, Iterable[float]], min_spread: float) -> dict[str, TypicalRange]:
    ranges = {organ: TypicalRange.of(known, min_spread) for organ, known in values.items()}
    return {organ: typical for organ, typical in ranges.items() if typical}


def _node_findings(scan: ScanMeasurements, codes: set[str]) -> Iterator[Finding]:
    for measured in scan.organs.values():
        yield from (finding for finding in measured.findings if finding.code in codes)


def _warning(code: str, message: str, organ: str | None, value: float) -> Finding:
    return Finding(level=Level.WARNING, code=code, message=message, organ=organ, value=round(float(value), 3))
