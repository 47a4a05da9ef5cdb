"""``orgseg echo``, ``orgseg send`` and ``orgseg doctor`` against a real archive on a loopback port."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from orgseg_node.node.config.node_config import NodeConfig, NodeSection, ReceiverSection
from orgseg_node.node.dimse.archive_scp import STORAGE_CLASSES, FolderArchive
from orgseg_node.node.dimse.storage_scp import Receiver
from tests.support.node.command_line import orgseg
from tests.support.peers.dcmtk import free_port

# pynetdicom 3.0 drops the socket of a refused connection without closing it
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _dropped_sockets_go_here() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "kept"


@pytest.fixture
def port(kept: Path) -> Iterator[int]:
    config = NodeConfig(
        node=NodeSection(ae_title="ARCHIVE", host="127.0.0.1", port=0, data_dir=kept),
        receiver=ReceiverSection(accept_any_calling_ae=True),
    )
    receiver = Receiver(config, FolderArchive(kept), storage=STORAGE_CLASSES)
    number = receiver.start()
    yield number
    receiver.stop()


@pytest.fixture
def closed_port() -> int:
    return free_port()


def test_a_peer_that_is_there_answers(capsys: pytest.CaptureFixture[str], port: int) -> None:
    answer = orgseg(capsys, "echo", f"ARCHIVE@127.0.0.1:{port}")
    assert (answer.status, answer.code) == (0, "")
    assert "answered" in answer.out


def test_an_unreachable_peer_is_a_coded_error(capsys: pytest.CaptureFixture[str], closed_port: int) -> None:
    answer = orgseg(capsys, "echo", f"ARCHIVE@127.0.0.1:{closed_port}")
    assert (answer.status, answer.code) == (1, "NETWORK_UNREACHABLE")
    assert "Next step: " in answer.err


def test_a_called_ae_title_the_peer_does_not_know_is_a_coded_error(
    capsys: pytest.CaptureFixture[str], port: int
) -> None:
    answer = orgseg(capsys, "echo", f"NOBODY@127.0.0.1:{port}")
    assert (answer.status, answer.code) == (1, "NETWORK_REJECTED")
    assert "called AE title" in answer.err


@pytest.mark.parametrize("dest", ["archive", "@127.0.0.1:104", "A@127.0.0.1", "A@127.0.0.1:70000", "A@h:0"])
def test_what_is_neither_a_name_nor_an_address_is_a_coded_error(
    capsys: pytest.CaptureFixture[str], dest: str
) -> None:
    answer = orgseg(capsys, "echo", dest)
    assert (answer.status, answer.code) == (1, "NETWORK_UNKNOWN_DESTINATION")


def test_a_series_that_is_sent_is_kept_byte_for_byte(
    capsys: pytest.CaptureFixture[str], port: int, kept: Path, ct_folder: Path
) -> None:
    answer = orgseg(capsys, "send", f"ARCHIVE@127.0.0.1:{port}", ct_folder)
    assert answer.status == 0
    sent = {str(ds.SOPInstanceUID): ds for ds in map(pydicom.dcmread, ct_folder.iterdir())}
    assert {path.stem for path in kept.iterdir()} == sent.keys()
    for path in kept.iterdir():
        assert pydicom.dcmread(path).PixelData == sent[path.stem].PixelData


def test_sending_to_an_unreachable_peer_is_a_coded_error(
    capsys: pytest.CaptureFixture[str], closed_port: int, ct_folder: Path
) -> None:
    answer = orgseg(capsys, "send", f"ARCHIVE@127.0.0.1:{closed_port}", ct_folder)
    assert (answer.status, answer.code) == (1, "NETWORK_UNREACHABLE")


def test_sending_what_is_not_dicom_is_a_coded_error(
    capsys: pytest.CaptureFixture[str], port: int, tmp_path: Path
) -> None:
    (tmp_path / "letter.txt").write_text("Dear colleague")
    answer = orgseg(capsys, "send", f"ARCHIVE@127.0.0.1:{port}", tmp_path / "letter.txt")
    assert (answer.status, answer.code) == (1, "INPUT_NOT_DICOM")


def node_toml(folder: Path, destination_port: int, own_port: int = 0) -> Path:
    path = folder / "node.toml"
    path.write_text(
        f'[node]\nport = {own_port}\nhost = "127.0.0.1"\n[[peers]]\nae_title = "CT"\n'
        f'[destinations.tps]\nae_title = "ARCHIVE"\nhost = "127.0.0.1"\nport = {destination_port}\n'
    )
    return path


def test_a_destination_can_be_named_by_the_configuration(
    capsys: pytest.CaptureFixture[str], port: int, tmp_path: Path
) -> None:
    config = node_toml(tmp_path, port)
    assert orgseg(capsys, "echo", "tps", "--config", config).status == 0
    answer = orgseg(capsys, "echo", "tpss", "--config", config)
    assert (answer.status, answer.code) == (1, "NETWORK_UNKNOWN_DESTINATION")
    assert "'tps'" in answer.err


def doctor(capsys: pytest.CaptureFixture[str], config: Path) -> dict[str, str]:
    answer = orgseg(capsys, "doctor", "--config", config, "--json")
    return {check["name"]: check["level"] for check in json.loads(answer.out)}


def test_the_doctor_asks_the_destinations_and_looks_at_the_port(
    capsys: pytest.CaptureFixture[str], port: int, closed_port: int, tmp_path: Path
) -> None:
    good = doctor(capsys, node_toml(tmp_path, port, own_port=closed_port))
    assert (good["destination tps"], good["port"]) == ("info", "info")
    bad = doctor(capsys, node_toml(tmp_path, closed_port, own_port=port))
    assert (bad["destination tps"], bad["port"]) == ("error", "error")
