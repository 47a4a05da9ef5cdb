"""Why a TLS connection failed, as an error with a code.

The same sentences serve for connections that the node opens and for those that it accepts. They quote nothing
from a certificate: only fixed sentences and constants of the library are used.
"""

from __future__ import annotations

import ssl
from typing import Final

from orgseg_node.errors import NetworkError, OwnCertificateRefused, PeerCertificateRefused, TlsFailed

# X509_V_ERR_* of OpenSSL's x509_vfy.h
_UNVERIFIED: Final = {
    9: "It is not valid yet",
    10: "It has expired",
    18: "It is self-signed and not in the file of trusted certificates",
    19: "No trusted certificate authority signed it",
    20: "No trusted certificate authority signed it",
    21: "No trusted certificate authority signed it",
    23: "It was revoked",
    26: "It was not issued for this purpose",
    62: "It belongs to another host name",
    64: "It belongs to another address",
}

# alerts of the peer about the certificate that the node presented (RFC 8446 6.2)
_ALERTS: Final = {
    "SSLV3_ALERT_BAD_CERTIFICATE": "The peer reports a bad certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "The peer reports that it has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "The peer reports that it was revoked",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "The peer gives no reason",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "The peer does not support this kind",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "The peer requires one, and none was presented",
    "TLSV1_ALERT_ACCESS_DENIED": "The peer denies access to its owner",
    "TLSV1_ALERT_UNKNOWN_CA": "The peer does not trust its certificate authority",
}

_NO_TLS: Final = "It does not use TLS"
_TOO_OLD: Final = "It does not support TLS 1.2 or later"
_OTHER: Final = {
    "HTTP_REQUEST": _NO_TLS,
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "UNSUPPORTED_PROTOCOL": _TOO_OLD,
    "TLSV1_ALERT_PROTOCOL_VERSION": "There is no version of TLS that both support",
    "NO_SHARED_CIPHER": "There is no cipher suite that both support",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "It found no cipher suite that both support, or requires a certificate",
}


def tls_error(error: OSError, peer: str) -> NetworkError:
    """Why TLS with a peer failed.

    Parameters
    ----------
    error : raised by the handshake or by the first read after it
    peer : name of the peer in the message

    Returns
    -------
    PeerCertificateRefused, OwnCertificateRefused or TlsFailed, to be raised or logged.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = _UNVERIFIED.get(error.verify_code, error.verify_message.capitalize())
        return PeerCertificateRefused(f"{peer}: {reason}.")
    if isinstance(error, TimeoutError):
        return TlsFailed(f"{peer}: It did not finish in time.")
    reason = str(getattr(error, "reason", None) or "")  # only errors of the TLS library have one
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return PeerCertificateRefused(f"{peer}: It presented none.")
    if reason in _ALERTS:
        return OwnCertificateRefused(f"{peer}: {_ALERTS[reason]}.")
    broke_off = isinstance(error, (ssl.SSLEOFError, ConnectionError)) or not reason
    if broke_off or reason == "UNEXPECTED_EOF_WHILE_READING":
        return TlsFailed(f"{peer}: It closed the connection; it may not use TLS.")
    return TlsFailed(f"{peer}: {_OTHER.get(reason, reason.replace('_', ' ').capitalize())}.")
