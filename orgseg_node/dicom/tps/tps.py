"""RT Structure Sets for planning systems: profiles, names, and the check before an object is sent.

    profile = PROFILES["eclipse"]
    structures = trace(label_map, profile.tracing)
    dataset = write_rtstruct(structures, series, provenance, profile)
    require_valid(dataset, profile)

A structure set that breaks a limit of its profile, a rule of a module or the IOD is never sent:
`require_valid` raises, and the job is held with the reason. The limits and their public sources are in
`dicom.tps.tps_profile`.
"""

from __future__ import annotations

from pydicom.dataset import Dataset

from orgseg_node.dicom.objects.iod import missing
from orgseg_node.dicom.objects.rtstruct_rules import broken_rules
from orgseg_node.dicom.reading.files import without_pydicom_warnings
from orgseg_node.dicom.tps.tps_names import names_for
from orgseg_node.dicom.tps.tps_profile import GENERIC, PROFILES, EmptyRois, TpsProfile
from orgseg_node.errors import ObjectInvalid

__all__ = [
    "GENERIC",
    "PROFILES",
    "EmptyRois",
    "TpsProfile",
    "names_for",
    "require_valid",
    "validate",
]

_SHOWN = 5


def validate(dataset: Dataset, profile: TpsProfile) -> tuple[str, ...]:
    """Every problem because of which an RT Structure Set must not be sent to a planning system.

    Parameters
    ----------
    dataset : as written, or as read again
    profile : the planning system

    Returns
    -------
    one sentence for each problem, without patient data; empty for a valid object
    """
    with without_pydicom_warnings():  # warnings of pydicom quote values
        return (*missing(dataset), *broken_rules(dataset, profile))


def require_valid(dataset: Dataset, profile: TpsProfile) -> None:
    """Refuse an RT Structure Set in which `validate` finds a problem.

    Raises
    ------
    ObjectInvalid
        With the first problems and the number of the others.
    """
    problems = validate(dataset, profile)
    if problems:
        more = len(problems) - _SHOWN
        text = "; ".join(problems[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        raise ObjectInvalid(f"RTSTRUCT for {profile.name}: {text}.")
