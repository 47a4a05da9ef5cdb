"""What a sender promises, proven on real DICOM associations and on the one that stands in for them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import Verification

from orgseg_node.errors import AssociationRejected, NotDicom, StoreRefused, Unreachable
from orgseg_node.node.config.node_config import Destination
from orgseg_node.node.dimse.storage_scu import DicomSender, Stored
from tests.support.ct.phantom import PhantomOptions, build_ct_series
from tests.support.node.leaks import LEAKS
from tests.support.node.memory_sender import MemorySender
from tests.support.peers.dcmtk import free_port, storescp

pytestmark = LEAKS


class RealPeer:
    """A C-STORE SCP of this process, and a real sender to it."""

    def __init__(self, *, storage: bool = True) -> None:
        self.sender = DicomSender()
        self.received: list[str] = []
        self.associations: set[int] = set()
        self.statuses: dict[str, int] = {}
        self.breaks_at = ""
        self.status = 0
        ae = AE(ae_title="TPS")
        ae.require_called_aet = True
        ae.require_calling_aet = ["ORGSEG"]
        ae.add_supported_context(Verification)
        if storage:
            ae.add_supported_context(CTImageStorage, ExplicitVRLittleEndian)
        handlers: list[Any] = [(evt.EVT_C_STORE, self._store)]
        self.server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.destination = Destination(
            ae_title="TPS", host="127.0.0.1", port=self.server.server_address[1], timeout_s=5
        )

    def _store(self, event: Event) -> int:
        self.received.append(event.request.AffectedSOPInstanceUID)
        self.associations.add(id(event.assoc))
        if self.received[-1] == self.breaks_at:
            event.assoc.abort()
        return self.statuses.get(self.received[-1], self.status)

    def go_away(self) -> None:
        self.server.shutdown()

    def close(self) -> None:
        if self.server.ae._servers:
            self.server.shutdown()


class FakePeer:
    """The sender that stands in."""

    def __init__(self) -> None:
        self.sender = MemorySender()
        self.destination = Destination(ae_title="TPS", host="127.0.0.1", port=1)

    @property
    def received(self) -> list[str]:
        return self.sender.received

    @property
    def status(self) -> int:
        return self.sender.status

    @status.setter
    def status(self, value: int) -> None:
        self.sender.status = value

    def go_away(self) -> None:
        self.sender.there = False

    def close(self) -> None:
        pass


@pytest.fixture(params=[RealPeer, FakePeer], ids=["dicom", "memory"])
def peer(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = request.param()
    yield made
    made.close()


@pytest.fixture
def image(ct_folder: Path) -> Path:
    return min(ct_folder.iterdir())


class TestSender:
    """One class for the seam."""

    def test_a_peer_that_is_there_answers(self, peer: Any) -> None:
        peer.sender.echo(peer.destination, "ORGSEG")

    def test_a_peer_that_is_gone_is_unreachable_and_worth_a_retry(self, peer: Any, image: Path) -> None:
        peer.go_away()
        with pytest.raises(Unreachable) as caught:
            peer.sender.echo(peer.destination, "ORGSEG")
        assert caught.value.retryable
        with pytest.raises(Unreachable):
            peer.sender.send(peer.destination, "ORGSEG", image)

    def test_an_object_is_stored_with_the_peers_own_status(self, peer: Any, image: Path) -> None:
        stored = peer.sender.send(peer.destination, "ORGSEG", image)
        assert stored.status == 0
        assert peer.received == [stored.sop_uid] == [pydicom.dcmread(image).SOPInstanceUID]

    def test_each_of_several_objects_has_an_answer_of_its_own(
        self, peer: Any, image: Path, tmp_path: Path
    ) -> None:
        bad = tmp_path / "bad.dcm"
        bad.write_bytes(b"no")
        answers = list(peer.sender.send_each(peer.destination, "ORGSEG", [image, bad, image]))
        assert [type(answer) for answer in answers] == [Stored, NotDicom, Stored]
        assert len(peer.received) == 2
        peer.go_away()
        answers = list(peer.sender.send_each(peer.destination, "ORGSEG", [image, bad]))
        assert [type(answer) for answer in answers] == [Unreachable, NotDicom]

    def test_a_warning_counts_as_stored_and_is_kept(self, peer: Any, image: Path) -> None:
        peer.status = 0xB007
        assert peer.sender.send(peer.destination, "ORGSEG", image).status == 0xB007


@pytest.fixture
def real() -> Iterator[RealPeer]:
    made = RealPeer()
    yield made
    made.close()


@pytest.mark.parametrize("status", [0xA700, 0xA900, 0xC001, 0x0110])
def test_every_other_status_is_a_refusal_that_names_it(real: RealPeer, image: Path, status: int) -> None:
    real.status = status
    with pytest.raises(StoreRefused, match=f"0x{status:04X}") as caught:
        real.sender.send(real.destination, "ORGSEG", image)
    assert caught.value.status == status


def test_a_rejection_says_which_ae_title_is_unknown(real: RealPeer, image: Path) -> None:
    with pytest.raises(AssociationRejected, match="calling AE"):
        real.sender.echo(real.destination, "STRANGER")
    other = real.destination.model_copy(update={"ae_title": "OTHER"})
    with pytest.raises(AssociationRejected, match="called AE"):
        real.sender.send(other, "ORGSEG", image)


def test_a_peer_that_takes_no_such_objects_is_a_refusal(image: Path) -> None:
    peer = RealPeer(storage=False)
    try:
        with pytest.raises(StoreRefused, match="not accept objects of this kind"):
            peer.sender.send(peer.destination, "ORGSEG", image)
    finally:
        peer.close()


def test_a_compressed_object_is_not_forced_on_a_peer_that_does_not_take_it(
    real: RealPeer, tmp_path: Path
) -> None:
    (image,) = build_ct_series(tmp_path / "rle", PhantomOptions(slices=1, transfer_syntax=RLELossless))
    sent = real.sender.send(real.destination, "ORGSEG", image)
    assert (sent.status, len(real.received)) == (0, 1), "lossless: it is decoded"
    lossy = pydicom.dcmread(image)
    lossy.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    lossy.save_as(image, enforce_file_format=True)
    with pytest.raises(StoreRefused):
        real.sender.send(real.destination, "ORGSEG", image)
    assert len(real.received) == 1


def test_several_objects_go_in_one_association_and_are_counted(real: RealPeer, ct_folder: Path) -> None:
    files = sorted(ct_folder.iterdir())[:5]
    counts: list[int] = []
    assert len(real.sender.send_all(real.destination, "ORGSEG", files, counts.append)) == 5
    assert counts == [1, 2, 3, 4, 5]
    assert len(real.received) == 5


def test_one_that_is_refused_harms_no_other_in_its_association(real: RealPeer, ct_folder: Path) -> None:
    files = sorted(ct_folder.iterdir())[:4]
    real.statuses[str(pydicom.dcmread(files[1]).SOPInstanceUID)] = 0xA700
    answers = list(real.sender.send_each(real.destination, "ORGSEG", files))
    assert [type(answer) for answer in answers] == [Stored, StoreRefused, Stored, Stored]
    assert len(real.associations) == 1


def test_one_at_which_the_peer_breaks_off_harms_no_other(real: RealPeer, ct_folder: Path) -> None:
    files = sorted(ct_folder.iterdir())[:4]
    real.breaks_at = str(pydicom.dcmread(files[1]).SOPInstanceUID)
    answers = list(real.sender.send_each(real.destination, "ORGSEG", files))
    assert [type(answer) for answer in answers] == [Stored, Unreachable, Stored, Stored]
    assert len(real.received) == 4


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid", "bad host name"])
def test_nobody_there_is_unreachable_whatever_the_address(host: str) -> None:
    nowhere = Destination(ae_title="TPS", host=host, port=free_port(), timeout_s=2)
    with pytest.raises(Unreachable):
        DicomSender().echo(nowhere, "ORGSEG")


def test_a_file_that_is_not_dicom_is_told_so(real: RealPeer, tmp_path: Path) -> None:
    file = tmp_path / "note.dcm"
    file.write_bytes(b"hello")
    with pytest.raises(NotDicom):
        real.sender.send(real.destination, "ORGSEG", file)
    with pytest.raises(NotDicom):
        real.sender.send(real.destination, "ORGSEG", tmp_path / "absent.dcm")


@pytest.mark.peer
def test_dcmtk_receives_what_is_sent(tmp_path: Path, image: Path) -> None:
    port = free_port()
    with storescp(tmp_path / "tps", port, "-aet", "TPS") as tps:
        place = Destination(ae_title="TPS", host="127.0.0.1", port=port)
        DicomSender().echo(place, "ORGSEG")
        DicomSender().send(place, "ORGSEG", image)
        (arrived,) = tps.iterdir()
        shutil.move(arrived, tmp_path / "arrived.dcm")
    assert pydicom.dcmread(tmp_path / "arrived.dcm").PixelData == pydicom.dcmread(image).PixelData
