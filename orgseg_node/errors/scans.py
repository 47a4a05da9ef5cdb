"""Scans that are held before the network runs, because its result could not be trusted."""

from __future__ import annotations

from orgseg_node.errors.base import OrgsegError


class ScanDoubtful(OrgsegError):
    """The scan is not one that the model can contour."""

    code = "SCAN_DOUBTFUL"
    next_step = (
        "View the series. If header and region are right, 'orgseg jobs approve' contours it anyway"
        " (without a node: 'orgseg segment --untrained-region'). Otherwise 'orgseg jobs reject' closes it."
        " After a routing rule was corrected and reloaded, 'orgseg series judge' applies it;"
        " a corrected header needs a new series."
    )


class RegionNotTrained(ScanDoubtful):
    """The scan does not show the region of the body that the model was trained on."""

    code = "REGION_NOT_TRAINED"


class PatientPositionDoubtful(ScanDoubtful):
    """The patient position in the header contradicts the anatomy."""

    code = "PATIENT_POSITION_DOUBTFUL"


class SidesDoubtful(ScanDoubtful):
    """Left and right of the scan seem to be exchanged."""

    code = "SIDES_DOUBTFUL"


class ScanKindDoubtful(ScanDoubtful):
    """The scan does not seem to be a planning CT of a patient."""

    code = "SCAN_KIND_DOUBTFUL"


_KINDS = {
    kind.code: kind for kind in (RegionNotTrained, PatientPositionDoubtful, SidesDoubtful, ScanKindDoubtful)
}
SCAN_CODES = frozenset(_KINDS)
"""Codes of the errors for which a job is held until a person decides."""


def scan_error(code: str, detail: str) -> ScanDoubtful:
    """The error of a code.

    Raises
    ------
    KeyError
        If no error of a scan has this code.
    """
    return _KINDS[code](detail)
