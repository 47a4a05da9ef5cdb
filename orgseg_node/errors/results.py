"""What comes of a CT cannot be sent: no patient, no organ, or an object that is not what was computed."""

from __future__ import annotations

from orgseg_node.errors.base import OrgsegError


class BodyNotFound(OrgsegError):
    """No patient was found in the images."""

    code = "BODY_NOT_FOUND"
    next_step = "Look at the series: it may be air, a phantom outside the field, or not in HU."


class OutputError(OrgsegError):
    """The result cannot be sent."""

    code = "OUTPUT"
    next_step = "Nothing was sent; keep the job folder and report it."


class ProofFailed(OutputError):
    """The written object, read back, is not the computed label map."""

    code = "OUTPUT_PROOF_FAILED"


class NothingFound(OutputError):
    """No organ was found in the images."""

    code = "OUTPUT_EMPTY"
    next_step = "Check that the series shows the region the model was trained on."


class ObjectInvalid(OutputError):
    """A written object breaks the DICOM standard."""

    code = "OUTPUT_INVALID"
