"""TLS: settings and files, certificates bound to AE titles, and why a connection failed."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orgseg_node.errors import ConfigError, OwnCertificateRefused, PeerCertificateRefused, TlsFailed
from orgseg_node.node.config.load import load_config
from orgseg_node.node.config.node_config import Destination, NodeConfig, Peer
from orgseg_node.node.config.tls import SenderCertificate, TlsSection, tls_warnings
from orgseg_node.node.dimse.storage_scu import DicomSender
from orgseg_node.node.tls.context import (
    CIPHERS,
    Identity,
    PeerCertificate,
    certificate_end,
    client_context,
    peer_certificate,
    server_context,
)
from orgseg_node.node.tls.faults import tls_error
from tests.support.peers.certificates import Authority, Pair

PEER = '[[peers]]\nae_title = "CT"\n'
TPS = '[destinations.tps]\nae_title = "TPS"\nhost = "10.0.0.1"\nport = 2762\n'
PRINT = "ab" * 32


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("clinic"))


@pytest.fixture(scope="module")
def node_pair(clinic: Authority) -> Pair:
    return clinic.sign("node")


def load(folder: Path, text: str) -> NodeConfig:
    file = folder / "node.toml"
    file.write_text(text, encoding="utf-8")
    return load_config(file)


def problems(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return caught.value.detail


def test_a_destination_takes_missing_tls_settings_from_the_node(
    tmp_path: Path, clinic: Authority, node_pair: Pair
) -> None:
    base = node_pair.certificate.parent
    other = clinic.sign("other")
    config = load(
        base,
        f"{PEER}[tls]\nca = 'clinic-ca.crt'\ncertificate = 'node.crt'\nkey = 'node.key'\nport = 2762\n"
        f"{TPS}tls = true\n{TPS.replace('tps]', 'own]').replace('2762', '1')}tls = true\n"
        "tls_certificate = 'other.crt'\ntls_key = 'other.key'\n"
        f"{TPS.replace('tps]', 'plain]').replace('2762', '2')}",
    )
    tps, own, plain = (config.destinations[name] for name in ("tps", "own", "plain"))
    assert config.tls.identity == Identity(certificate=node_pair.certificate, key=node_pair.key)
    assert tps.tls_ca == own.tls_ca == clinic.certificate
    assert tps.identity == config.tls.identity
    assert own.identity == Identity(certificate=other.certificate, key=other.key)
    assert (plain.tls_ca, plain.identity) == (None, None)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (PEER + "[tls]\nport = 2762\nca = 'x'", "tls.port: needs certificate and key"),
        (PEER + "[tls]\ncertificate = 'x'", "tls: certificate and key belong together"),
        (PEER + "[tls]\nport = 2762\ncertificate = 'x'\nkey = 'x'", "tls.ca: is missing"),
        (PEER + "[tls]\nplain = false", "tls.plain: with neither port nor tls.port no sender can connect"),
        (PEER + "[tls]\nplain = true\nport = 11112", "tls.port: is the port without TLS"),
        (PEER + "[tls]\nports = 1", "tls.ports: there is no such setting; did you mean 'port'?"),
        (PEER + f"certificate_sha256 = '{PRINT}'", "peers.1: a certificate needs TLS"),
        (PEER + "certificate_sha256 = 'abc'", "peers.1.certificate_sha256: a SHA-256 fingerprint has 64"),
        (PEER + TPS + "tls = true", "destinations.tps.tls: needs tls_ca"),
        (PEER + TPS + "tls_ca = 'x'", "destinations.tps.tls_ca: has no effect without tls = true"),
        (PEER + TPS + "tls = true\ntls_key = 'x'", "destinations.tps.tls: tls_certificate and tls_key"),
    ],
)
def test_contradicting_settings_are_reported(tmp_path: Path, text: str, line: str) -> None:
    assert line in problems(tmp_path, text)


def test_all_problems_are_reported_at_once_including_files(tmp_path: Path, clinic: Authority) -> None:
    open_pair, other = clinic.sign("open"), clinic.sign("other")
    open_pair.key.chmod(0o604)
    (tmp_path / "not.pem").write_text("hello")
    listed = problems(
        tmp_path,
        f'{PEER}[node]\nprot = 1\n[tls]\nport = 2762\nca = "gone.crt"\n'
        f'certificate = "{open_pair.certificate}"\nkey = "{open_pair.key}"\n'
        f'{TPS}tls = true\ntls_ca = "not.pem"\n'
        f'tls_certificate = "{open_pair.certificate}"\ntls_key = "{other.key}"\n',
    )
    for line in (
        "node.prot: there is no such setting; did you mean 'port'?",
        f"tls.ca: {tmp_path / 'gone.crt'} cannot be read: No such file or directory.",
        f"tls.certificate: {open_pair.key} is open to other users; run chmod 600 on it.",
        f"destinations.tps.tls_ca: {tmp_path / 'not.pem'} holds no certificates in PEM form.",
        f"destinations.tps.tls_certificate: {other.key} is not the key of {open_pair.certificate}.",
    ):
        assert line in listed


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620, 0o660, 0o601])
def test_a_key_that_others_can_read_is_refused(clinic: Authority, node_pair: Pair, mode: int) -> None:
    pair = clinic.sign(f"open{mode:o}")
    pair.key.chmod(mode)
    with pytest.raises(ConfigError, match="open to other users"):
        client_context(clinic.certificate, Identity(certificate=pair.certificate, key=pair.key))


def test_a_key_with_a_passphrase_is_refused_and_not_asked_for(tmp_path: Path, node_pair: Pair) -> None:
    locked = tmp_path / "locked.key"
    # a header is enough: the reader needs the passphrase first
    text = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,"
    locked.write_text(f"{text}{'0' * 32}\n\n{'A' * 64}\n-----END RSA PRIVATE KEY-----\n")
    locked.chmod(0o600)
    with pytest.raises(ConfigError, match="passphrase"):
        client_context(node_pair.certificate, Identity(certificate=node_pair.certificate, key=locked))


def test_a_connection_follows_bcp_195(clinic: Authority, node_pair: Pair) -> None:
    identity = Identity(certificate=node_pair.certificate, key=node_pair.key)
    client = client_context(clinic.certificate, None)
    server = server_context(identity, clinic.certificate, require=True)
    for context in (client, server):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.verify_mode is ssl.CERT_REQUIRED
        old = {each["name"] for each in context.get_ciphers() if each["protocol"] != "TLSv1.3"}
        assert old == set(CIPHERS.split(":"))
    assert client.check_hostname
    assert server_context(identity, clinic.certificate, require=False).verify_mode is ssl.CERT_OPTIONAL
    with pytest.raises(ConfigError, match=r"tls\.ca"):
        server_context(identity, None, require=True)


def test_the_expiry_of_a_certificate_is_read_from_its_file(clinic: Authority, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    for days in (3, -1, 365 * 40):  # forty years on is written as GeneralizedTime
        left = certificate_end(clinic.sign(f"lasts{days}", days=days).certificate) - now
        assert abs(left - timedelta(days=days)) < timedelta(minutes=5)
    (tmp_path / "not.pem").write_text("hello")
    for wrong in (tmp_path / "not.pem", tmp_path / "gone.pem"):
        with pytest.raises(ConfigError):
            certificate_end(wrong)


def test_a_title_is_bound_to_fingerprint_or_name() -> None:
    shown = PeerCertificate(sha256=PRINT, names=frozenset({"ct1", "ct1.clinic"}))
    capitals = ":".join(["AB"] * 32)
    assert Peer(ae_title="CT").accepts_certificate(None)
    assert Peer(ae_title="CT", certificate_sha256=capitals).accepts_certificate(shown)
    assert not Peer(ae_title="CT", certificate_sha256="cd" * 32).accepts_certificate(shown)
    assert Peer(ae_title="CT", certificate_name="CT1.clinic").accepts_certificate(shown)
    assert not Peer(ae_title="CT", certificate_name="clinic").accepts_certificate(shown)
    assert not Peer(ae_title="CT", certificate_sha256=PRINT, certificate_name="ct2").accepts_certificate(
        shown
    )
    assert not Peer(ae_title="CT", certificate_sha256=PRINT).accepts_certificate(None)
    assert peer_certificate(object()) is None


def test_a_destination_whose_tls_files_are_missing_is_tried_again(tmp_path: Path) -> None:
    place = {"ae_title": "A", "host": "127.0.0.1", "port": 1, "tls": True}
    for more, reason in (
        ({}, "No CA is configured"),
        ({"tls_ca": tmp_path / "gone.crt"}, "gone.crt cannot be read"),
    ):
        with pytest.raises(TlsFailed, match=reason) as caught:
            DicomSender().echo(Destination.model_validate(place | more), "B")
        assert caught.value.retryable


def error(reason: str) -> ssl.SSLError:
    made = ssl.SSLError(1, reason)
    made.reason = reason
    return made


@pytest.mark.parametrize(
    ("cause", "kind", "reason"),
    [
        (TimeoutError(), TlsFailed, "did not finish in time"),
        (ConnectionResetError(), TlsFailed, "closed the connection"),
        (ssl.SSLEOFError(8, "eof"), TlsFailed, "closed the connection"),
        (error("WRONG_VERSION_NUMBER"), TlsFailed, "does not use TLS"),
        (error("UNSUPPORTED_PROTOCOL"), TlsFailed, "not support TLS 1.2 or later"),
        (error("NO_SHARED_CIPHER"), TlsFailed, "no cipher suite"),
        (error("SOMETHING_NEW"), TlsFailed, "Something new."),
        (error("PEER_DID_NOT_RETURN_A_CERTIFICATE"), PeerCertificateRefused, "presented none"),
        (error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), OwnCertificateRefused, "none was presented"),
        (error("SSLV3_ALERT_CERTIFICATE_EXPIRED"), OwnCertificateRefused, "has expired"),
    ],
)
def test_why_tls_failed_is_described(cause: OSError, kind: type[Exception], reason: str) -> None:
    error_of_peer = tls_error(cause, "PACS at 10.0.0.1:2762")
    assert type(error_of_peer) is kind
    assert error_of_peer.detail.startswith("PACS at 10.0.0.1:2762: ")
    assert reason in error_of_peer.detail


def test_titles_without_certificate_and_an_open_plain_port_are_warned_of() -> None:
    peers = {
        "CT1": SenderCertificate(),
        "CT2": SenderCertificate(certificate_name="ct2.clinic"),
        "CT3": SenderCertificate(certificate_sha256="ab" * 32),
    }
    assert tls_warnings(TlsSection(), peers) == []
    (one,) = tls_warnings(TlsSection(port=2762), peers)
    assert "any certificate of tls.ca may call as CT1;" in one
    first, second = tls_warnings(TlsSection(port=2762, plain=True, require_certificate=False), peers)
    assert "port without TLS is open" in first
    assert "with no certificate, may call as CT1;" in second
    assert tls_warnings(TlsSection(port=2762), {"CT2": peers["CT2"]}) == []
