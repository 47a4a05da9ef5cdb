"""Images in and results out by DICOMweb, with Orthanc and with a service that says what the test wants."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
from pydicom.uid import SegmentationStorage, generate_uid

from orgseg_node.errors import (
    NetworkError,
    NotAuthorised,
    NotDicom,
    OrgsegError,
    PeerCertificateRefused,
    StoreRefused,
    TlsFailed,
    Unreachable,
)
from orgseg_node.node.config.destinations import WebDestination
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.delivery.stow_client import StowClient
from orgseg_node.node.intake.inbox import Inbox
from orgseg_node.node.store.model import DeliveryState, JobState
from orgseg_node.node.store.store import Store
from orgseg_node.web.stow import stow_routes
from tests.support.ct.phantom import PhantomOptions, build_ct_series
from tests.support.node.leaks import LEAKS
from tests.support.node.node_process import running_node
from tests.support.peers.certificates import Authority
from tests.support.peers.dcmtk import free_port, storescp, storescu
from tests.support.peers.orthanc import Orthanc, orthanc
from tests.support.peers.web_server import serving

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
TOKEN = "a-token-of-the-scanner"  # noqa: S105  # of the tests
TYPE = 'multipart/related; type="application/dicom"; boundary=xyz'

pytestmark = [pytest.mark.endurance, *LEAKS]


@contextlib.contextmanager
def dicomweb(folder: Path, **more: Any) -> Iterator[Orthanc]:
    """Orthanc with its DICOMweb plug-in."""
    if not PLUGIN.exists():
        pytest.skip("Orthanc's DICOMweb plug-in is not installed")
    with orthanc(
        folder, Plugins=[str(PLUGIN)], DicomWeb={"Enable": True, "Root": "/dicom-web/", **more}
    ) as one:
        yield one


class Door:
    """The node's inbox behind HTTP."""

    def __init__(self, folder: Path, **stow: Any) -> None:
        tokens = folder / "tokens"
        tokens.write_text(f"# who sends\nCT_SCANNER {hashlib.sha256(TOKEN.encode()).hexdigest()}\n")
        tokens.chmod(0o600)
        self.config = NodeConfig.model_validate(
            {
                "node": {"data_dir": folder / "data"},
                "receiver": {"min_free_mb": 1, "quiet_seconds": 0.1},
                "peers": [{"ae_title": "CT_SCANNER", "networks": ["127.0.0.0/8"]}],
                "stow": {"tokens": tokens, **stow},
            }
        )
        self.store = Store(self.config.node.data_dir)
        self.inbox = Inbox(self.config, self.store)

    @contextlib.contextmanager
    def open(self) -> Iterator[str]:
        with serving(stow_routes(self.inbox, self.config)) as port:
            yield f"http://127.0.0.1:{port}/dicomweb/studies"
        self.store.close()


def body(*contents: bytes, end: bytes = b"--xyz--\r\n") -> bytes:
    parts = [b"--xyz\r\nContent-Type: application/dicom\r\n\r\n" + one + b"\r\n" for one in contents]
    return b"".join(parts) + end


def post(url: str, content: bytes, token: str = TOKEN, **headers: str) -> httpx.Response:
    said = {"Content-Type": TYPE, "Authorization": f"Bearer {token}", **headers}
    with httpx.Client(trust_env=False) as client:
        return client.post(url, content=content, headers=said)


def uids(answer: dict[str, Any], tag: str) -> list[str]:
    return [item["00081155"]["Value"][0] for item in answer.get(tag, {}).get("Value", [])]


def reasons(answer: dict[str, Any], tag: str = "00081198") -> list[int]:
    return [item["00081197"]["Value"][0] for item in answer.get(tag, {}).get("Value", [])]


@pytest.fixture
def images(tmp_path: Path) -> list[bytes]:
    files = build_ct_series(tmp_path / "ct", PhantomOptions(slices=3, rows=16, columns=16))
    return [file.read_bytes() for file in files]


