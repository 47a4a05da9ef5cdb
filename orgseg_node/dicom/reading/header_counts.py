"""What the headers of a series say about the number of its images."""

from __future__ import annotations

from typing import Final

from pydicom.dataset import Dataset

from orgseg_node.core.checks import Finding, Level
from orgseg_node.dicom.reading.files import integer
from orgseg_node.errors import InvalidAttribute

FEWER_THAN_COUNTED: Final = "SERIES_FEWER_THAN_COUNTED"

_COUNTS: Final = ("ImagesInAcquisition", "NumberOfSeriesRelatedInstances")
"""(0020,1002) and (0020,1209)."""


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


def _count(header: Dataset, keyword: str) -> int:
    try:
        return integer(header, keyword) or 0
    except InvalidAttribute:
        return 0
