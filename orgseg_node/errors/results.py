"""Results that cannot be sent: no patient, no organ, or an object that differs from the computed result."""

from __future__ import annotations

from orgseg_node.errors.base import OrgsegError


class BodyNotFound(OrgsegError):
    """No patient was found in the images."""

    code = "BODY_NOT_FOUND"
    next_step = "View the series: it may show only air or a phantom outside the scan, or not be in HU."


class OutputError(OrgsegError):
    """The result cannot be sent."""

    code = "OUTPUT"
    next_step = (
        "Nothing was sent; keep the job folder and report the error to the person who maintains the node."
    )


class ProofFailed(OutputError):
    """The written object, read again, differs from the computed label map."""

    code = "OUTPUT_PROOF_FAILED"


class NothingFound(OutputError):
    """No organ was found in the images."""

    code = "OUTPUT_EMPTY"
    next_step = "Check that the series shows the region on which the model was trained."


class NothingPlausible(OutputError):
    """Organs were found, but none is plausible, so that none was kept."""

    code = "OUTPUT_NOTHING_PLAUSIBLE"
    next_step = "View the series: it may show another region or position than the model was trained on."


class ObjectInvalid(OutputError):
    """A written object breaks the DICOM standard."""

    code = "OUTPUT_INVALID"
