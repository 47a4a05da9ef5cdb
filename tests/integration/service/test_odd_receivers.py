"""Receivers with quirks seen in the field: each gets what it accepts, and the rest fails with its reason."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    ImplicitVRLittleEndian,
    RLELossless,
    RTStructureSetStorage,
    SegmentationStorage,
)
from pynetdicom import AE, evt
from pynetdicom.events import Event

from orgseg_node.errors import ClassRefused, NoAnswer
from orgseg_node.node.config.destinations import Destination
from orgseg_node.node.dimse.storage_scu import DicomSender, SendOutcome, Stored
from tests.support.ct.dicom_bytes import small_object
from tests.support.ct.phantom import PhantomOptions, build_ct_series
from tests.support.node.leaks import LEAKS

# pynetdicom 3.0 drops the socket of a refused connection without closing it
pytestmark = [
    pytest.mark.endurance,
    *LEAKS,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CLASSES = (RTStructureSetStorage, SegmentationStorage)


class Receiver:
    """A storage SCP with a quirk."""

    def __init__(
        self,
        classes: tuple[Any, ...] = CLASSES,
        store: Callable[[Event], int] = lambda _event: 0,
        requested: Callable[[Event], None] = lambda _event: None,
    ) -> None:
        self.got: Counter[str] = Counter()
        ae = AE(ae_title="TPS")
        for sop_class in classes:
            ae.add_supported_context(sop_class, ImplicitVRLittleEndian)

        def on_store(event: Event) -> int:
            self.got[str(event.request.AffectedSOPInstanceUID)] += 1
            return store(event)

        handlers: Any = [(evt.EVT_C_STORE, on_store), (evt.EVT_REQUESTED, requested)]
        self.server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)

    def send(self, files: list[Path], timeout_s: float = 5.0) -> list[SendOutcome]:
        to = Destination(
            ae_title="TPS", host="127.0.0.1", port=self.server.server_address[1], timeout_s=timeout_s
        )
        return list(DicomSender().send_each(to, "ORGSEG", files))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [small_object(tmp_path / f"{n}.dcm", uid, f"1.2.{n}") for n, uid in enumerate(CLASSES)]


@pytest.fixture
def receive() -> Iterator[Callable[..., Receiver]]:
    made: list[Receiver] = []

    def begin(**quirk: Any) -> Receiver:
        made.append(Receiver(**quirk))
        return made[-1]

    yield begin
    for receiver in made:
        receiver.server.shutdown()


Begin = Callable[..., Receiver]


def proposes_seg(event: Event) -> bool:
    request: Any = event.assoc.requestor.primitive
    return any(
        one.abstract_syntax == SegmentationStorage for one in request.presentation_context_definition_list
    )


def reject_seg(event: Event) -> None:
    if proposes_seg(event):
        event.assoc.acse.send_reject(1, 1, 1)
        event.assoc.kill()


def abort_seg(event: Event) -> None:
    if proposes_seg(event):
        event.assoc.abort()


@pytest.mark.parametrize("requested", [reject_seg, abort_seg], ids=["rejects", "aborts"])
def test_one_that_breaks_off_associations_with_seg_gets_the_rtstruct(
    receive: Begin, files: list[Path], requested: Callable[[Event], None]
) -> None:
    receiver = receive(classes=CLASSES[:1], requested=requested)
    stored, refused = receiver.send(files)
    assert isinstance(stored, Stored)
    assert isinstance(refused, ClassRefused)
    assert 'objects = ["RTSTRUCT"]' in refused.sentence
    assert not refused.retryable
    assert receiver.got == {"1.2.0": 1}


def test_one_that_rejects_the_context_of_seg_has_it_failed_at_once(receive: Begin, files: list[Path]) -> None:
    stored, refused = receive(classes=CLASSES[:1]).send(files)
    assert isinstance(stored, Stored)
    assert isinstance(refused, ClassRefused)
    assert 'objects = ["RTSTRUCT"]' in refused.sentence
    assert not refused.retryable
    (alone,) = receive(classes=CLASSES[:1]).send(files[1:])
    assert isinstance(alone, ClassRefused)


@pytest.mark.parametrize("requested", [reject_seg, abort_seg, lambda _event: None])
def test_a_check_proposes_the_classes_and_sends_nothing(
    receive: Begin, requested: Callable[[Event], None]
) -> None:
    receiver = receive(classes=CLASSES[:1], requested=requested)
    port = receiver.server.server_address[1]
    to = Destination(ae_title="TPS", host="127.0.0.1", port=port, timeout_s=5)
    with pytest.raises(ClassRefused, match=r'objects = \["RTSTRUCT"\]'):
        DicomSender().check_classes(to, "ORGSEG", seg="binary")
    only = to.model_copy(update={"objects": ("RTSTRUCT",)})
    DicomSender().check_classes(only, "ORGSEG", seg="binary")
    assert not receiver.got


def test_a_duplicate_is_stored(receive: Begin, files: list[Path]) -> None:
    outcomes = receive(store=lambda _event: 0x0111).send(files)
    assert [(one.status, one.note) for one in outcomes if isinstance(one, Stored)] == [
        (0x0111, "it was stored before (0x0111)")
    ] * 2


def test_one_that_is_slow_is_described_as_such(receive: Begin, files: list[Path]) -> None:
    def slow(_event: Event) -> int:
        time.sleep(0.8)
        return 0

    receiver = receive(store=slow)
    first, second = receiver.send(files, timeout_s=0.4)
    for outcome in (first, second):
        assert isinstance(outcome, NoAnswer)
        assert "no answer within 0.4 s" in outcome.sentence
    assert receiver.got == {"1.2.0": 1, "1.2.1": 1}
    time.sleep(0.5)


def compressed_ct(folder: Path) -> tuple[Path, Any]:
    """A CT image with lossless compression, and its pixels."""
    pixels = np.arange(64, dtype=np.int16).reshape(8, 8)
    (file,) = build_ct_series(folder, PhantomOptions(slices=1, rows=8, columns=8))
    dataset = pydicom.dcmread(file)
    dataset.PixelData = pixels.tobytes()
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(file)
    return file, pixels


def test_a_receiver_without_this_compression_gets_the_ct_uncompressed(tmp_path: Path, receive: Begin) -> None:
    file, pixels = compressed_ct(tmp_path / "ct")
    kept: list[Any] = []

    def store(event: Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        kept.append(dataset)
        return 0

    receiver = receive(classes=(CTImageStorage,), store=store)
    (answer,) = receiver.send([file])
    assert isinstance(answer, Stored)
    (arrived,) = kept
    assert arrived.SOPInstanceUID == pydicom.dcmread(file).SOPInstanceUID
    assert arrived.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert (arrived.pixel_array == pixels).all()


def test_a_ct_that_cannot_be_decoded_is_refused_for_good(tmp_path: Path, receive: Begin) -> None:
    file, _ = compressed_ct(tmp_path / "ct")
    dataset = pydicom.dcmread(file)
    dataset.PixelData = encapsulate([b"no RLE"])
    dataset.save_as(file)
    (answer,) = receive(classes=(CTImageStorage,)).send([file])
    assert isinstance(answer, ClassRefused)
    assert "RLE Lossless" in answer.sentence
