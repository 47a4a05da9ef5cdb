"""What the node asks of the child process that contours, as a file between the two."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildRequest:
    """What the node asks of its child.

    Attributes
    ----------
    job_id : number of the job; the UIDs of the objects derive from it
    created : ISO 8601 time of the job, written into the objects
    files : the instances of the series, absolute
    content_sha256 : what the survey of these files gave when the job was made
    out : folder for the results
    bundles, bundle_folders : which models, and where to look for them besides the shipped ones
    settings : arguments of InferenceSettings
    protocol : what the structure set shall hold, see `Protocol.as_json`
    wanted : arguments of `Wanted`
    parent : process that asks
    remark : what the objects must say besides
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
    wanted: dict[str, Any]
    parent: int
    remark: str = ""

    def to_json(self) -> str:
        """As the text of the request file."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> ChildRequest:
        """From the text of the request file."""
        values = json.loads(text)
        for name in ("files", "bundles", "bundle_folders"):
            values[name] = tuple(values[name])
        return cls(**values)
