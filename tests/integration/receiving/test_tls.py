"""DICOM over TLS both ways, with DCMTK and openssl as peers: who gets in, who does not, and what is said."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
import structlog

from orgseg_node.errors import (
    ConfigError,
    NetworkError,
    OwnCertificateRefused,
    PeerCertificateRefused,
    PortTaken,
    TlsFailed,
    Unreachable,
)
from orgseg_node.node.config.node_config import Destination, NodeConfig
from orgseg_node.node.dimse.archive_scp import STORAGE_CLASSES, FolderArchive
from orgseg_node.node.dimse.storage_scp import Receiver
from orgseg_node.node.dimse.storage_scu import DicomSender
from tests.support.node.command_line import orgseg
from tests.support.node.leaks import LEAKS, collect
from tests.support.peers.certificates import Authority, Pair
from tests.support.peers.dcmtk import echoscu, free_port, storescp, storescu

pytestmark = [pytest.mark.endurance, *LEAKS]

TO_NODE = ("-aec", "ORGSEG")


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("clinic"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "strange-ca")


@pytest.fixture(scope="module")
def node_pair(clinic: Authority) -> Pair:
    return clinic.sign("node")


@pytest.fixture(scope="module")
def peer_pair(clinic: Authority) -> Pair:
    return clinic.sign("peer", rsa=True)


Listen = Callable[..., Receiver]


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "kept"


@pytest.fixture
def listen(kept: Path, clinic: Authority, node_pair: Pair) -> Iterator[Listen]:
    receivers = []

    def start(pair: Pair = node_pair, peers: Any = (), **tls: Any) -> Receiver:
        own = {"port": 0, "plain": False, "ca": clinic.certificate}
        own |= {"certificate": pair.certificate, "key": pair.key}
        values = {
            "node": {"host": "127.0.0.1", "port": 0, "data_dir": kept},
            "receiver": {"accept_any_calling_ae": not peers},
            "peers": peers,
            "tls": own | tls,
        }
        receiver = Receiver(NodeConfig.model_validate(values), FolderArchive(kept), storage=STORAGE_CLASSES)
        receivers.append(receiver)
        receiver.start()
        return receiver

    yield start
    for receiver in receivers:
        receiver.stop()


def tls(pair: Pair, authority: Authority) -> tuple[str, ...]:
    """Options with which DCMTK speaks TLS."""
    return ("+tls", str(pair.key), str(pair.certificate), "+cf", str(authority.certificate))


def calling(port: int | None, authority: Authority, pair: Pair | None, **more: Any) -> Destination:
    """The node under test, or a peer, as a destination."""
    assert port is not None
    shown = {} if pair is None else {"tls_certificate": pair.certificate, "tls_key": pair.key}
    values = {"ae_title": "ORGSEG", "host": "127.0.0.1", "port": port, "timeout_s": 5} | shown
    return Destination.model_validate(values | {"tls": True, "tls_ca": authority.certificate} | more)


def refusal(destination: Destination) -> NetworkError:
    with pytest.raises(NetworkError) as caught:
        DicomSender().echo(destination, "PEER")
    return caught.value


def failures(logs: list[Any]) -> list[tuple[str, str]]:
    return [(line["code"], line["why"]) for line in logs if line["event"] == "tls failed"]


# ------------------------------------------------------------------ the node is called


def test_once_there_is_tls_the_plain_port_is_closed_unless_it_is_asked_for(
    kept: Path, clinic: Authority, node_pair: Pair
) -> None:
    port = free_port()
    tls_files = {"ca": clinic.certificate, "certificate": node_pair.certificate, "key": node_pair.key}
    for plain, is_open in (({}, False), ({"plain": True}, True)):
        values = {
            "node": {"host": "127.0.0.1", "port": port, "data_dir": kept},
            "receiver": {"accept_any_calling_ae": True},
            "tls": {"port": 0, **tls_files, **plain},
        }
        receiver = Receiver(NodeConfig.model_validate(values), FolderArchive(kept), storage=STORAGE_CLASSES)
        receiver.start()
        try:
            with socket.socket() as probe:
                probe.settimeout(5)
                assert (probe.connect_ex(("127.0.0.1", port)) == 0) is is_open
        finally:
            receiver.stop()


@pytest.mark.peer
def test_a_series_that_dcmtk_sends_by_tls_is_kept(
    listen: Listen, clinic: Authority, peer_pair: Pair, ct_folder: Path, kept: Path
) -> None:
    files = sorted(ct_folder.iterdir())
    receiver = listen()
    assert receiver.tls_port is not None
    sent = storescu(receiver.tls_port, files, *TO_NODE, *tls(peer_pair, clinic))
    assert sent.returncode == 0, sent.stderr
    assert {path.stem for path in kept.iterdir()} == {pydicom.dcmread(f).SOPInstanceUID for f in files}


@pytest.mark.peer
def test_the_plain_port_can_stay_open_beside_it_or_be_closed(
    listen: Listen, clinic: Authority, peer_pair: Pair
) -> None:
    plain_port = free_port()
    shut = listen()
    both = Receiver(shut._config.model_copy(update={
        "node": shut._config.node.model_copy(update={"port": plain_port}),
        "tls": shut._config.tls.model_copy(update={"plain": True}),
    }), shut._inbox)  # fmt: skip
    assert echoscu(plain_port, *TO_NODE).returncode != 0
    try:
        assert both.start() == plain_port
        assert both.tls_port is not None
        assert echoscu(plain_port, *TO_NODE).returncode == 0
        assert echoscu(both.tls_port, *TO_NODE, *tls(peer_pair, clinic)).returncode == 0
    finally:
        both.stop()


@pytest.mark.peer
def test_a_plain_caller_at_the_tls_port_is_refused_and_logged(listen: Listen) -> None:
    receiver = listen()
    assert receiver.tls_port is not None
    with structlog.testing.capture_logs() as logs:
        assert echoscu(receiver.tls_port, *TO_NODE).returncode != 0
        wait_for_failure(logs)
    assert failures(logs) == [("NETWORK_TLS", "caller: It does not use TLS.")]


def test_a_caller_that_is_refused_is_let_go_without_a_reset_that_could_destroy_the_alert(
    listen: Listen,
) -> None:
    with socket.create_connection(("127.0.0.1", listen().tls_port), timeout=5) as line:
        line.sendall(b"\x01\x00" * 8000)
        while line.recv(100):
            pass
        time.sleep(0.2)
        assert line.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def wait_for_failure(logs: list[Any]) -> None:
    end = time.monotonic() + 5
    while not failures(logs) and time.monotonic() < end:
        time.sleep(0.02)


@pytest.mark.peer
def test_a_caller_whose_certificate_is_not_accepted_is_told_and_logged(
    listen: Listen, clinic: Authority, stranger: Authority
) -> None:
    receiver = listen()
    for pair, said in (
        (stranger.sign("wrong"), "No trusted certificate authority signed it."),
        (clinic.sign("late", days=-1), "It has expired."),
        (None, "It presented none."),
    ):
        with structlog.testing.capture_logs() as logs:
            error = refusal(calling(receiver.tls_port, clinic, pair))
            wait_for_failure(logs)
        assert failures(logs) == [("NETWORK_TLS_PEER_CERTIFICATE", f"caller: {said}")]
        assert isinstance(error, OwnCertificateRefused)
        assert error.retryable


@pytest.mark.peer
def test_dcmtk_with_a_wrong_certificate_is_refused(
    listen: Listen, clinic: Authority, stranger: Authority, ct_folder: Path, kept: Path
) -> None:
    receiver = listen()
    assert receiver.tls_port is not None
    files = sorted(ct_folder.iterdir())[:1]
    for pair in (stranger.sign("wrong2"), clinic.sign("late2", days=-1)):
        assert storescu(receiver.tls_port, files, *TO_NODE, *tls(pair, clinic)).returncode != 0
    assert not kept.exists() or not list(kept.iterdir())


def test_certificates_of_callers_may_be_left_out_where_the_clinic_says_so(
    listen: Listen, clinic: Authority, stranger: Authority
) -> None:
    receiver = listen(require_certificate=False)
    DicomSender().echo(calling(receiver.tls_port, clinic, None), "PEER")
    shown = refusal(calling(receiver.tls_port, clinic, stranger.sign("wrong3")))
    assert isinstance(shown, OwnCertificateRefused)


def test_tls_before_1_2_is_refused(listen: Listen, clinic: Authority, peer_pair: Pair) -> None:
    port = listen().tls_port
    for version, answered in (("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)):
        assert handshake(port, clinic, peer_pair, version, "-cipher", "ALL@SECLEVEL=0") == answered


def test_ciphers_without_forward_secrecy_or_authenticated_encryption_are_refused(
    listen: Listen, clinic: Authority, peer_pair: Pair
) -> None:
    port = listen().tls_port
    for suite in ("AES256-GCM-SHA384", "ECDHE-ECDSA-AES256-SHA384", "NULL-SHA256"):
        assert not handshake(port, clinic, peer_pair, "-tls1_2", "-cipher", f"{suite}@SECLEVEL=0")
    assert handshake(port, clinic, peer_pair, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384")


def handshake(port: int | None, clinic: Authority, pair: Pair, *options: str) -> bool:
    """Whether openssl's own client comes to an agreement."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options]
    command += ["-CAfile", str(clinic.certificate), "-cert", str(pair.certificate), "-key", str(pair.key)]
    done = subprocess.run(command, input="", capture_output=True, check=False, text=True, timeout=30)
    return "Verify return code: 0 (ok)" in done.stdout and "Cipher is (NONE)" not in done.stdout


