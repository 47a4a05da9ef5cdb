"""Configuration of TLS: the node's own certificate and port, and the trusted CAs.

The section ``tls`` applies to both directions. A destination or source takes from it what it does not set
itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, Field

from orgseg_node.errors import ConfigError, TlsFailed
from orgseg_node.node.config.section import Port, Section, tables
from orgseg_node.node.tls.context import (
    ClientContext,
    Identity,
    PeerCertificate,
    client_context,
    server_context,
)

_PEER_SETTINGS: Final = ("tls_ca", "tls_certificate", "tls_key", "tls_name")
_P = TypeVar("_P", bound="PeerTls")


def _sha256(value: str) -> str:
    plain = value.replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise ValueError("a SHA-256 fingerprint has 64 hexadecimal digits")
    return plain


Sha256 = Annotated[str, AfterValidator(_sha256)]


class TlsSection(Section):
    """DICOM over TLS.

    Attributes
    ----------
    port : port with TLS; 0 takes any free port; no such port when None
    plain : whether the port without TLS is open; when None, only if there is no port with TLS
    certificate, key : PEM files of the node's own certificate, with intermediate certificates, and of its key
    ca : PEM file with the CA certificates trusted for peers
    require_certificate : refuse senders that present no certificate
    """

    port: Annotated[int, Field(ge=0, le=65535)] | None = None
    plain: bool | None = None
    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    require_certificate: bool = True

    @property
    def identity(self) -> Identity | None:
        """The node's own certificate and key, if it has them."""
        return _identity(self.certificate, self.key)

    @property
    def plain_open(self) -> bool:
        """Whether the port without TLS is open."""
        return self.port is None if self.plain is None else self.plain

    def resolved(self, base: Path) -> TlsSection:
        """The same with absolute paths."""
        return self.model_copy(update=_files(self, ("certificate", "key", "ca"), base))


class SenderCertificate(Section):
    """The certificate that a sender with this AE title must present.

    Attributes
    ----------
    certificate_sha256 : fingerprint of the certificate
    certificate_name : common name or DNS name; unlike the fingerprint it stays valid after a renewal
    """

    certificate_sha256: Sha256 | None = None
    certificate_name: Annotated[str, Field(min_length=1)] | None = None

    def accepts_certificate(self, shown: PeerCertificate | None) -> bool:
        """Whether a caller presented the certificate it must present; True if none is required."""
        if self.certificate_sha256 is None and self.certificate_name is None:
            return True
        if shown is None or self.certificate_sha256 not in (None, shown.sha256):
            return False
        return self.certificate_name is None or self.certificate_name.lower() in shown.names


class PeerTls(Section):
    """Address of a peer that the node calls, and the settings of TLS.

    Attributes
    ----------
    host, port : its address
    tls : whether TLS is used
    tls_ca : PEM file with the CA certificates trusted for the peer, or with its own certificate; that of the
        node when None
    tls_certificate, tls_key : what the node presents; its own when None
    tls_name : host name in the peer's certificate; its host when None
    """

    host: Annotated[str, Field(min_length=1)]
    port: Port
    tls: bool = False
    tls_ca: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_name: Annotated[str, Field(min_length=1)] | None = None

    @property
    def identity(self) -> Identity | None:
        """What the node presents to it, if anything."""
        return _identity(self.tls_certificate, self.tls_key)


def resolve_peer_tls(peer: _P, own: TlsSection, base: Path) -> _P:
    """The same peer with absolute paths, and with the node's TLS files where it sets none.

    Parameters
    ----------
    peer : a destination or source
    own : the section ``tls`` of the node
    base : folder to which paths are relative
    """
    if not peer.tls:
        return peer
    update: dict[str, Any] = {"tls_ca": own.ca}
    if peer.identity is None:
        update |= {"tls_certificate": own.certificate, "tls_key": own.key}
    return peer.model_copy(update=update | _files(peer, ("tls_ca", "tls_certificate", "tls_key"), base))


def context_of_peer(peer: PeerTls, name: str) -> ClientContext | None:
    """The TLS context of a connection to a peer; None without TLS.

    Parameters
    ----------
    peer : the peer to call
    name : its name in errors

    Raises
    ------
    TlsFailed
        If the files cannot be used now, for example while a certificate is renewed: what is to be sent is
        tried again.
    """
    if not peer.tls:
        return None
    if peer.tls_ca is None:
        raise TlsFailed(f"{name}: No CA is configured for its certificate.")
    try:
        return client_context(peer.tls_ca, peer.identity)
    except ConfigError as error:
        raise TlsFailed(f"{name}: {error.detail}") from error


