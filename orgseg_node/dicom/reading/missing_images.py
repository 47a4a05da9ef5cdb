"""Whether images are missing in a volume, by the counts in its headers and by the files that were set aside.

A localizer, a page or an image of another modality is no slice. But if such images lie in the gaps of a
volume, their headers may be wrong, and the volume may be half of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.geometry import FloatArray
from orgseg_node.dicom.reading.files import integer
from orgseg_node.dicom.reading.slices import CtSlice, SetAside
from orgseg_node.dicom.reading.stacking import MISSING_SLICES, PARALLEL, SAME_POSITION_MM, slice_axes
from orgseg_node.errors import InvalidAttribute

FEWER_THAN_COUNTED: Final = "SERIES_FEWER_THAN_COUNTED"

_COUNTS: Final = ("ImagesInAcquisition", "NumberOfSeriesRelatedInstances")
"""(0020,1002) and (0020,1209)."""

_LEAST_OF_LOCALIZER: Final = 0.5
"""A scan usually covers most of what its localizer shows."""

_WIDE_GAP: Final = 1.5
"""An image at most this many slice distances beyond the end goes on with the volume."""


def count_findings(header: Dataset, images: int) -> tuple[Finding, ...]:
    """A finding if a header counts more images than the series has.

    Many scanners write a wrong number, or that of several series, so this alone never refuses a series.

    Parameters
    ----------
    header : of an image of the series
    images : number of images of the series that are here, all volumes together
    """
    counted = max((_count(header, keyword) for keyword in _COUNTS), default=0)
    if counted <= images:
        return ()
    message = f"The headers count {counted} images, {images} are here: the series may be incomplete."
    return (Finding(level=Level.WARNING, code=FEWER_THAN_COUNTED, message=message, value=float(counted)),)


def aside_findings(slices: Sequence[CtSlice], aside: Sequence[SetAside]) -> tuple[Finding, ...]:
    """Findings on files of a series that were set aside.

    Parameters
    ----------
    slices : of the volume, in the order of their positions
    aside : the files of the same series that are no slices

    Returns
    -------
    that of a series with missing slices, if at least half as many images as the volume has were left out
    """
    findings = []
    count = _images_left_out(slices, aside)
    if count:
        reasons = ", ".join(sorted({one.reason.value for one in aside if one.place is not None}))
        text = f"Images of the series between or beside its slices were left out ({reasons}): {count}."
        is_part = 2 * count >= len(slices) - 1
        findings.append(_warning(MISSING_SLICES if is_part else "SERIES_IMAGES_LEFT_ASIDE", text, count))
    pages = sum(one.is_page for one in aside)
    if pages:
        text = f"Images without any position, such as pages of a dose report, were left out: {pages}."
        findings.append(_warning("SERIES_PAGES_LEFT_ASIDE", text, pages))
    return (*findings, *_localizer_findings(slices, aside))


def _localizer_findings(slices: Sequence[CtSlice], aside: Sequence[SetAside]) -> tuple[Finding, ...]:
    """A finding if the localizers of the series show much more of the patient than its slices."""
    normal = slice_axes(slices[0].orientation)[0]
    shown = np.array([corner for one in aside for corner in one.corners_mm]).reshape(-1, 3) @ normal
    heights = np.array([one.position_mm for one in slices]) @ normal
    length_mm, covered_mm = float(np.ptp(shown)) if shown.size else 0.0, float(np.ptp(heights))
    if covered_mm >= _LEAST_OF_LOCALIZER * length_mm:
        return ()
    text = (
        f"The localizer shows {length_mm:.0f} mm along the patient, the slices cover {covered_mm:.0f} mm: "
        "if more was scanned, images are missing at an end."
    )
    return (_warning("SERIES_SHORTER_THAN_LOCALIZER", text, covered_mm),)


def _warning(code: str, message: str, value: float) -> Finding:
    return Finding(level=Level.WARNING, code=code, message=message, value=float(value))


def _images_left_out(slices: Sequence[CtSlice], aside: Sequence[SetAside]) -> int:
    """Number of images set aside that would fill gaps of the volume or go on at its ends."""
    normal = slice_axes(slices[0].orientation)[0]
    heights = np.sort(np.array([one.position_mm for one in slices]) @ normal)
    others = np.sort(
        np.array(
            [
                np.dot(position_mm, normal)
                for orientation, position_mm in (one.place for one in aside if one.place is not None)
                if abs(np.dot(slice_axes(orientation)[0], normal)) >= PARALLEL
            ]
        )
    )
    apart = np.abs(others[:, None] - heights).min(axis=1) > SAME_POSITION_MM
    gaps = np.searchsorted(heights, others[apart])
    between = set(gaps) - {0, len(heights)}
    reach_mm = _WIDE_GAP * float(np.median(np.diff(heights)))
    below, above = (heights[0] - others)[::-1], others - heights[-1]
    return len(between) + _that_go_on(below, reach_mm) + _that_go_on(above, reach_mm)


def _that_go_on(distances_mm: FloatArray, reach_mm: float) -> int:
    """Number of images beyond an end that go on with the volume.

    Parameters
    ----------
    distances_mm : ascending, of images from the end of the volume; those within it are negative
    reach_mm : the largest distance of neighbours
    """
    beyond = distances_mm[distances_mm > SAME_POSITION_MM]
    wide = np.flatnonzero(np.diff(beyond, prepend=0.0) > reach_mm)
    return int(wide[0]) if wide.size else len(beyond)


def _count(header: Dataset, keyword: str) -> int:
    try:
        return integer(header, keyword) or 0
    except InvalidAttribute:
        return 0