def test_a_caller_who_says_nothing_holds_up_nobody_else(
    listen: Listen, clinic: Authority, peer_pair: Pair
) -> None:
    receiver = listen()
    silent = [socket.create_connection(("127.0.0.1", receiver.tls_port)) for _ in range(8)]
    try:
        begin = time.monotonic()
        DicomSender().echo(calling(receiver.tls_port, clinic, peer_pair), "PEER")
        assert time.monotonic() - begin < 3
    finally:
        for line in silent:
            line.close()


def test_an_ae_title_can_be_bound_to_its_certificate(
    listen: Listen, clinic: Authority, peer_pair: Pair
) -> None:
    other = clinic.sign("other")
    peers = [
        {"ae_title": "PRINT", "certificate_sha256": peer_pair.sha256},
        {"ae_title": "NAME", "certificate_name": "peer.clinic"},
        {"ae_title": "FREE"},
    ]
    receiver = listen(peers=peers)
    for title, pair, fits in (
        ("PRINT", peer_pair, True),
        ("PRINT", other, False),
        ("NAME", peer_pair, True),
        ("NAME", other, False),
        ("FREE", other, True),
    ):
        destination = calling(receiver.tls_port, clinic, pair)
        if fits:
            DicomSender().echo(destination, title)
            continue
        with pytest.raises(NetworkError) as caught:
            DicomSender().echo(destination, title)
        assert caught.value.code == "NETWORK_REJECTED"


