"""DICOM over TLS: what a connection must fulfil, and whose certificate speaks for whom.

The profile is the non-downgrading BCP 195 one (DICOM PS3.15 B.12; RFC 9325): TLS 1.2 or later, ephemeral keys
and authenticated encryption only. Each side shows a certificate that the other side's CA signed. Keys lie in
files that nobody else can read. Why a connection came to nothing is told by `orgseg_node.node.tls.faults`.
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
"""Suites of TLS 1.2 (RFC 9325 4.2); those of TLS 1.3 are all fit."""

WARN_BEFORE: Final = timedelta(days=30)
"""So long before it ends, somebody should renew a certificate."""

HANDSHAKE_S: Final = 10.0
_FAREWELL_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who the node is towards its peers: PEM files of its certificate (with intermediates) and key."""

    certificate: Path
    key: Path


class _Socket(ssl.SSLSocket):
    """Remembers why TLS failed; pynetdicom logs it and tells only that there is no association."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002  # as in the standard library
        try:
            super().do_handshake(block)
        except OSError as error:
            _remember(self.context, error)
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        # TLS 1.3 tells a client only after the handshake that its certificate is refused
        try:
            return super().recv(buflen, flags)
        except ssl.SSLError as error:
            _remember(self.context, error)
            raise

    def shutdown(self, how: int) -> None:
        try:
            super().shutdown(how)
        except OSError:
            self.close()  # pynetdicom would leave the descriptor open
            raise


class ClientContext(ssl.SSLContext):
    """For one association to one peer.

    Attributes
    ----------
    fault : why TLS failed; None while it did not
    """

    sslsocket_class = _Socket
    fault: OSError | None = None


class ServerContext(ssl.SSLContext):
    """Takes connections without waiting for the handshake, so that a slow peer holds up nobody else."""

    sslsocket_class = _Socket

    def wrap_socket(self, sock: socket.socket, **options: Any) -> ssl.SSLSocket:  # type: ignore[override]
        """Prepare a connection that was taken; `shake_hands` does the rest, in its own thread."""
        return super().wrap_socket(sock, **{**options, "do_handshake_on_connect": False})


def _remember(context: ssl.SSLContext, error: OSError) -> None:
    if isinstance(context, ClientContext) and context.fault is None:
        context.fault = error


def client_context(ca: Path, identity: Identity | None) -> ClientContext:
    """What a connection to a peer must fulfil.

    Parameters
    ----------
    ca : PEM file with the certificates that may sign the peer's, or with the peer's own
    identity : what the node shows if the peer asks; None if it has nothing to show

    Raises
    ------
    ConfigError
        If a file cannot be used.
    """
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    _trust(context, ca)
    if identity is not None:
        _show(context, identity)
    return context


def server_context(identity: Identity, ca: Path | None, *, require: bool) -> ServerContext:
    """What a connection from a peer must fulfil.

    Parameters
    ----------
    identity : what the node shows
    ca : PEM file with the certificates that may sign those of peers
    require : refuse peers without certificate; otherwise one that is shown is still verified

    Raises
    ------
    ConfigError
        If a file cannot be used, or certificates are required and nothing says who may sign them.
    """
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    context.num_tickets = 0  # no resumption: each association shows its certificate anew
    context.options |= ssl.OP_NO_TICKET
    _show(context, identity)
    if ca is not None:
        _trust(context, ca)
        context.verify_mode = ssl.CERT_REQUIRED if require else ssl.CERT_OPTIONAL
    elif require:
        raise ConfigError("tls.ca: is missing; without it no peer's certificate can be verified.")
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # a device's own certificate may stand in the file in place of the CA that signed it
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _trust(context: ssl.SSLContext, ca: Path) -> None:
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise ConfigError(f"{ca} holds no certificates in PEM form.") from error
    except OSError as error:
        raise ConfigError(f"{ca} cannot be read: {error.strerror}.") from error


def _show(context: ssl.SSLContext, identity: Identity) -> None:
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
    """Refuse a key that others can read. Root may own it and let a group read it, as services have it."""
    try:
        status = key.stat()
        key.open("rb").close()
    except OSError as error:
        raise ConfigError(f"{key} cannot be read: {error.strerror}.") from error
    allowed = stat.S_IRWXU | (stat.S_IRGRP if status.st_uid == 0 else 0)
    if stat.S_IMODE(status.st_mode) & ~allowed:
        raise ConfigError(f"{key} is open to other users; run chmod 600 on it.")


def shake_hands(connection: ssl.SSLSocket) -> OSError | None:
    """Do the handshake of a connection that was taken; why it failed, or None.

    After a failure the peer is given a moment to read the alert that says why before the line is cut.
    """
    connection.settimeout(HANDSHAKE_S)
    try:
        connection.do_handshake()
    except OSError as error:
        _farewell(connection)
        return error
    return None


def _farewell(connection: ssl.SSLSocket) -> None:
    with suppress(OSError):
        line = socket.socket(fileno=connection.detach())
        with line, suppress(OSError):
            line.shutdown(socket.SHUT_WR)
            end = time.monotonic() + _FAREWELL_S
            while (left := end - time.monotonic()) > 0:
                line.settimeout(left)
                if not line.recv(4096):  # bytes left unread would make it a reset, which destroys the alert
                    break


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the certificate of a peer says.

    Attributes
    ----------
    sha256 : fingerprint, lower-case hex
    names : its common name and DNS names, lower case
    """

    sha256: str
    names: frozenset[str]


def shown_by(connection: object) -> Shown | None:
    """The verified certificate of the peer; None if the line is plain or it showed none."""
    if not isinstance(connection, ssl.SSLSocket):
        return None
    encoded, decoded = connection.getpeercert(binary_form=True), connection.getpeercert()
    if not encoded or not decoded:
        return None
    fields: Any = decoded
    names = [value for part in fields.get("subject", ()) for kind, value in part if kind == "commonName"]
    names += [value for kind, value in fields.get("subjectAltName", ()) if kind == "DNS"]
    return Shown(
        sha256=hashlib.sha256(encoded).hexdigest(), names=frozenset(str(name).lower() for name in names)
    )


def ends(certificate: Path) -> datetime:
    """When the first certificate of a PEM file ends. Raises ConfigError if the file cannot be used.

    Only the validity is read (RFC 5280 4.1); the standard library reads it from a peer's certificate, not
    from one's own.
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
    skipped = 4 if tag == 0xA0 else 3  # version, which may be left out; serial number, algorithm, issuer
    for _ in range(skipped):
        _, _, end = _element(der, at)
        at = end
    _, at, _ = _element(der, at)  # Validity
    _, _, at = _element(der, at)  # notBefore
    tag, start, end = _element(der, at)
    digits = der[start:end].decode("ascii")
    if tag == 0x17:  # UTCTime: years from 50 on are of the 20th century (RFC 5280 4.1.2.5.1)
        digits = ("19" if digits >= "50" else "20") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Tag, start and end of the content of a DER element."""
    length, start = der[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(der[start : start + count]), start + count
    return der[at], start, start + length
