"""What a person should look at before a scan is trained on: each check is a function in `CHECKS`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from orgseg_node.core.checks import SEVERAL_PARTS, Finding, Level
from orgseg_training.curation.measurements import ScanFacts

OUTLIER_Z: Final = 3.5
"""A robust z beyond this is an outlier (Iglewicz and Hoaglin 1993, How to Detect and Handle Outliers)."""
LEAST_SCANS: Final = 8
"""Fewer scans than this say nothing about what is usual."""
_TO_SIGMA: Final = 0.6745  # MAD of a normal distribution with the standard deviation 1
# Scans alike by chance do not make the next one unusual.
_LEAST_SPREAD_LOG: Final = 0.02
_LEAST_SPREAD_HU: Final = 2.0
_SLICES_MM: Final = (0.4, 6.0)
_PIXELS_MM: Final = (0.3, 5.0)
_OBLONG: Final = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    """What is usual among all scans.

    Attributes
    ----------
    median : of the values
    spread : their median absolute deviation
    """

    median: float
    spread: float

    @classmethod
    def of(cls, values: Iterable[float], least_spread: float) -> Usual | None:
        """Median and spread of values; None if they are too few."""
        known = np.fromiter(values, float)
        if known.size < LEAST_SCANS:
            return None
        median = float(np.median(known))
        spread = max(float(np.median(np.abs(known - median))), least_spread)
        return cls(median=median, spread=spread)

    def z(self, value: float) -> float:
        """The robust z of a value."""
        return _TO_SIGMA * (value - self.median) / self.spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """What the organs of all scans are like, where enough scans have them.

    Attributes
    ----------
    log_volumes : natural logarithm of ml, of organs that lie wholly inside the scan
    mean_hu : of all
    """

    log_volumes: Mapping[str, Usual]
    mean_hu: Mapping[str, Usual]

    @classmethod
    def of(cls, scans: Iterable[ScanFacts]) -> Cohort:
        """What is usual among these scans."""
        volumes: defaultdict[str, list[float]] = defaultdict(list)
        hu: defaultdict[str, list[float]] = defaultdict(list)
        for scan in scans:
            for organ, facts in scan.organs.items():
                hu[organ].append(facts.mean_hu)
                if facts.whole:
                    volumes[organ].append(math.log(facts.volume_ml))
        return cls(log_volumes=_usual(volumes, _LEAST_SPREAD_LOG), mean_hu=_usual(hu, _LEAST_SPREAD_HU))


Check = Callable[[ScanFacts, Cohort], Iterator[Finding]]


def findings_of(scan: ScanFacts, cohort: Cohort) -> tuple[Finding, ...]:
    """All findings of a scan, the gravest first."""
    found = [finding for check in CHECKS for finding in check(scan, cohort)]
    return tuple(sorted(found, key=lambda finding: -list(Level).index(finding.level)))


def anatomy(scan: ScanFacts, _: Cohort) -> Iterator[Finding]:
    """Organs where no body has them, or of a size that none has."""
    yield from scan.anatomy


def unusual_volume(scan: ScanFacts, cohort: Cohort) -> Iterator[Finding]:
    """Organs much smaller or larger than in the other scans.

    By the logarithm: half an organ is as far away as one of twice the size, and one that is nearly empty is
    an outlier however much sizes differ.
    """
    for organ, facts in scan.organs.items():
        usual = cohort.log_volumes.get(organ)
        z = usual.z(math.log(facts.volume_ml)) if usual and facts.whole else 0.0
        if usual and abs(z) > OUTLIER_Z:
            yield _warning(
                "VOLUME_OUTLIER",
                f"{organ} has {facts.volume_ml:.3g} ml, the median scan {math.exp(usual.median):.3g}.",
                organ,
                z,
            )


def pieces(scan: ScanFacts, _: Cohort) -> Iterator[Finding]:
    """Organs in more pieces than they have by nature."""
    yield from _said_by_node(scan, {"ORGAN_IN_PIECES"})


def cut_off(scan: ScanFacts, _: Cohort) -> Iterator[Finding]:
    """Organs that touch the border of the scan. At its ends that is no fault of the contour."""
    yield from (replace(finding, level=Level.INFO) for finding in _said_by_node(scan, {"ORGAN_AT_SCAN_END"}))
    yield from _said_by_node(scan, {"ORGAN_AT_PICTURE_BORDER"})


def unusual_hu(scan: ScanFacts, cohort: Cohort) -> Iterator[Finding]:
    """Organs much darker or brighter than in the other scans: drawn elsewhere, or another rescale."""
    for organ, facts in scan.organs.items():
        usual = cohort.mean_hu.get(organ)
        if usual and abs(usual.z(facts.mean_hu)) > OUTLIER_Z:
            yield _warning(
                "HU_OUTLIER",
                f"{organ} has {facts.mean_hu:.0f} HU on average, the median scan {usual.median:.0f}.",
                organ,
                usual.z(facts.mean_hu),
            )


def spacing(scan: ScanFacts, _: Cohort) -> Iterator[Finding]:
    """Slices or pixels that no planning CT has, and slices that are missing or there twice."""
    between, row, column = scan.spacing_mm
    pixel = f"{row:.3g} x {column:.3g} mm"
    if not _SLICES_MM[0] <= between <= _SLICES_MM[1]:
        yield _warning("SCAN_SPACING", f"The slices lie {between:.3g} mm apart.", None, between)
    if not all(_PIXELS_MM[0] <= side <= _PIXELS_MM[1] for side in (row, column)):
        yield _warning("SCAN_SPACING", f"The pixels have {pixel}.", None, max(row, column))
    elif max(row, column) > _OBLONG * min(row, column):
        yield _warning("SCAN_SPACING", f"The pixels are oblong: {pixel}.", None, row / column)
    if scan.repeated:
        said = f"{scan.repeated} slices are copies of the one before: something was filled in."
        yield _warning("SCAN_SLICES_REPEATED", said, None, scan.repeated)
    if scan.empty:
        said = f"{scan.empty} slices of nothing but air lie between slices of the patient."
        yield _warning("SCAN_SLICES_EMPTY", said, None, scan.empty)


def skipped_slices(scan: ScanFacts, _: Cohort) -> Iterator[Finding]:
    """Organs that are not drawn on slices between those on which they are; pairs may have one gap."""
    for organ, facts in scan.organs.items():
        if facts.stretches > (2 if organ in SEVERAL_PARTS else 1):
            said = f"{organ} is not drawn on {facts.skipped} slices between its first and its last."
            yield _warning("SLICES_SKIPPED", said, organ, facts.skipped)


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


def _usual(values: Mapping[str, Iterable[float]], least_spread: float) -> dict[str, Usual]:
    made = {organ: Usual.of(known, least_spread) for organ, known in values.items()}
    return {organ: usual for organ, usual in made.items() if usual}


def _said_by_node(scan: ScanFacts, codes: set[str]) -> Iterator[Finding]:
    for facts in scan.organs.values():
        yield from (finding for finding in facts.findings if finding.code in codes)


def _warning(code: str, message: str, organ: str | None, value: float) -> Finding:
    return Finding(level=Level.WARNING, code=code, message=message, organ=organ, value=round(float(value), 3))
