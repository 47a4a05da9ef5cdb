"""What C-STORE receives: SOP classes, transfer syntaxes, instances, and the statuses (PS3.4 B.2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from pydicom.uid import (
    JPEG2000,
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
    RTStructureSetStorage,
)
from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts
from pynetdicom.events import Event

from orgseg_node.dicom.reading.image_kind import SUPPORTED_SYNTAXES
from orgseg_node.errors import InputError, NotMatching, OrgsegError
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.dimse.further_classes import register
from orgseg_node.node.dimse.received_dataset import ReceivedDataset
from orgseg_node.node.store.model import Incoming

SYNTAXES: Final[list[UID | str]] = [
    ExplicitVRLittleEndian,  # preferred if the sender proposes several
    *sorted(SUPPORTED_SYNTAXES - {ExplicitVRLittleEndian, JPEG2000}),
]
"""Lossless syntaxes that the reader supports; lossy ones are rejected at negotiation."""

STORAGE_CLASSES: Final = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)

OTHER_CLASSES: Final = tuple(
    dict.fromkeys(
        uid
        for uid in (*(str(one.abstract_syntax) for one in AllStoragePresentationContexts), *register())
        if uid not in STORAGE_CLASSES
    )
)
"""Every other storage class: a study contains them, and archives send none of it if one is rejected."""

OTHER_SYNTAXES: Final[list[UID | str]] = [
    ExplicitVRLittleEndian,
    *(UID(syntax) for syntax in ALL_TRANSFER_SYNTAXES if "JPIP" not in UID(syntax).name),
]
"""Transfer syntaxes of the other classes: all with the pixels inside, since nothing is decoded."""


def accepted_syntaxes(config: NodeConfig, calling_ae: str, sop_class: str) -> Sequence[UID | str]:
    """Transfer syntaxes in which a sender may send a SOP class, by DIMSE or DICOMweb; none if it may not.

    Parameters
    ----------
    config : peers, and ``receiver.other_classes``
    calling_ae : AE title of the sender
    sop_class : SOP Class UID
    """
    peer = next((one for one in config.peers if one.ae_title == calling_ae), None)
    if peer is not None and not peer.may_send(sop_class):
        return ()
    if sop_class in STORAGE_CLASSES:
        return SYNTAXES
    if peer is not None and peer.feedback and sop_class == RTStructureSetStorage:
        return OTHER_SYNTAXES  # whatever is done with other classes
    restricted = peer is not None and peer.sop_classes is not None
    takes_others = config.receiver.other_classes == "set_aside" and not restricted
    return OTHER_SYNTAXES if takes_others and sop_class in OTHER_CLASSES else ()


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

    Raises
    ------
    DiskFull, NotDurable
        If a large dataset could not be written while it arrived.
    """
    request: Any = event.request
    dataset = request.DataSet
    is_received = isinstance(dataset, ReceivedDataset)
    encoded = dataset.encoded if is_received else event.encoded_dataset(include_meta=False)
    return Incoming(
        sop_class_uid=str(request.AffectedSOPClassUID or ""),
        sop_uid=str(request.AffectedSOPInstanceUID or ""),
        transfer_syntax=str(event.context.transfer_syntax),
        calling_ae=str(sender),
        called_ae=called,
        association=id(event.assoc),
        encoded=encoded,
    )


def c_store_status(error: OrgsegError) -> int:
    """The C-STORE status for an image that was not stored."""
    if not isinstance(error, InputError):
        return OUT_OF_RESOURCES
    return NOT_MATCHING if isinstance(error, NotMatching) else CANNOT_UNDERSTAND


def discard_dataset(event: Event) -> None:
    """Delete the file of a C-STORE request's dataset if it was not stored."""
    dataset = getattr(event.request, "DataSet", None)
    if isinstance(dataset, ReceivedDataset):
        dataset.discard()


class Intake(Protocol):
    """Stores received instances: the node's inbox, or a folder."""

    @property
    def receiving_folder(self) -> Path:
        """For large datasets while they arrive; in the file system where they are stored."""
        ...

    def accept(self, incoming: Incoming) -> object:
        """Store one instance durably. Raises OrgsegError if that fails."""
        ...

    def association_ended(
        self, association: int, *, released: bool = False, cause: str = "", incomplete: str = ""
    ) -> None:
        """An association that may have sent instances ended.

        Parameters
        ----------
        association : its number
        released : whether it was released
        cause : otherwise what ended it, in words
        incomplete : Series Instance UID of the image that was arriving; empty if none was
        """
        ...