def test_a_bound_ae_title_cannot_come_by_the_plain_port(
    listen: Listen, clinic: Authority, peer_pair: Pair
) -> None:
    peers = [{"ae_title": "PRINT", "certificate_sha256": peer_pair.sha256}, {"ae_title": "FREE"}]
    receiver = listen(peers=peers, plain=True)
    plain = next(s.server_address[1] for s in receiver._servers if s.ssl_context is None)
    destination = Destination(ae_title="ORGSEG", host="127.0.0.1", port=plain, timeout_s=5)
    DicomSender().echo(destination, "FREE")
    with pytest.raises(NetworkError) as caught:
        DicomSender().echo(destination, "PRINT")
    assert caught.value.code == "NETWORK_REJECTED"


def test_failed_handshakes_leave_no_thread_behind(
    listen: Listen, clinic: Authority, stranger: Authority
) -> None:
    receiver = listen()
    before = threading.active_count()
    wrong = stranger.sign("wrong4")
    for _ in range(5):
        refusal(calling(receiver.tls_port, clinic, wrong))
    end = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.05)
    assert threading.active_count() <= before


def test_a_tls_port_that_is_taken_closes_the_plain_one_again(listen: Listen) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        collect()
        before = threading.active_count()
        with pytest.raises(PortTaken):
            listen(port=taken.getsockname()[1], plain=True)
        assert threading.active_count() == before


def test_a_certificate_that_ends_soon_is_logged_and_a_key_open_to_others_stops_the_start(
    listen: Listen, clinic: Authority
) -> None:
    with structlog.testing.capture_logs() as logs:
        listen()
    assert [line["days_left"] for line in logs if "expires soon" in line["event"]] == [2]
    pair = clinic.sign("open")
    pair.key.chmod(0o644)
    with pytest.raises(ConfigError, match="open to other users"):
        listen(pair)


# ------------------------------------------------------------------ the node calls


@pytest.fixture
def peer(tmp_path: Path, clinic: Authority, peer_pair: Pair) -> Iterator[int]:
    port = free_port()
    with storescp(tmp_path / "peer", port, *tls(peer_pair, clinic)):
        yield port


