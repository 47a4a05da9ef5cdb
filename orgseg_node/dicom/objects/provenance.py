"""The job, software and models that made an object, and the time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from orgseg_node import __version__

MANUFACTURER = "orgseg_node"
MODEL_NAME = "orgseg_node"
UNREVIEWED = "AI, not reviewed"

_LO = 64  # characters in a Long String (PS3.5 6.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One model that was used.

    Attributes
    ----------
    name, version : of the model bundle
    sha256 : hash of the bundle, 64 hexadecimal digits
    """

    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        """Name, version and the start of the hash, at most 64 characters."""
        end = f" {self.version} sha256:{self.sha256[:12]}"
        return (self.name[: max(0, _LO - len(end))] + end)[:_LO]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """How a result was made; written into every object.

    Attributes
    ----------
    job_id : stable ID of the job; all UIDs derive from it, see `uid_root`
    created : time of the result with time zone; written as the local time of this zone
    models : every model that was used
    software_version : version of the node
    device_serial : Device Serial Number (0018,1000), to distinguish several nodes
    institution : Institution Name (0008,0080) of the node, or empty
    remark : further information in ASCII: a short mark in capitals, a colon, sentences; or empty
    guidance : one sentence in ASCII about the guide that led the networks to the organs; or empty
    object_revision : 1 for the objects that a job makes; more if a person changed what they contain
    """

    job_id: str
    created: datetime
    models: tuple[ModelVersion, ...]
    software_version: str = __version__
    device_serial: str = "orgseg_node"
    institution: str = ""
    remark: str = ""
    guidance: str = ""
    object_revision: int = 1

    def __post_init__(self) -> None:
        if not self.job_id:
            raise ValueError("Provenance needs a job ID: every UID derives from it.")
        if self.created.tzinfo is None:
            raise ValueError("Provenance needs a time with time zone.")
        if not self.models:
            raise ValueError("Provenance needs at least one model.")

    @property
    def uid_root(self) -> str:
        """From what the UIDs of the objects derive: other objects of the same job have other UIDs."""
        again = self.object_revision
        return self.job_id if again == 1 else f"{self.job_id}, objects {again}"

    @property
    def date(self) -> str:
        """DICOM DA."""
        return self.created.strftime("%Y%m%d")

    @property
    def time(self) -> str:
        """DICOM TM, whole seconds."""
        return self.created.strftime("%H%M%S")

    @property
    def software_versions(self) -> list[str]:
        """Values of Software Versions (0018,1020): the node, then each model with its hash."""
        return [f"{MODEL_NAME} {self.software_version}"[:_LO], *(str(model) for model in self.models)]

    @property
    def summary(self) -> str:
        """One sentence for descriptions."""
        models = "; ".join(str(model) for model in self.models)
        remark = f"{self.remark} " if self.remark else ""
        program = f"{MODEL_NAME} {self.software_version}"
        guidance = f". {self.guidance}" if self.guidance else ""
        return f"Automatic contours, not reviewed. {remark}{program}. Models: {models}{guidance}"

    def series_description(self, title: str) -> str:
        """A Series Description (0008,103E): the title and the mark of the remark, such as ``REV 2``."""
        return f"{title} {self.remark.partition(':')[0]}".strip()[:_LO]
