"""TLS contexts: what a connection must fulfil, and the certificates of both sides.

The profile is the non-downgrading BCP 195 one (DICOM PS3.15 B.12; RFC 9325): TLS 1.2 or later, ephemeral keys
and authenticated encryption only. Each side presents a certificate signed by a CA that the other side trusts.
Keys are files that only the node's user can read. `orgseg_node.node.tls.faults` explains why TLS failed.
"""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Never

from orgseg_node.errors import ConfigError

CIPHERS: Final = (
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
)
"""Suites of TLS 1.2 (RFC 9325 4.2); all suites of TLS 1.3 are allowed."""

WARN_BEFORE: Final = timedelta(days=30)
"""A certificate that expires within this time should be renewed."""

HANDSHAKE_S: Final = 10.0
_ALERT_S: Final = 1.0
"""Time for a peer to read the alert before the connection is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """PEM files of the node's certificate (with intermediate certificates) and of its key."""

    certificate: Path
    key: Path


class _Socket(ssl.SSLSocket):
    """Records why TLS failed; pynetdicom only reports that there is no association."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002  # as in the standard library
        try:
            super().do_handshake(block)
        except OSError as error:
            _record_error(self.context, error)
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        # in TLS 1.3 a client learns only after the handshake that its certificate is refused
        try:
            return super().recv(buflen, flags)
        except ssl.SSLError as error:
            _record_error(self.context, error)
            raise

    def shutdown(self, how: int) -> None:
        try:
            super().shutdown(how)
        except OSError:
            self.close()  # pynetdicom would leave the descriptor open
            raise


class ClientContext(ssl.SSLContext):
    """The context of one association to one peer.

    Attributes
    ----------
    last_error : why TLS failed; None if it did not
    """

    sslsocket_class = _Socket
    last_error: OSError | None = None


class ServerContext(ssl.SSLContext):
    """Accepts connections without waiting for the handshake, so that a slow peer does not delay others."""

    sslsocket_class = _Socket

    def wrap_socket(self, sock: socket.socket, **options: Any) -> ssl.SSLSocket:  # type: ignore[override]
        """Prepare an accepted connection; `complete_handshake` follows in the thread of the connection."""
        return super().wrap_socket(sock, **{**options, "do_handshake_on_connect": False})


def _record_error(context: ssl.SSLContext, error: OSError) -> None:
    if isinstance(context, ClientContext) and context.last_error is None:
        context.last_error = error


def client_context(ca: Path, identity: Identity | None) -> ClientContext:
    """Make the context of a connection to a peer.

    Parameters
    ----------
    ca : PEM file with the CA certificates trusted for the peer, or with the peer's own certificate
    identity : what the node presents if the peer asks; None if it has no certificate

    Raises
    ------
    ConfigError
        If a file cannot be used.
    """
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    _restrict(context)
    _load_ca(context, ca)
    if identity is not None:
        _load_identity(context, identity)
    return context


def server_context(identity: Identity, ca: Path | None, *, require: bool) -> ServerContext:
    """Make the context of connections from peers.

    Parameters
    ----------
    identity : what the node presents
    ca : PEM file with the CA certificates trusted for peers
    require : refuse peers without certificate; if False, a certificate that is presented is still verified

    Raises
    ------
    ConfigError
        If a file cannot be used, or certificates are required and no CA is given.
    """
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context)
    context.num_tickets = 0  # no resumption: each association presents its certificate again
    context.options |= ssl.OP_NO_TICKET
    _load_identity(context, identity)
    if ca is not None:
        _load_ca(context, ca)
        context.verify_mode = ssl.CERT_REQUIRED if require else ssl.CERT_OPTIONAL
    elif require:
        raise ConfigError("tls.ca: is missing; without it no peer's certificate can be verified.")
    return context


def https_context(ca: Path | None) -> ssl.SSLContext:
    """The context of a connection to a server that is no DICOM peer, such as a mail server.

    It verifies the certificate with `ca` (PEM), or with what the system trusts when None. Raises OSError.
    """
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _restrict(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # the file may hold the certificate of a device instead of that of its CA
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _load_ca(context: ssl.SSLContext, ca: Path) -> None:
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise ConfigError(f"{ca} holds no certificates in PEM form.") from error
    except OSError as error:
        raise ConfigError(f"{ca} cannot be read: {error.strerror}.") from error


def _load_identity(context: ssl.SSLContext, identity: Identity) -> None:
    _require_private(identity.key)
    try:
        context.load_cert_chain(identity.certificate, identity.key, password=_no_passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"{identity.key} is not the key of {identity.certificate}.") from error
        raise ConfigError(
            f"{identity.certificate} and {identity.key} are no certificate and key in PEM form."
        ) from error
    except OSError as error:
        raise ConfigError(f"{identity.certificate} cannot be read: {error.strerror}.") from error


def _no_passphrase() -> Never:
    raise ConfigError("The TLS key has a passphrase; a node that starts by itself needs one without.")


def _require_private(key: Path) -> None:
    """Refuse a key that other users can read. A file of root may be readable by its group."""
    try:
        status = key.stat()
        key.open("rb").close()
    except OSError as error:
        raise ConfigError(f"{key} cannot be read: {error.strerror}.") from error
    allowed = stat.S_IRWXU | (stat.S_IRGRP if status.st_uid == 0 else 0)
    if stat.S_IMODE(status.st_mode) & ~allowed:
        raise ConfigError(f"{key} is open to other users; run chmod 600 on it.")


def complete_handshake(connection: ssl.SSLSocket) -> OSError | None:
    """Do the handshake of an accepted connection; the error, or None.

    After a failure the peer gets a moment to read the alert before the connection is closed.
    """
    connection.settimeout(HANDSHAKE_S)
    try:
        connection.do_handshake()
    except OSError as error:
        _close_after_alert(connection)
        return error
    return None


def _close_after_alert(connection: ssl.SSLSocket) -> None:
    with suppress(OSError):
        plain = socket.socket(fileno=connection.detach())
        with plain, suppress(OSError):
            plain.shutdown(socket.SHUT_WR)
            end = time.monotonic() + _ALERT_S
            while (left := end - time.monotonic()) > 0:
                plain.settimeout(left)
                if not plain.recv(4096):  # unread bytes would cause a reset, and the alert would be lost
                    break


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCertificate:
    """The verified certificate of a peer.

    Attributes
    ----------
    sha256 : fingerprint, lower-case hexadecimal digits
    names : common name and DNS names, lower case
    """

    sha256: str
    names: frozenset[str]


def peer_certificate(connection: object) -> PeerCertificate | None:
    """The verified certificate of the peer; None without TLS, or if it presented none."""
    if not isinstance(connection, ssl.SSLSocket):
        return None
    encoded, decoded = connection.getpeercert(binary_form=True), connection.getpeercert()
    if not encoded or not decoded:
        return None
    fields: Any = decoded
    names = [value for part in fields.get("subject", ()) for kind, value in part if kind == "commonName"]
    names += [value for kind, value in fields.get("subjectAltName", ()) if kind == "DNS"]
    return PeerCertificate(
        sha256=hashlib.sha256(encoded).hexdigest(), names=frozenset(str(name).lower() for name in names)
    )


def certificate_end(certificate: Path) -> datetime:
    """When the first certificate of a PEM file expires. Raises ConfigError if the file cannot be used.

    Only the validity is read (RFC 5280 4.1). The standard library reads it from the certificate of a peer,
    not from a file.
    """
    try:
        text = certificate.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise ConfigError(f"{certificate} cannot be read: {error.strerror}.") from error
    block = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", text, re.DOTALL)
    try:
        return _not_after(ssl.PEM_cert_to_DER_cert(block.group() if block else ""))
    except (ValueError, IndexError) as error:
        raise ConfigError(f"{certificate} holds no certificate in PEM form.") from error


def _not_after(der: bytes) -> datetime:
    _, at, _ = _element(der, 0)  # Certificate
    _, at, _ = _element(der, at)  # TBSCertificate
    tag, _, end = _element(der, at)
    skipped = 4 if tag == 0xA0 else 3  # optional version; serial number, algorithm, issuer
    for _ in range(skipped):
        _, _, end = _element(der, at)
        at = end
    _, at, _ = _element(der, at)  # Validity
    _, _, at = _element(der, at)  # notBefore
    tag, start, end = _element(der, at)
    digits = der[start:end].decode("ascii")
    if tag == 0x17:  # UTCTime: years from 50 on are 19xx (RFC 5280 4.1.2.5.1)
        digits = ("19" if digits >= "50" else "20") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Tag, start and end of the content of a DER element."""
    length, start = der[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(der[start : start + count]), start + count
    return der[at], start, start + length
