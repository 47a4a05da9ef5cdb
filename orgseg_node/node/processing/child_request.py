"""The request of the node to the child process that contours, as a JSON file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildRequest:
    """What the child contours, and how.

    Attributes
    ----------
    job_id : of the job; the UIDs of the objects derive from it
    created : time of the job in ISO 8601, written into the objects
    files : the instances of the series, as absolute paths
    content_sha256 : hash of the content of these files when the job was made
    out : folder for the results
    bundles, bundle_folders : names of the models, and folders that are searched besides the shipped one
    models : SHA-256 that each of them must have, in the same order; empty where any is good
    settings : arguments of InferenceSettings
    protocol : of the structure set, see `Protocol.as_json`
    requested_objects : roles of the DICOM objects, and the kind of the SEG
    parent_pid : process ID of the node; the child ends with it
    remark : text that the objects must contain
    scan_released : whether a person decided that a doubtful scan is contoured anyway
    """

    job_id: str
    created: str
    files: tuple[str, ...]
    content_sha256: str
    out: str
    bundles: tuple[str, ...]
    bundle_folders: tuple[str, ...]
    settings: dict[str, Any]
    protocol: dict[str, Any]
    requested_objects: dict[str, Any]
    parent_pid: int
    remark: str = ""
    scan_released: bool = False
    models: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The text of the request file."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> ChildRequest:
        """The request in the text of a request file."""
        values = json.loads(text)
        for name in ("files", "bundles", "bundle_folders", "models"):
            values[name] = tuple(values.get(name, ()))
        return cls(**values)
