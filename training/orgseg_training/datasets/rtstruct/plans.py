"""RT Plans in a folder of DICOM: a structure set that a plan was made on is the one that was treated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orgseg_node.dicom.objects.clinical_rtstruct import is_approved
from orgseg_node.dicom.reading.files import open_header, texts, whole_text, without_pydicom_warnings
from orgseg_node.dicom.reading.series import Inventory, Reason
from orgseg_node.errors import OrgsegError
from orgseg_training.errors import scan_error

_PLANS: Final = (
    "1.2.840.10008.5.1.4.1.1.481.5",  # RT Plan Storage, PS3.4 B.5
    "1.2.840.10008.5.1.4.1.1.481.8",  # RT Ion Plan Storage
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan and the structure sets that it was made on.

    Attributes
    ----------
    path : its file
    patient : Patient ID
    structure_sets : SOP Instance UIDs
    approved : whether a person approved it
    """

    path: Path
    patient: str
    structure_sets: frozenset[str]
    approved: bool


def find_plans(inventory: Inventory) -> tuple[list[Plan], list[tuple[Path, OrgsegError]]]:
    """The plans among the files that are no CT, and files that cannot be read, with the reason."""
    found: list[Plan] = []
    damaged: list[tuple[Path, OrgsegError]] = []
    for item in inventory.aside:
        if item.reason is not Reason.OTHER_OBJECT:
            continue
        try:
            dataset, _ = open_header(item.path)
            if whole_text(dataset, "SOPClassUID") in _PLANS:
                with without_pydicom_warnings():
                    references = list(dataset.get("ReferencedStructureSetSequence") or [])
                found.append(
                    Plan(
                        path=item.path,
                        patient=whole_text(dataset, "PatientID"),
                        structure_sets=frozenset(
                            uid for one in references for uid in texts(one, "ReferencedSOPInstanceUID")
                        ),
                        approved=is_approved(dataset),
                    )
                )
        except Exception as error:  # noqa: BLE001  # one odd object must not hide the others
            damaged.append((item.path, scan_error(error)))
    return found, damaged
