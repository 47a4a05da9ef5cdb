"""Why a TLS connection came to nothing, as an error with a code.

The same words serve both ways: what the node says of a peer's certificate when it calls, and when it is
called. Certificates name machines, and only fixed sentences and the library's own constants are used.
"""

from __future__ import annotations

import ssl
from typing import Final

from orgseg_node.errors import NetworkError, OwnCertificateRefused, PeerCertificateRefused, TlsFailed

# X509_V_ERR_* of OpenSSL's x509_vfy.h
_UNVERIFIED: Final = {
    9: "It is not valid yet",
    10: "It has expired",
    18: "It signed itself and is not in the file of trusted certificates",
    19: "It was signed by nobody who is trusted here",
    20: "It was signed by nobody who is trusted here",
    21: "It was signed by nobody who is trusted here",
    23: "It was revoked",
    26: "It was not made for this purpose",
    62: "It belongs to another host name",
    64: "It belongs to another address",
}

# alerts of the peer about what it was shown (RFC 8446 6.2)
_ALERTS: Final = {
    "SSLV3_ALERT_BAD_CERTIFICATE": "It calls it bad",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "It says that it has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "It says that it was revoked",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "It does not say why",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "It does not support this kind",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "It asks for one and was shown none",
    "TLSV1_ALERT_ACCESS_DENIED": "It denies access to its owner",
    "TLSV1_ALERT_UNKNOWN_CA": "It does not trust who signed it",
}

_NO_TLS: Final = "It does not speak TLS"
_TOO_OLD: Final = "It speaks no TLS 1.2 or later"
_OTHER: Final = {
    "HTTP_REQUEST": _NO_TLS,
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "UNSUPPORTED_PROTOCOL": _TOO_OLD,
    "TLSV1_ALERT_PROTOCOL_VERSION": "There is no version of TLS that both speak",
    "NO_SHARED_CIPHER": "There is no cipher suite that both use",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "It found no cipher suite that both use, or asks for a certificate",
}


def fault(error: OSError, peer: str) -> NetworkError:
    """Why TLS with a peer failed.

    Parameters
    ----------
    error : what the handshake raised, or the first reading after it
    peer : how the peer is called in the message

    Returns
    -------
    PeerCertificateRefused, OwnCertificateRefused or TlsFailed, to be raised or logged.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        said = _UNVERIFIED.get(error.verify_code, error.verify_message.capitalize())
        return PeerCertificateRefused(f"{peer}: {said}.")
    if isinstance(error, TimeoutError):
        return TlsFailed(f"{peer}: It did not finish in time.")
    reason = str(getattr(error, "reason", None) or "")  # only errors that the library made have one
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return PeerCertificateRefused(f"{peer}: It showed none.")
    if reason in _ALERTS:
        return OwnCertificateRefused(f"{peer}: {_ALERTS[reason]}.")
    broke_off = isinstance(error, (ssl.SSLEOFError, ConnectionError)) or not reason
    if broke_off or reason == "UNEXPECTED_EOF_WHILE_READING":
        return TlsFailed(f"{peer}: It broke off; it may not speak TLS.")
    return TlsFailed(f"{peer}: {_OTHER.get(reason, reason.replace('_', ' ').capitalize())}.")
