"""DICOM peers that cannot be reached, refuse, or are refused."""

from __future__ import annotations

from orgseg_node.errors.base import OrgsegError


class NetworkError(OrgsegError):
    """A DICOM peer could not be reached or refused."""

    code = "NETWORK"
    retryable = True
    next_step = "Try 'orgseg echo' to the peer and check its address, port and AE titles."

    def __init__(self, detail: str = "", *, status: int | None = None) -> None:
        super().__init__(detail)
        self.status = status


class Unreachable(NetworkError):
    """The peer does not answer."""

    code = "NETWORK_UNREACHABLE"


class AssociationRejected(NetworkError):
    """The peer rejected the association."""

    code = "NETWORK_REJECTED"
    next_step = "Enter this node's AE title at the peer, and the peer's AE title here."


class TlsFailed(NetworkError):
    """No TLS connection could be made."""

    code = "NETWORK_TLS"
    next_step = "Check that the port speaks TLS 1.2 or later, and the certificates that each side asks for."


class PeerCertificateRefused(NetworkError):
    """The peer's certificate is not accepted."""

    code = "NETWORK_TLS_PEER_CERTIFICATE"
    next_step = "Renew the peer's certificate, or enter here who signs it and the name that it holds."


class OwnCertificateRefused(NetworkError):
    """The peer does not accept this node's certificate."""

    code = "NETWORK_TLS_OWN_CERTIFICATE"
    next_step = "Run 'orgseg config check', renew this node's certificate, or enter at the peer who signs it."


class StoreRefused(NetworkError):
    """The peer refused an object."""

    code = "NETWORK_STORE_REFUSED"
    next_step = "See the status code in the peer's log; the object is kept and sent again."


class NotAuthorised(NetworkError):
    """The web service does not let this node in."""

    code = "NETWORK_NOT_AUTHORISED"
    next_step = "Renew the token or password in its file, and allow this node to store at the service."


class CommitmentRefused(NetworkError):
    """The peer does not take part in storage commitment."""

    code = "NETWORK_COMMITMENT"
    next_step = "Enable storage commitment at the peer and enter this node there, or set commitment = false."


class UnknownDestination(NetworkError):
    """There is no destination of this name."""

    code = "NETWORK_UNKNOWN_DESTINATION"
    retryable = False
    next_step = "Name one from [destinations] in node.toml, or give AE@host:port."


class UnknownSource(NetworkError):
    """There is no source of this name."""

    code = "NETWORK_UNKNOWN_SOURCE"
    retryable = False
    next_step = "Name one from [sources] in node.toml."


class KeyUnusable(NetworkError):
    """What to look for is not written as DICOM wants it."""

    code = "NETWORK_KEY"
    retryable = False
    next_step = "Correct the key; see 'orgseg query --help'."


class QueryRefused(NetworkError):
    """The source refused the query or the retrieval."""

    code = "NETWORK_QUERY_REFUSED"
    next_step = "Look the status up in the source's log; it must allow this node to query and retrieve."


class NothingMatches(NetworkError):
    """The source has nothing that matches."""

    code = "NETWORK_NOTHING_MATCHES"
    retryable = False
    next_step = "Check the keys, and with 'orgseg query' what the source holds."


class PullTooWide(NetworkError):
    """Nothing was pulled, because it would be more than was meant."""

    code = "NETWORK_PULL_TOO_WIDE"
    retryable = False
    next_step = "Name a study, series, accession number or patient without wildcards; 'orgseg query' lists."


class PullIncomplete(NetworkError):
    """Not everything that was asked for has come."""

    code = "NETWORK_PULL_INCOMPLETE"
    next_step = "Pull again. The source's log says why it could not send the rest."