def changed(image: bytes, folder: Path, **attributes: Any) -> bytes:
    """The same image with other attributes."""
    path = folder / "changed.dcm"
    path.write_bytes(image)
    dataset = pydicom.dcmread(path)
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
    return path.read_bytes()


@pytest.mark.peer
def test_orthanc_stores_at_the_node_by_http(tmp_path: Path, images: list[bytes]) -> None:
    door = Door(tmp_path)
    with (
        door.open() as url,
        dicomweb(
            tmp_path / "archive",
            Servers={
                "orgseg": {
                    "Url": url.removesuffix("/studies"),
                    "HttpHeaders": {"Authorization": f"Bearer {TOKEN}"},
                }
            },
        ) as archive,
    ):
        names = [archive.upload(image) for image in images]
        archive.post("/dicom-web/servers/orgseg/stow", {"Resources": names, "Synchronous": True})
        (series,) = door.store.series()
        assert series.instances == len(images)
        assert series.calling_ae == "CT_SCANNER"
        for instance in door.store.instances_of(series.series_uid):
            kept = pydicom.dcmread(door.config.node.data_dir / instance.path)
            assert kept == next(one for one in map(_read, images) if one.SOPInstanceUID == instance.sop_uid)


def _read(content: bytes) -> pydicom.FileDataset:
    return pydicom.dcmread(pydicom.filebase.DicomBytesIO(content))


def test_each_instance_has_its_own_answer(tmp_path: Path, images: list[bytes]) -> None:
    door = Door(tmp_path)
    sop_uids = [str(_read(image).SOPInstanceUID) for image in images]
    foreign = changed(images[0], tmp_path, SOPClassUID="1.2.3.4", SOPInstanceUID=generate_uid())
    with door.open() as url:
        whole = post(url, body(*images[:2]))
        assert whole.status_code == 200
        assert whole.headers["content-type"] == "application/dicom+json"
        assert uids(whole.json(), "00081199") == sop_uids[:2]

        mixed = post(url, body(foreign, images[2], b"no DICOM"))
        assert mixed.status_code == 202
        assert uids(mixed.json(), "00081199") == [sop_uids[2]]
        assert reasons(mixed.json()) == [0x0122]
        assert reasons(mixed.json(), "0008119A") == [0xC000]

        assert post(url, body(images[0])).status_code == 200, "again, it is the same"
        other = post(f"{url}/1.2.3", body(images[0]))
        assert (other.status_code, reasons(other.json())) == (409, [0xA900])
        study = str(_read(images[0]).StudyInstanceUID)
        assert post(f"{url}/{study}", body(images[0])).status_code == 200
        assert post(f"{url}/a..b", body(images[0])).status_code == 400
        (series,) = door.store.series()
        assert series.instances == 3


@pytest.mark.parametrize(
    ("receiver", "peer", "reason"),
    [
        ({}, {}, None),
        ({"other_classes": "refuse"}, {}, 0x0122),
        ({}, {"sop_classes": ["CT"]}, 0x0122),
    ],
)
def test_other_classes_are_set_aside_or_refused_as_by_c_store(
    tmp_path: Path, images: list[bytes], receiver: dict[str, Any], peer: dict[str, Any], reason: int | None
) -> None:
    door = Door(tmp_path)
    door.config = NodeConfig.model_validate(
        {
            **door.config.model_dump(),
            "receiver": {"min_free_mb": 1, **receiver},
            "peers": [{"ae_title": "CT_SCANNER", "networks": ["127.0.0.0/8"], **peer}],
        }
    )
    other = changed(images[0], tmp_path, SOPClassUID=SegmentationStorage, SOPInstanceUID=generate_uid())
    with door.open() as url:
        answer = post(url, body(other))
    assert reasons(answer.json()) == ([] if reason is None else [reason])
    assert len(door.store.series()) == (reason is None)


