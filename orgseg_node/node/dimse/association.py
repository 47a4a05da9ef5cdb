"""Associations that the node opens, and the statuses of queries and retrievals (PS3.4 C.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.events import Event

from orgseg_node.errors import (
    AssociationAborted,
    AssociationRejected,
    NetworkError,
    QueryRefused,
    StoreRefused,
    Unreachable,
)
from orgseg_node.node.config.destinations import Destination
from orgseg_node.node.config.node_config import MAX_PDU, Source
from orgseg_node.node.config.tls import context_of_peer
from orgseg_node.node.dimse.association_pdus import make_readable
from orgseg_node.node.dimse.pdu_limits import MAX_PDU_LENGTH
from orgseg_node.node.dimse.reject_reason import reject_reason
from orgseg_node.node.tls.faults import tls_error

# PS3.4 C.6.2, study root query/retrieve information model
FIND: Final = UID("1.2.840.10008.5.1.4.1.2.2.1")
MOVE: Final = UID("1.2.840.10008.5.1.4.1.2.2.2")
GET: Final = UID("1.2.840.10008.5.1.4.1.2.2.3")
SYNTAXES: Final = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]

PENDING: Final = (0xFF00, 0xFF01)
SUCCESS: Final = 0x0000
CANCELLED: Final = 0xFE00
MOVE_DESTINATION_UNKNOWN: Final = 0xA801
SUBOPERATIONS_INCOMPLETE: Final = 0xB000

Context = tuple[UID | str, Sequence[UID | str]]
"""An abstract syntax with its transfer syntaxes."""

_CONNECT_S: Final = 10.0

# PS3.4 C.4.1.1.4, C.4.2.1.5 and C.4.3.1.4; PS3.7 annex C
_MEANINGS: Final = {
    0x0000: "done",
    0x0105: "no such attribute",
    0x0106: "a value of the request is invalid",
    0x0110: "it failed while processing",
    0x0112: "it has no such object",
    0x0117: "a UID of the request is invalid",
    0x0119: "class and instance do not match",
    0x0120: "an attribute of the request is missing",
    0x0122: "it does not support this kind of request",
    0x0124: "this node is not authorized",
    0x0210: "the message was sent twice",
    0x0211: "it does not support this operation",
    0x0212: "an argument of the request is wrong",
    0x0213: "it has too few resources",
    0xA700: "it has too few resources",
    0xA701: "it has too few resources to count the matches",
    0xA702: "it has too few resources to send the images, or could not reach the receiver",
    0xA801: "it does not know the AE title of the receiver",
    0xA900: "it does not understand the keys at this level",
    0xB000: "some images could not be sent",
    0xFE00: "it was cancelled",
}


def describe_status(status: int) -> str:
    """Code and meaning of a DIMSE status of a query or retrieval."""
    text = _MEANINGS.get(status)
    if text is None:
        families = {0xA: "it refused", 0xB: "done with a warning", 0xC: "it cannot process the request"}
        text = families.get(status >> 12, "a status that the standard does not define")
    return f"0x{status:04X}, {text}"


def require_status(response: Dataset, source: Source) -> int:
    """The status of a response. Raises Unreachable if there is none because the connection broke."""
    if "Status" not in response:
        why = f"closed the connection, or was silent for {source.timeout_s:g} s"
        hint = "some do so if they do not know the calling AE title"
        raise Unreachable(f"{source.description} {why}; {hint}.")
    return int(response.Status)


@contextmanager
def destination_association(
    destination: Destination, calling_ae: str, contexts: Sequence[Context], **options: Any
) -> Iterator[Association]:
    """Open an association to a destination; it is released at the end.

    Parameters
    ----------
    destination : the peer to call
    calling_ae : AE title of the node
    contexts : abstract syntaxes with their transfer syntaxes
    options : roles and event handlers for pynetdicom

    Raises
    ------
    Unreachable
        If nothing answers at its address.
    TlsFailed, PeerCertificateRefused, OwnCertificateRefused
        If TLS is used and fails.
    AssociationRejected
        If it does not accept one of the two AE titles.
    AssociationAborted
        If it breaks off the request.
    StoreRefused
        If it accepts none of the contexts.
    """
    refused = StoreRefused(f"{destination.description} does not accept objects of this kind.")
    with _open_association(destination, calling_ae, contexts, refused, options) as association:
        yield association


@contextmanager
def source_association(
    source: Source, calling_ae: str, contexts: Sequence[Context], **options: Any
) -> Iterator[Association]:
    """Open an association to a source; it is released at the end.

    Parameters
    ----------
    source : the peer to call
    calling_ae : AE title of the node
    contexts : abstract syntaxes with their transfer syntaxes; the source must accept the first one
    options : roles and event handlers for pynetdicom

    Raises
    ------
    Unreachable, AssociationRejected, TlsFailed, PeerCertificateRefused, OwnCertificateRefused
        As `destination_association`.
    QueryRefused
        If it does not accept the first context.
    """
    refused = QueryRefused(f"{source.description} does not offer this kind of query or retrieval.")
    options["max_pdu"] = MAX_PDU
    with _open_association(source, calling_ae, contexts, refused, options) as association:
        if not any(one.abstract_syntax == contexts[0][0] for one in association.accepted_contexts):
            raise refused
        yield association


def _on_connected(event: Event, connected: list[float]) -> None:
    connected.append(monotonic())
    make_readable(event.assoc.dul.socket, MAX_PDU_LENGTH)


@contextmanager
def _open_association(
    peer: Destination | Source,
    calling_ae: str,
    contexts: Sequence[Context],
    refused: NetworkError,
    options: dict[str, Any],
) -> Iterator[Association]:
    """Open an association; `refused` is raised if the peer accepts none of the contexts."""
    ae = AE(ae_title=calling_ae)
    ae.connection_timeout = min(_CONNECT_S, peer.timeout_s)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = peer.timeout_s
    for abstract, syntaxes in contexts:
        ae.add_requested_context(abstract, list(syntaxes))
    tls = context_of_peer(peer, peer.description)
    if tls is not None:
        options["tls_args"] = (tls, peer.tls_name or peer.host)
    connected: list[float] = []
    noted = (evt.EVT_CONN_OPEN, lambda event: _on_connected(event, connected))
    options["evt_handlers"] = [*options.get("evt_handlers", ()), noted]
    try:
        association = ae.associate(peer.host, peer.port, ae_title=peer.ae_title, **options)
    except (OSError, UnicodeError) as error:
        raise Unreachable(f"{peer.description}: {error}.") from error
    if not association.is_established:
        if tls is not None and tls.last_error is not None:
            raise tls_error(tls.last_error, peer.description) from tls.last_error
        reason = reject_reason(association)
        if reason is not None:
            raise AssociationRejected(f"{peer.description}: {reason}.")
        if association.rejected_contexts:
            raise refused
        if connected and monotonic() - connected[0] < peer.timeout_s:
            raise AssociationAborted(f"{peer.description} closed the connection.")
        raise Unreachable(f"{peer.description} does not answer.")
    try:
        yield association
    finally:
        if association.is_established:
            association.release()
