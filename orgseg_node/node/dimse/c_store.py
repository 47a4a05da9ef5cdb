"""What C-STORE receives: SOP classes, transfer syntaxes, instances, and the statuses (PS3.4 B.2)."""

from __future__ import annotations

from typing import Any, Final, Protocol

from pydicom.uid import (
    JPEG2000,
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
)
from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts
from pynetdicom.events import Event

from orgseg_node.dicom.reading.image_kind import SUPPORTED_SYNTAXES
from orgseg_node.errors import InputError, NotMatching, OrgsegError
from orgseg_node.node.store.model import Incoming

SYNTAXES: Final[list[UID | str]] = [
    ExplicitVRLittleEndian,  # preferred if the sender proposes several
    *sorted(SUPPORTED_SYNTAXES - {ExplicitVRLittleEndian, JPEG2000}),
]
"""Lossless syntaxes that the reader supports; lossy ones are rejected at negotiation."""

STORAGE_CLASSES: Final = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)

OTHER_CLASSES: Final = tuple(
    str(context.abstract_syntax)
    for context in AllStoragePresentationContexts
    if context.abstract_syntax not in STORAGE_CLASSES
)
"""Every other storage class: a study contains them, and archives send none of it if one is rejected."""

OTHER_SYNTAXES: Final[list[UID | str]] = [
    ExplicitVRLittleEndian,
    *(UID(syntax) for syntax in ALL_TRANSFER_SYNTAXES if "JPIP" not in UID(syntax).name),
]
"""Transfer syntaxes of the other classes: all with the pixels inside, since nothing is decoded."""


# PS3.4 B.2.3 C-STORE statuses
SUCCESS: Final = 0x0000
OUT_OF_RESOURCES: Final = 0xA700
NOT_MATCHING: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000


def incoming_instance(event: Event, *, sender: str, called: str = "") -> Incoming:
    """The instance of a C-STORE request, as encoded.

    Parameters
    ----------
    event : of the request
    sender : AE title of the sender, which may differ from that of the association's requestor
    called : called AE title; empty if the node opened the association itself
    """
    request: Any = event.request
    return Incoming(
        sop_class_uid=str(request.AffectedSOPClassUID or ""),
        sop_uid=str(request.AffectedSOPInstanceUID or ""),
        transfer_syntax=str(event.context.transfer_syntax),
        calling_ae=str(sender),
        called_ae=called,
        association=id(event.assoc),
        encoded=event.encoded_dataset(include_meta=False),
    )


def c_store_status(error: OrgsegError) -> int:
    """The C-STORE status for an image that was not stored."""
    if not isinstance(error, InputError):
        return OUT_OF_RESOURCES
    return NOT_MATCHING if isinstance(error, NotMatching) else CANNOT_UNDERSTAND


class Intake(Protocol):
    """Stores received instances: the node's inbox, or a folder."""

    def accept(self, incoming: Incoming) -> object:
        """Store one instance durably. Raises OrgsegError if that fails."""
        ...

    def association_ended(self, association: int, *, released: bool = False, cause: str = "") -> None:
        """An association that may have sent instances ended.

        Parameters
        ----------
        association : its number
        released : whether it was released
        cause : otherwise what ended it, in words
        """
        ...