def test_a_broken_body_keeps_what_was_whole_and_says_so(tmp_path: Path, images: list[bytes]) -> None:
    door = Door(tmp_path, max_part_mb=1, max_total_mb=2)
    with door.open() as url:
        broken = post(url, body(*images[:2], end=b""))
        assert broken.status_code == 400
        assert len(uids(broken.json(), "00081199")) == 1, "the second part never ended"
        large = post(url, body(images[2], b"x" * 1_100_000))
        assert large.status_code == 413
        assert len(uids(large.json(), "00081199")) == 1
        assert post(url, body(*[b"x" * 900_000] * 3)).status_code == 413
        (series,) = door.store.series()
        assert series.instances == 2


def test_only_those_with_a_token_from_their_network_are_heard(tmp_path: Path, images: list[bytes]) -> None:
    door = Door(tmp_path)
    with door.open() as url:
        stranger = post(url, body(*images), token="other")  # noqa: S106
        assert stranger.status_code == 401
        assert stranger.headers["www-authenticate"].startswith("Bearer")
        assert post(url, body(*images), Authorization="Basic YTpi").status_code == 401
        assert post(url, body(*images), Accept="application/dicom+xml").status_code == 406
        assert post(url, body(*images), **{"Content-Type": "application/dicom"}).status_code == 415
        assert post(url, b"").status_code == 400
        door.config.stow.tokens.chmod(0o644)  # type: ignore[union-attr]
        assert post(url, body(*images)).status_code == 503
        assert door.store.series() == []
    elsewhere = door.config.peers[0].model_copy(update={"networks": ("10.0.0.0/8",)})
    door.config.stow.tokens.chmod(0o600)  # type: ignore[union-attr]
    door.config = door.config.model_copy(update={"peers": (elsewhere,)})
    with door.open() as url:
        assert post(url, body(*images)).status_code == 403


def test_a_disk_that_is_full_makes_the_sender_come_again(tmp_path: Path, images: list[bytes]) -> None:
    door = Door(tmp_path)
    full = door.config.receiver.model_copy(update={"min_free_mb": 10**9})
    door.inbox = Inbox(door.config.model_copy(update={"receiver": full}), door.store)
    with door.open() as url:
        answer = post(url, body(*images))
        assert answer.status_code == 503
        assert reasons(answer.json()) == [0xA700] * 3
        assert int(answer.headers["retry-after"]) > 0