@pytest.mark.peer
def test_dcmtk_takes_what_is_sent_by_tls(
    peer: int, clinic: Authority, node_pair: Pair, ct_folder: Path, tmp_path: Path
) -> None:
    files = sorted(ct_folder.iterdir())
    stored = DicomSender().send_all(calling(peer, clinic, node_pair), "ORGSEG", files)
    assert [answer.status for answer in stored] == [0] * len(files)
    assert len(list((tmp_path / "peer").iterdir())) == len(files)


@pytest.mark.peer
def test_dcmtk_wants_a_certificate_of_the_clinic(
    peer: int, clinic: Authority, stranger: Authority, node_pair: Pair
) -> None:
    for pair in (None, stranger.sign("wrong5"), clinic.sign("late5", days=-1)):
        assert isinstance(refusal(calling(peer, clinic, pair)), (OwnCertificateRefused, TlsFailed))
    DicomSender().echo(calling(peer, clinic, node_pair), "ORGSEG")


def test_a_peer_whose_certificate_is_wrong_is_not_sent_to(
    listen: Listen, clinic: Authority, stranger: Authority, node_pair: Pair
) -> None:
    for own, trusted, name, said in (
        (clinic.sign("late6", days=-1), clinic, None, "It has expired"),
        (node_pair, stranger, None, "No trusted certificate authority signed it"),
        (node_pair, clinic, "tps.clinic", "It belongs to another host name"),
    ):
        port = listen(own).tls_port
        error = refusal(calling(port, trusted, node_pair, **({"tls_name": name} if name else {})))
        assert isinstance(error, PeerCertificateRefused)
        assert error.detail == f"ORGSEG at 127.0.0.1:{port}: {said}."
    DicomSender().echo(calling(listen().tls_port, clinic, node_pair, tls_name="node.clinic"), "PEER")


def test_the_certificate_of_the_peer_itself_can_be_trusted_in_place_of_who_signed_it(
    listen: Listen, clinic: Authority, node_pair: Pair, peer_pair: Pair
) -> None:
    port = listen().tls_port
    DicomSender().echo(calling(port, clinic, peer_pair, tls_ca=node_pair.certificate), "PEER")
    other = refusal(calling(port, clinic, peer_pair, tls_ca=peer_pair.certificate))
    assert isinstance(other, PeerCertificateRefused)


@pytest.mark.peer
def test_a_peer_that_speaks_no_tls_or_is_not_there_is_told_apart(
    tmp_path: Path, clinic: Authority, node_pair: Pair
) -> None:
    port = free_port()
    with storescp(tmp_path / "plain", port):
        assert isinstance(refusal(calling(port, clinic, node_pair)), TlsFailed)
    assert isinstance(refusal(calling(port, clinic, node_pair)), Unreachable)


def test_echo_and_send_use_what_the_configuration_says_of_a_destination(
    listen: Listen,
    clinic: Authority,
    peer_pair: Pair,
    tmp_path: Path,
    ct_folder: Path,
    kept: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    port = listen().tls_port
    config = tmp_path / "node.toml"
    common = f'[[peers]]\nae_title = "CT"\n[tls]\nca = "{clinic.certificate}"\n'
    own = f'certificate = "{peer_pair.certificate}"\nkey = "{peer_pair.key}"\n'
    place = f'[destinations.tps]\nae_title = "ORGSEG"\nhost = "127.0.0.1"\nport = {port}\ntls = true\n'
    config.write_text(common + own + place)
    assert orgseg(capsys, "echo", "tps", "--config", config).status == 0
    assert orgseg(capsys, "send", "tps", ct_folder, "--config", config).status == 0
    assert len(list(kept.iterdir())) == len(list(ct_folder.iterdir()))
    config.write_text(common + place)
    answer = orgseg(capsys, "echo", "tps", "--config", config)
    assert (answer.status, answer.code) == (1, "NETWORK_TLS_OWN_CERTIFICATE")


def test_the_doctor_tells_of_certificates_that_end_soon(
    clinic: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, days, level in (("lasting", 400, "info"), ("ending", 20, "warning"), ("ended", -1, "error")):
        pair = clinic.sign(name, days=days)
        config = tmp_path / "node.toml"
        config.write_text(
            f'[node]\nport = 0\n[[peers]]\nae_title = "CT"\n[tls]\nca = "{clinic.certificate}"\n'
            f'certificate = "{pair.certificate}"\nkey = "{pair.key}"\n'
        )
        answer = orgseg(capsys, "doctor", "--config", config, "--json")
        assert {c["name"]: c["level"] for c in json.loads(answer.out)}[f"certificate {name}.crt"] == level
