"""Errors of the connection with DICOM peers and web services."""

from __future__ import annotations

from orgseg_node.errors.base import OrgsegError


class NetworkError(OrgsegError):
    """A DICOM peer could not be reached or refused."""

    code = "NETWORK"
    retryable = True
    next_step = "Check that the peer runs, host, port and AE titles in node.toml, and the firewall between."

    def __init__(self, detail: str = "", *, status: int | None = None) -> None:
        super().__init__(detail)
        self.status = status


class Unreachable(NetworkError):
    """The peer does not respond."""

    code = "NETWORK_UNREACHABLE"


class AssociationAborted(Unreachable):
    """The peer broke off the association request."""

    code = "NETWORK_ABORTED"


class NoAnswer(Unreachable):
    """The peer received an object and did not answer in time."""

    code = "NETWORK_NO_ANSWER"
    next_step = "See at the peer whether the object is there; give the destination a longer timeout_s."


class AssociationRejected(NetworkError):
    """The peer rejected the association."""

    code = "NETWORK_REJECTED"
    next_step = (
        "If the peer does not know the called title, correct ae_title of the destination or source. If it "
        "does not know the calling title, enter that title and the address of this machine at the peer; an "
        "orgseg node lists callers under [[peers]]. Without --config or --calling-ae 'orgseg echo' and "
        "'orgseg send' call as ORGSEG."
    )


class TlsFailed(NetworkError):
    """No TLS connection could be made."""

    code = "NETWORK_TLS"
    next_step = "Check that the port uses TLS 1.2 or later, and which certificates each side requires."


class PeerCertificateRefused(NetworkError):
    """The peer's certificate is not accepted."""

    code = "NETWORK_TLS_PEER_CERTIFICATE"
    next_step = "Renew the peer's certificate, or correct its authority and name in node.toml."


class OwnCertificateRefused(NetworkError):
    """The peer does not accept this node's certificate."""

    code = "NETWORK_TLS_OWN_CERTIFICATE"
    next_step = "Run 'orgseg config check', renew this node's certificate, or add its authority at the peer."


class StoreRefused(NetworkError):
    """The peer refused an object."""

    code = "NETWORK_STORE_REFUSED"
    next_step = "Look up the status code in the peer's log; a node keeps its objects and sends them again."


class ClassRefused(StoreRefused):
    """The peer does not accept objects of this kind."""

    code = "NETWORK_CLASS_REFUSED"
    retryable = False
    next_step = "Enable this kind of object at the peer, or leave it out of 'objects' of the destination."


class NotAuthorised(NetworkError):
    """The web service does not authorise this node."""

    code = "NETWORK_NOT_AUTHORISED"
    next_step = (
        "Renew the token or password in its file, and give this node the right to store at the service."
    )


class CommitmentRefused(NetworkError):
    """The peer refuses storage commitment."""

    code = "NETWORK_COMMITMENT"
    next_step = "Enable storage commitment for this node at the peer, or set commitment = false."


class UnknownDestination(NetworkError):
    """There is no destination of this name."""

    code = "NETWORK_UNKNOWN_DESTINATION"
    retryable = False
    next_step = "Use a name from [destinations] in node.toml, or AE@host:port."


class UnknownSource(NetworkError):
    """There is no source of this name."""

    code = "NETWORK_UNKNOWN_SOURCE"
    retryable = False
    next_step = "Use a name from [sources] in node.toml."


class KeyUnusable(NetworkError):
    """A query key is not valid in DICOM."""

    code = "NETWORK_KEY"
    retryable = False
    next_step = "Correct the key; 'orgseg query --help' describes the keys."


class QueryRefused(NetworkError):
    """The source refused the query or the retrieval."""

    code = "NETWORK_QUERY_REFUSED"
    next_step = "Look up the status code in the source's log; it must allow this node to query and retrieve."


class MoveRefused(QueryRefused):
    """The source sent no image to the receiver."""

    code = "NETWORK_MOVE_REFUSED"
    next_step = (
        "At the source, enter the receiver's AE title with its host and port: it sends only to titles it "
        "knows ('move_to' in node.toml is the one for this node). The log of the source gives the reason."
    )


class NothingMatches(NetworkError):
    """The source has no matching images."""

    code = "NETWORK_NOTHING_MATCHES"
    retryable = False
    next_step = "Check the keys, or give fewer of them."


class PullTooWide(NetworkError):
    """Nothing was retrieved, because the keys match too much."""

    code = "NETWORK_PULL_TOO_WIDE"
    retryable = False
    next_step = (
        "Give a study, series, accession number or patient without wildcards; 'orgseg query' lists them."
    )


class PullIncomplete(NetworkError):
    """Not all requested images were received."""

    code = "NETWORK_PULL_INCOMPLETE"
    next_step = "Run 'orgseg pull' again; the source's log gives the reason why it did not send the others."