def test_one_who_says_nothing_gives_his_place_back(tmp_path: Path, images: list[bytes]) -> None:
    door = Door(tmp_path, at_once=1, idle_timeout_s=0.5)
    head = (
        "POST /dicomweb/studies HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
        f"Content-Type: {TYPE}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    )
    with door.open() as url:
        port = int(url.split(":")[2].split("/")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as slow:
            slow.sendall(head.encode())
            assert b" 408 " in slow.recv(4096)
        assert post(url, body(*images)).status_code == 200


def test_one_byte_at_a_time_does_not_hold_a_slot(tmp_path: Path, images: list[bytes]) -> None:
    door = Door(tmp_path, at_once=1, idle_timeout_s=5, part_timeout_s=1)
    head = (
        "POST /dicomweb/studies HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
        f"Content-Type: {TYPE}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        "--xyz\r\nContent-Type: application/dicom\r\n\r\n"
    )
    with door.open() as url:
        port = int(url.split(":")[2].split("/")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=0.1) as slow:
            slow.sendall(head.encode())
            answer = b""
            for _ in range(50):
                with contextlib.suppress(OSError):
                    slow.sendall(b"x")
                with contextlib.suppress(TimeoutError):
                    answer = slow.recv(4096)
                    break
        assert b" 408 " in answer
        assert b"connection: close" in answer.lower()
        assert post(url, body(*images)).status_code == 200


def test_the_body_of_a_refused_request_is_not_read(tmp_path: Path) -> None:
    door = Door(tmp_path)
    head = (
        "POST /dicomweb/studies HTTP/1.1\r\nHost: x\r\nContent-Length: 900000000\r\n"
        f"Content-Type: {TYPE}\r\n\r\n"
    )
    with door.open() as url:
        port = int(url.split(":")[2].split("/")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as stranger:
            stranger.sendall(head.encode())
            answer = b"".join(iter(lambda: stranger.recv(4096), b""))
            assert b" 401 " in answer
            assert b"connection: close" in answer.lower()


def test_the_service_is_off_by_default() -> None:
    config = NodeConfig.model_validate({"receiver": {"accept_any_calling_ae": True}})
    assert stow_routes(None, config) == []  # type: ignore[arg-type]


@pytest.mark.peer
def test_results_go_to_a_web_archive_as_the_same_objects(tmp_path: Path, ct_folder: Path) -> None:
    port = free_port()
    with dicomweb(tmp_path / "archive") as archive, storescp(tmp_path / "tps", port, "-aet", "TPS"):
        place = f'[destinations.web]\nurl = "http://127.0.0.1:{archive.http_port}/dicom-web"\n'
        with running_node(tmp_path, port, inference=place) as node:
            pushed = storescu(node.port, sorted(ct_folder.iterdir()), "-aec", "ORGSEG")
            assert pushed.returncode == 0, pushed.stdout
            job = node.job_in(JobState.DONE)
            with contextlib.closing(node.store()) as store:
                found = [d for d in store.deliveries(job.job_id) if d.destination == "web"]
            assert {d.role for d in found} == {"RTSTRUCT", "SEG"}
            assert {(d.state, d.status, d.note) for d in found} == {(DeliveryState.STORED, 0, "")}
            for delivery in found:
                instance = archive.find(delivery.sop_uid)
                sent = (node.data / delivery.path).read_bytes()
                assert archive.get(f"/instances/{instance}/file") == sent
            assert node.stop() == 0


class Service:
    """A web service that answers as the test says."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.status = 200
        self.answer: Any = {}
        self.seen: list[dict[str, str]] = []
        self.bodies: list[bytes] = []


@pytest.fixture
def service() -> Iterator[Service]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.seen.append(dict(self.headers))
            made.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            content = made.answer if isinstance(made.answer, bytes) else json.dumps(made.answer).encode()
            self.send_response(made.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Service(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@pytest.fixture
def file(tmp_path: Path, images: list[bytes]) -> Path:
    path = tmp_path / "one.dcm"
    path.write_bytes(images[0])
    return path


def said(file: Path, *, reason: int | None = None, warning: int | None = None) -> dict[str, Any]:
    item: dict[str, Any] = {"00081155": {"vr": "UI", "Value": [str(pydicom.dcmread(file).SOPInstanceUID)]}}
    if warning is not None:
        item["00081196"] = {"vr": "US", "Value": [warning]}
    if reason is None:
        return {"00081199": {"vr": "SQ", "Value": [item]}}
    item["00081197"] = {"vr": "US", "Value": [reason]}
    return {"00081198": {"vr": "SQ", "Value": [item]}}


def test_an_objects_own_entry_counts_more_than_the_status(service: Service, file: Path) -> None:
    place = WebDestination(url=service.url)
    service.answer = said(file)
    assert (StowClient().send(place, "ORGSEG", file).status, service.bodies[0].count(b"DICM")) == (0, 1)
    assert file.read_bytes() in service.bodies[0]
    service.status, service.answer = 202, said(file, warning=0xB000)
    assert StowClient().send(place, "ORGSEG", file).status == 0xB000
    service.status, service.answer = 200, said(file, reason=0xA700)
    with pytest.raises(StoreRefused) as caught:
        StowClient().send(place, "ORGSEG", file)
    assert caught.value.status == 0xA700
    service.answer = b"thank you"
    assert "no list" in StowClient().send(place, "ORGSEG", file).note
    service.status = 202
    with pytest.raises(StoreRefused):
        StowClient().send(place, "ORGSEG", file)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, StoreRefused), (400, StoreRefused), (409, StoreRefused), (415, StoreRefused),
        (401, NotAuthorised), (403, NotAuthorised),
        (408, Unreachable), (429, Unreachable), (500, Unreachable), (503, Unreachable),
    ],
)  # fmt: skip
def test_a_status_is_what_it_means(
    service: Service, file: Path, status: int, kind: type[NetworkError]
) -> None:
    service.status = status
    with pytest.raises(NetworkError, match=str(status)) as caught:
        StowClient().send(WebDestination(url=service.url), "ORGSEG", file)
    assert type(caught.value) is kind
    assert caught.value.retryable


def test_one_bad_file_harms_no_other_and_secrets_come_from_files(
    service: Service, file: Path, tmp_path: Path
) -> None:
    bad, secret = tmp_path / "bad.dcm", tmp_path / "token"
    bad.write_bytes(b"no")
    secret.write_text("t0ken\n")
    secret.chmod(0o600)
    place = WebDestination(url=service.url, token_file=secret)
    answers = list(StowClient().send_each(place, "ORGSEG", [bad, file]))
    assert isinstance(answers[0], NotDicom)
    assert not isinstance(answers[1], OrgsegError)
    assert service.seen[0]["Authorization"] == "Bearer t0ken"
    secret.chmod(0o644)
    (answer,) = StowClient().send_each(place, "ORGSEG", [file])
    assert isinstance(answer, NotAuthorised)
    assert "t0ken" not in str(answer)
    basic = WebDestination(url=service.url, user="node", password_file=secret)
    secret.chmod(0o600)
    StowClient().send(basic, "ORGSEG", file)
    assert service.seen[-1]["Authorization"].startswith("Basic ")


def test_nobody_there_is_unreachable(file: Path) -> None:
    place = WebDestination(url=f"http://127.0.0.1:{free_port()}", timeout_s=2)
    with pytest.raises(Unreachable):
        StowClient().send(place, "ORGSEG", file)
    with pytest.raises(Unreachable):
        StowClient().echo(place, "ORGSEG")


def test_a_certificate_is_always_verified(tmp_path: Path, images: list[bytes], file: Path) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    pair, old = authority.sign("archive"), authority.sign("old", days=-1)
    door, secret = Door(tmp_path), tmp_path / "secret"
    secret.write_text(TOKEN)
    secret.chmod(0o600)

    def place(port: int, ca: Path | None) -> WebDestination:
        return WebDestination(
            url=f"https://127.0.0.1:{port}/dicomweb", token_file=secret, ca_file=ca, timeout_s=5
        )

    routes = stow_routes(door.inbox, door.config)
    tls = {"ssl_certfile": str(pair.certificate), "ssl_keyfile": str(pair.key)}
    with serving(routes, **tls) as port:
        assert StowClient().send(place(port, authority.certificate), "ORGSEG", file).status == 0
        for ca in (stranger.certificate, None):
            with pytest.raises(PeerCertificateRefused):
                StowClient().send(place(port, ca), "ORGSEG", file)
        plain = place(port, None).model_copy(update={"url": f"http://127.0.0.1:{port}/dicomweb"})
        with pytest.raises(NetworkError):
            StowClient().send(plain, "ORGSEG", file)
    tls = {"ssl_certfile": str(old.certificate), "ssl_keyfile": str(old.key)}
    with serving(routes, **tls) as port, pytest.raises(PeerCertificateRefused, match="expired"):
        StowClient().send(place(port, authority.certificate), "ORGSEG", file)
    with serving(routes) as port, pytest.raises(TlsFailed):
        StowClient().send(place(port, authority.certificate), "ORGSEG", file)
    door.store.close()
