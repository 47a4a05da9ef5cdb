"""How well the fast mode of a bundle agrees with its exact mode: measured once, written into its manifest.

The fast mode computes the same network by other operations with other rounding; the effect depends on the
network. So it is compared with the exact mode on reference CTs, organ by organ, and allowed if both agree
almost perfectly. Nothing here identifies a patient: a CT is identified by the hash of its voxels.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from orgseg_node.errors import NotCalibrated
from orgseg_node.inference.bundles.fields import is_number, is_sha256, is_text, key_problems

MIN_DICE: Final = 0.9995
"""The fast mode is allowed if the Dice of every organ with the exact mode is at least this."""

_TOP = {"software", "version", "precision", "date", "references", "organs"}
_REFERENCE = {"sha256", "voxels"}
_AGREEMENT = {"dice", "found_on", "outside_ml"}


class Precision(StrEnum):
    """Number format: float32; bfloat16, which is faster if the CPU supports it; float16 on a GPU."""

    F32 = "f32"
    BF16 = "bf16"
    F16 = "f16"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceCt:
    """A CT of the measurement.

    Attributes
    ----------
    sha256 : hash of its grid and Hounsfield units, see `backends.calibrating.voxels_sha256`
    voxels : number of voxels
    """

    sha256: str
    voxels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganAgreement:
    """The agreement of both modes on one organ.

    Attributes
    ----------
    dice : lowest Dice of the fast mode with the exact mode over the reference CTs; 1 if neither found the
        organ
    found_on : number of reference CTs on which the exact mode found it
    outside_ml : volume that the exact mode found far outside the patient, over all reference CTs
    """

    dice: float
    found_on: int
    outside_ml: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How well the fast mode agrees with the exact mode.

    Attributes
    ----------
    software, version : that compute the fast mode, such as ``openvino`` and ``2026.4.1``; the version of
        ``torch.compile`` names the kind of device as well
    precision : number format in which it computes
    date : of the measurement
    references : the CTs of the measurement
    organs : agreement by organ key, for every organ of the bundle
    """

    software: str
    version: str
    precision: Precision
    date: dt.date
    references: tuple[ReferenceCt, ...]
    organs: Mapping[str, OrganAgreement]

    @property
    def never_found(self) -> tuple[str, ...]:
        """Keys of the organs that were found on no reference CT, so that nothing is known about them."""
        return tuple(key for key, organ in self.organs.items() if not organ.found_on)

    @property
    def nothing_outside(self) -> bool:
        """Whether no organ was found far outside the patient, so that tiles there can be skipped."""
        return not any(organ.outside_ml for organ in self.organs.values())

    @property
    def shortcomings(self) -> tuple[str, ...]:
        """Why the fast mode is not allowed, as sentences without full stop; empty if it is allowed."""
        if len(self.never_found) == len(self.organs):
            return ("no organ was found on any reference CT",)
        return tuple(
            f"the Dice of {key} is {organ.dice:.6f}, below {MIN_DICE}"
            for key, organ in self.organs.items()
            if organ.dice < MIN_DICE
        )


def require_calibration(
    bundle: str, calibration: Calibration | None, software: str, version: str
) -> Calibration:
    """The calibration, if it allows the fast mode.

    Parameters
    ----------
    bundle : name of the bundle
    calibration : from its manifest
    software, version : that would compute the fast mode on this machine

    Raises
    ------
    NotCalibrated
        If there is no calibration, if it was measured with another version, or if an organ does not agree.
    """
    if calibration is None:
        raise NotCalibrated(f"'{bundle}' has no calibration.")
    if (calibration.software, calibration.version) != (software, version):
        measured = f"{calibration.software} {calibration.version}"
        raise NotCalibrated(f"'{bundle}' was calibrated with {measured}; {software} {version} is installed.")
    if calibration.shortcomings:
        raise NotCalibrated(f"'{bundle}': {'; '.join(calibration.shortcomings)}.")
    return calibration


def calibration_document(calibration: Calibration) -> dict[str, Any]:
    """The calibration as a table of the manifest."""
    return {
        "software": calibration.software,
        "version": calibration.version,
        "precision": str(calibration.precision),
        "date": calibration.date,
        "references": [{"sha256": ct.sha256, "voxels": ct.voxels} for ct in calibration.references],
        "organs": {
            key: {
                "dice": float(organ.dice),
                "found_on": organ.found_on,
                "outside_ml": float(organ.outside_ml),
            }
            for key, organ in calibration.organs.items()
        },
    }


def read_calibration(row: Mapping[str, Any]) -> Calibration:
    """The calibration from its table in a manifest, for which `calibration_problems` returned nothing."""
    return Calibration(
        software=row["software"],
        version=row["version"],
        precision=Precision(row["precision"]),
        date=row["date"],
        references=tuple(ReferenceCt(**ct) for ct in row["references"]),
        organs={
            key: OrganAgreement(
                dice=float(organ["dice"]),
                found_on=organ["found_on"],
                outside_ml=float(organ["outside_ml"]),
            )
            for key, organ in row["organs"].items()
        },
    )


def calibration_problems(row: Any) -> list[str]:
    """All problems of the table, as sentences."""
    if not isinstance(row, dict):
        return ["calibration must be a table"]
    found = key_problems("calibration.", row, _TOP)
    found += [
        f"calibration.{name} must be text"
        for name in ("software", "version")
        if name in row and not is_text(row[name])
    ]
    if row.get("precision", Precision.F32) not in list(Precision):
        found.append(f"calibration.precision must be {' or '.join(Precision)}")
    if type(row.get("date", dt.date.min)) is not dt.date:
        found.append("calibration.date must be a date without time")
    references = row.get("references", [])
    found += reference_problems(references, "calibration.references") if "references" in row else []
    count = len(references) if isinstance(references, list) else 0
    return found + (_organ_problems(row["organs"], count) if "organs" in row else [])


def reference_problems(rows: Any, here: str) -> list[str]:
    """All problems of a list of reference CTs, as sentences; ``here`` is the name of the list."""
    if not isinstance(rows, list) or not rows or not all(isinstance(ct, dict) for ct in rows):
        return [f"{here} must hold at least one [[{here}]]"]
    found: list[str] = []
    for number, ct in enumerate(rows, start=1):
        found += key_problems(f"{here} {number}: ", ct, _REFERENCE)
        if "sha256" in ct and not is_sha256(ct["sha256"]):
            found.append(f"{here} {number}: not a SHA-256")
        if type(ct.get("voxels", 1)) is not int or ct.get("voxels", 1) < 1:
            found.append(f"{here} {number}: voxels must be a whole number above 0")
    if len({str(ct.get("sha256")) for ct in rows}) < len(rows):
        found.append(f"{here} names a CT twice")
    return found


def _organ_problems(rows: Any, references: int) -> list[str]:
    if not isinstance(rows, dict) or not all(isinstance(organ, dict) for organ in rows.values()):
        return ["calibration.organs must be tables by organ key"]
    found: list[str] = []
    for key, organ in rows.items():
        here = f"calibration.organs.{key}."
        found += key_problems(here, organ, _AGREEMENT)
        if not is_number(organ.get("dice", 0)) or not 0 <= organ.get("dice", 0) <= 1:
            found.append(f"{here}dice must be 0 to 1")
        if type(organ.get("found_on", 0)) is not int or not 0 <= organ.get("found_on", 0) <= references:
            found.append(f"{here}found_on must be a number of reference CTs")
        if not is_number(organ.get("outside_ml", 0)) or organ.get("outside_ml", 0) < 0:
            found.append(f"{here}outside_ml must be 0 or more")
    return found