def _identity(certificate: Path | None, key: Path | None) -> Identity | None:
    return None if certificate is None or key is None else Identity(certificate=certificate, key=key)


def _files(section: Section, names: tuple[str, ...], base: Path) -> dict[str, Path]:
    values = {name: getattr(section, name) for name in names}
    return {name: base / value.expanduser() for name, value in values.items() if value is not None}


def tls_contradictions(data: dict[str, Any]) -> list[str]:
    """List contradictions between settings of TLS; also runs on a configuration with invalid fields."""
    own = dict(tables(data)).get("tls", {})
    problems = []
    listening = own.get("port") is not None
    plain = not listening if own.get("plain") is None else own["plain"]
    if bool(own.get("certificate")) != bool(own.get("key")):
        problems.append("tls: certificate and key belong together")
    elif listening and not own.get("certificate"):
        problems.append("tls.port: needs certificate and key")
    if listening and own.get("require_certificate", True) and not own.get("ca"):
        problems.append("tls.ca: is missing; it holds the CA of the certificates of senders")
    if not plain and not listening:
        problems.append("tls.plain: with neither port nor tls.port no sender can connect")
    if listening and plain and own["port"] == dict(tables(data)).get("node", {}).get("port", 11112) != 0:
        problems.append("tls.port: is the port without TLS; the usual one with TLS is 2762")
    for number, peer in tables(data.get("peers")):
        if not listening and (peer.get("certificate_sha256") or peer.get("certificate_name")):
            setting = int(number) + 1 if number.isdecimal() else number
            problems.append(f"peers.{setting}: a certificate needs TLS, and there is no tls.port")
    for setting, peer in _called_peers(data):
        problems += [f"{setting}.{problem}" for problem in _peer_contradictions(peer, own)]
    return problems


def tls_warnings(tls: TlsSection, peers: Mapping[str, SenderCertificate]) -> list[str]:
    """What is allowed with a port with TLS, but leaves a way in that may not be meant.

    Parameters
    ----------
    tls : the section ``tls`` of the node
    peers : the listed senders by AE title
    """
    if tls.port is None:
        return []
    warnings = []
    if tls.plain_open:
        warnings.append("tls.plain: the port without TLS is open as well, as the configuration says")
    unbound = sorted(
        title
        for title, peer in peers.items()
        if peer.certificate_sha256 is None and peer.certificate_name is None
    )
    if unbound:
        any_one = "any certificate of tls.ca" if tls.require_certificate else "anyone, with no certificate,"
        titles = ", ".join(unbound)
        warnings.append(
            f"peers: {any_one} may call as {titles}; certificate_name or certificate_sha256 binds them"
        )
    return warnings


def _called_peers(data: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """All peers that the node calls, with the name of the setting."""
    return [
        (f"{section}.{name}", peer)
        for section in ("destinations", "sources")
        for name, peer in tables(data.get(section))
    ]


def _peer_contradictions(peer: dict[str, Any], own: dict[str, Any]) -> list[str]:
    named = [name for name in _PEER_SETTINGS if peer.get(name)]
    if not peer.get("tls"):
        return [f"{named[0]}: has no effect without tls = true"] if named else []
    problems = []
    if bool(peer.get("tls_certificate")) != bool(peer.get("tls_key")):
        problems.append("tls: tls_certificate and tls_key belong together")
    if not peer.get("tls_ca") and not own.get("ca"):
        problems.append("tls: needs tls_ca here, or ca in [tls], to verify its certificate")
    return problems


def tls_file_problems(data: dict[str, Any], base: Path) -> list[str]:
    """List what is wrong with the files that the settings of TLS name.

    Parameters
    ----------
    data : the configuration as parsed; fields may be invalid
    base : folder to which its paths are relative
    """
    own = dict(tables(data)).get("tls", {})
    wanted: list[tuple[str, list[Any]]] = [
        ("tls.ca", [own.get("ca")]),
        ("tls.certificate", [own.get("certificate"), own.get("key")]),
    ]
    for setting, peer in _called_peers(data):
        if peer.get("tls"):
            wanted.append((f"{setting}.tls_ca", [peer.get("tls_ca")]))
            wanted.append((f"{setting}.tls_certificate", [peer.get("tls_certificate"), peer.get("tls_key")]))
    problems = []
    for setting, names in wanted:
        files = [base / Path(name).expanduser() for name in names if isinstance(name, str) and name]
        if len(files) != len(names):
            continue
        try:
            if len(files) == 1:
                client_context(files[0], None)
            else:
                server_context(Identity(certificate=files[0], key=files[1]), None, require=False)
        except ConfigError as error:
            problems.append(f"{setting}: {error.detail}")
    return problems
