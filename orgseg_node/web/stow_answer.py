"""The response of STOW-RS (PS3.18 10.5.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

OUT_OF_RESOURCES: Final = 0xA700


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome for one part.

    Attributes
    ----------
    sop_class_uid, sop_uid : of the instance; empty if they cannot be read
    reason : Failure Reason (0008,1197); None if it is stored
    """

    sop_class_uid: str = ""
    sop_uid: str = ""
    reason: int | None = None


def status_of(outcomes: Sequence[Outcome]) -> int:
    """The status of a whole request (PS3.18 Table 10.5.3-1).

    503 if none was stored because resources are missing: the sender should try again.
    """
    reasons = [one.reason for one in outcomes]
    if not reasons:
        return 400
    if all(reason is None for reason in reasons):
        return 200
    if any(reason is None for reason in reasons):
        return 202
    return 503 if set(reasons) == {OUT_OF_RESOURCES} else 409


def answer(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The Store Instances Response as DICOM JSON (PS3.18 Table 10.5.3-2, PS3.18 F).

    There is no Retrieve URL: the node does not serve objects by DICOMweb.
    """
    stored = [_reference(one) for one in outcomes if one.reason is None]
    failed = [_reference(one) | _reason(one) for one in outcomes if one.reason is not None and one.sop_uid]
    others = [_reason(one) for one in outcomes if one.reason is not None and not one.sop_uid]
    sequences = {"00081198": failed, "00081199": stored, "0008119A": others}
    found = {tag: {"vr": "SQ", "Value": items} for tag, items in sequences.items() if items}
    return {"00081190": {"vr": "UR"}, **found}


def _reference(one: Outcome) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": [one.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [one.sop_uid]},
    }


def _reason(one: Outcome) -> dict[str, Any]:
    return {"00081197": {"vr": "US", "Value": [one.reason]}}
