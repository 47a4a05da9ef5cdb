"""How a PACS is called for queries and retrievals, and what its statuses mean (PS3.4 C.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association

from orgseg_node.errors import AssociationRejected, NetworkError, QueryRefused, Unreachable
from orgseg_node.node.config.node_config import MAX_PDU, Source
from orgseg_node.node.config.tls import context_of_peer
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

_CONNECT_S: Final = 10.0

# PS3.4 C.4.1.1.4, C.4.2.1.5 and C.4.3.1.4; PS3.7 annex C
_MEANINGS: Final = {
    0x0000: "done",
    0x0105: "no such attribute",
    0x0106: "a value of the request is invalid",
    0x0110: "it failed while processing",
    0x0112: "it has no such object",
    0x0117: "a UID of the request is invalid",
    0x0119: "class and instance contradict each other",
    0x0120: "an attribute of the request is missing",
    0x0122: "it does not support this kind of request",
    0x0124: "this node is not authorized",
    0x0210: "the message was sent twice",
    0x0211: "it does not know this operation",
    0x0212: "an argument of the request is wrong",
    0x0213: "it has too few resources",
    0xA700: "it has too few resources",
    0xA701: "it has too few resources to count the matches",
    0xA702: "it has too few resources to send the images, or could not reach who should get them",
    0xA801: "it does not know the AE title that the images should go to",
    0xA900: "it does not understand the keys at this level",
    0xB000: "some images could not be sent",
    0xFE00: "it was cancelled",
}


def describe_status(status: int) -> str:
    """A DIMSE status of a query or retrieval as code and sentence."""
    text = _MEANINGS.get(status)
    if text is None:
        families = {0xA: "it refused", 0xB: "it did so with a remark", 0xC: "it cannot process the request"}
        text = families.get(status >> 12, "a status the standard does not name")
    return f"0x{status:04X}, {text}"


def require_status(status: Dataset, source: Source) -> int:
    """The status of a response. Raises Unreachable if there is none, for the connection broke."""
    if "Status" not in status:
        why = f"broke off, or was silent for {source.timeout_s:g} s"
        raise Unreachable(f"{name_of(source)} {why}; some do so if they do not know the calling AE title.")
    return int(status.Status)


def name_of(source: Source) -> str:
    """A source in messages."""
    return f"{source.ae_title} at {source.host}:{source.port}"


@contextmanager
def association(
    source: Source, calling_ae: str, contexts: Sequence[tuple[UID, Sequence[Any]]], **more: Any
) -> Iterator[Association]:
    """An established association with a source, released at the end.

    Parameters
    ----------
    source : whom to call
    calling_ae : AE title of the node
    contexts : abstract and transfer syntaxes; the source must accept the first
    more : roles and handlers, as pynetdicom wants them

    Raises
    ------
    Unreachable, AssociationRejected, QueryRefused, TlsFailed
        If there is none.
    """
    ae = AE(ae_title=calling_ae)
    ae.connection_timeout = min(_CONNECT_S, source.timeout_s)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = source.timeout_s
    ae.maximum_pdu_size = MAX_PDU
    for abstract, syntaxes in contexts:
        ae.add_requested_context(abstract, list(syntaxes))
    tls = context_of_peer(source, name_of(source))
    if tls is not None:
        more["tls_args"] = (tls, source.tls_name or source.host)
    try:
        made = ae.associate(source.host, source.port, ae_title=source.ae_title, max_pdu=MAX_PDU, **more)
    except (OSError, UnicodeError) as error:
        raise Unreachable(f"{name_of(source)}: {error}.") from error
    if not made.is_established:
        if tls is not None and tls.last_error is not None:
            raise tls_error(tls.last_error, name_of(source)) from tls.last_error
        raise _why_not(made, source)
    try:
        if not any(context.abstract_syntax == contexts[0][0] for context in made.accepted_contexts):
            raise _not_done(source)
        yield made
    finally:
        if made.is_established:
            made.release()


def _why_not(refused: Association, source: Source) -> NetworkError:
    reason = reject_reason(refused)
    if reason is not None:
        return AssociationRejected(f"{name_of(source)}: {reason}.")
    if refused.rejected_contexts:
        return _not_done(source)
    return Unreachable(f"{name_of(source)} does not answer.")


def _not_done(source: Source) -> QueryRefused:
    return QueryRefused(f"{name_of(source)} does not offer this kind of query or retrieval.")
