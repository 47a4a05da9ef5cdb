"""The number of a job: the same CT and the same settings give the same number.

The UIDs of all DICOM objects derive from it. So a second run, a second send of the CT, and ``orgseg segment``
and the node for the same CT make objects with the same UIDs.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass

from orgseg_node import __version__

_RECIPE = "orgseg-job-2"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultSettings:
    """The settings on which the objects of a job depend.

    Not part of them: device, threads and memory budget, which change no label; destinations, priority and
    review; the remark; and which objects are made besides RT Structure Set and Segmentation. So a job that is
    wanted at one more destination stays the same job.

    Attributes
    ----------
    models : SHA-256 of each model bundle, in order; the name of a bundle that cannot be opened
    method : as `InferenceSettings.method_description` gives it
    protocol_sha256 : `Protocol.sha256`; it includes the limits of the planning system
    seg : how the Segmentation stores the organs, ``binary`` or ``labelmap``
    version : of this program
    """

    models: tuple[str, ...] = ()
    method: str = ""
    protocol_sha256: str = ""
    seg: str = "binary"
    version: str = __version__


def derive_job_id(series_uid: str, content_sha256: str, settings: ResultSettings) -> str:
    """The number of the job that contours a CT under these settings.

    Parameters
    ----------
    series_uid : Series Instance UID of the CT
    content_sha256 : hash of its images, `CtSeries.content_sha256`
    settings : all else that the result depends on

    Returns
    -------
    16 hexadecimal digits
    """
    text = json.dumps([_RECIPE, series_uid, content_sha256, *astuple(settings)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
