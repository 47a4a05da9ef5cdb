"""What the node answers to senders, and that its Success is true: real associations, a real disk."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
import structlog
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.pdu import P_DATA_TF

from orgseg_node.errors import NodeRunning, PortTaken
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.dimse.storage_scp import Receiver
from orgseg_node.node.intake.inbox import Inbox
from orgseg_node.node.monitoring.metrics import Meters
from orgseg_node.node.service import _sole_user, run_node
from orgseg_node.node.store.model import SeriesState
from orgseg_node.node.store.store import DATABASE, Store
from tests.support.ct.phantom import PhantomOptions, build_ct_series
from tests.support.node.leaks import LEAKS
from tests.support.node.node_process import running_node, wait_for
from tests.support.peers.dcmtk import echoscu, storescu

pytestmark = LEAKS

TO_NODE = ("-aec", "ORGSEG")


@dataclass(kw_only=True)
class Listening:
    """A receiver that listens, with what is behind it."""

    port: int
    config: NodeConfig
    store: Store
    inbox: Inbox
    meters: Meters

    @property
    def open_series(self) -> frozenset[str]:
        return self.inbox._transfers.state.open

    @property
    def files(self) -> list[Path]:
        return sorted(p for p in (self.config.node.data_dir / "inbox").rglob("*") if p.is_file())

    def associate(self, syntax: str = ExplicitVRLittleEndian, sop_class: str = CTImageStorage) -> Association:
        ae = AE(ae_title="SCU")
        ae.add_requested_context(sop_class, syntax)
        return ae.associate("127.0.0.1", self.port, ae_title="ORGSEG")

    def push(self, dataset: pydicom.FileDataset) -> int:
        association = self.associate(dataset.file_meta.TransferSyntaxUID)
        assert association.is_established
        assert association.accepted_contexts
        status = int(association.send_c_store(dataset).Status)
        association.release()
        return status


Listen = Callable[..., Listening]


@pytest.fixture
def listen(tmp_path: Path) -> Iterator[Listen]:
    receivers = []

    def start(**sections: Any) -> Listening:
        values: dict[str, Any] = {
            "node": {"host": "127.0.0.1", "port": 0, "data_dir": tmp_path / "data"},
            "receiver": {"min_free_mb": 0, "quiet_seconds": 0.1, "accept_any_calling_ae": True},
        }
        for name, section in sections.items():
            values[name] = {**values[name], **section} if name in values else section
        config = NodeConfig.model_validate(values)
        store = Store(config.node.data_dir)
        inbox = Inbox(config, store)
        meters = Meters()
        receiver = Receiver(config, inbox, meters=meters)
        receivers.append(receiver)
        return Listening(port=receiver.start(), config=config, store=store, inbox=inbox, meters=meters)

    yield start
    for receiver in receivers:
        receiver.stop()


@pytest.fixture
def ct_slice(ct_folder: Path) -> pydicom.FileDataset:
    return pydicom.dcmread(min(ct_folder.iterdir()))


@pytest.mark.peer
def test_echo_is_answered_and_an_unknown_called_ae_is_rejected(listen: Listen) -> None:
    node = listen()
    assert echoscu(node.port, *TO_NODE).returncode == 0
    refused = echoscu(node.port, "-aec", "SOMEONE")
    assert refused.returncode != 0
    assert "Called AE Title Not Recognized" in refused.stdout + refused.stderr


@pytest.mark.peer
def test_a_sender_who_is_not_a_peer_or_calls_from_elsewhere_is_rejected(listen: Listen) -> None:
    peers = [{"ae_title": "CT1"}, {"ae_title": "FAR", "networks": ["10.9.0.0/16"]}]
    node = listen(receiver={"accept_any_calling_ae": False}, peers=peers)
    assert echoscu(node.port, *TO_NODE, "-aet", "CT1").returncode == 0
    for stranger in ("NOBODY", "FAR"):
        refused = echoscu(node.port, *TO_NODE, "-aet", stranger)
        assert "Calling AE Title Not Recognized" in refused.stdout + refused.stderr


@pytest.mark.peer
def test_a_series_pushed_by_dcmtk_is_on_the_disk_with_the_same_pixels(
    listen: Listen, ct_folder: Path
) -> None:
    node = listen()
    files = sorted(ct_folder.iterdir())
    assert storescu(node.port, files, *TO_NODE).returncode == 0
    kept = {d.SOPInstanceUID: d.PixelData for d in map(pydicom.dcmread, node.files)}
    assert kept == {d.SOPInstanceUID: d.PixelData for d in map(pydicom.dcmread, files)}
    assert not any(path.stat().st_mode & 0o117 for path in node.files), "no programs, and not for everyone"


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLosslessSV1,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
    ids=lambda uid: uid.name.replace(" ", "_"),
)
def test_every_lossless_syntax_is_kept_as_it_came(listen: Listen, tmp_path: Path, syntax: str) -> None:
    paths = build_ct_series(tmp_path / "ct", PhantomOptions(slices=1, transfer_syntax=syntax))
    node = listen()
    sent = pydicom.dcmread(paths[0])
    assert node.push(sent) == 0x0000
    (kept,) = map(pydicom.dcmread, node.files)
    assert kept.file_meta.TransferSyntaxUID == syntax
    assert kept == sent


def test_refused_objects_and_lossy_syntaxes_are_not_negotiated(listen: Listen) -> None:
    node = listen(receiver={"accept_any_calling_ae": True, "other_classes": "refuse"})
    for sop_class, syntax in ((MRImageStorage, ImplicitVRLittleEndian), (CTImageStorage, JPEGBaseline8Bit)):
        association = node.associate(syntax, sop_class)
        assert not association.accepted_contexts
        if association.is_established:
            association.release()


def test_the_same_image_twice_is_success_and_changes_nothing(
    listen: Listen, ct_slice: pydicom.FileDataset
) -> None:
    node = listen()
    assert node.push(ct_slice) == 0x0000
    before = node.store.series()
    assert node.push(ct_slice) == 0x0000
    assert node.store.series() == before
    assert len(node.files) == 1


def test_the_same_uid_with_other_pixels_keeps_both_and_is_a_conflict(
    listen: Listen, ct_slice: pydicom.FileDataset
) -> None:
    node = listen()
    assert node.push(ct_slice) == 0x0000
    ct_slice.PixelData = ct_slice.PixelData[::-1]
    assert node.push(ct_slice) == 0x0000
    (series,) = node.store.series()
    assert series.state is SeriesState.CONFLICT
    assert len(node.files) == 2
    assert len(node.store.copies(ct_slice.SOPInstanceUID)) == 2


def test_the_same_uid_in_another_series_puts_only_the_new_series_into_conflict(
    listen: Listen, ct_slice: pydicom.FileDataset
) -> None:
    node = listen()
    assert node.push(ct_slice) == 0x0000
    ct_slice.SeriesInstanceUID = "1.2.3"
    assert node.push(ct_slice) == 0x0000
    states = {s.series_uid: s.state for s in node.store.series()}
    assert states.pop("1.2.3") is SeriesState.CONFLICT
    assert list(states.values()) == [SeriesState.RECEIVING]
    note = node.store.one_series("1.2.3").note
    assert "orgseg series settle" in note
    assert "which continues" in note


def test_a_nearly_full_disk_is_told_as_out_of_resources_and_nothing_is_kept(
    listen: Listen, ct_slice: pydicom.FileDataset
) -> None:
    node = listen(receiver={"min_free_mb": 10**9})
    assert node.push(ct_slice) == 0xA700
    assert node.files == []
    assert node.store.series() == []


def test_a_broken_database_is_told_as_out_of_resources_and_the_repeat_is_accepted(
    listen: Listen, ct_slice: pydicom.FileDataset
) -> None:
    node = listen()
    with sqlite3.connect(node.config.node.data_dir / DATABASE) as vandal:
        vandal.execute("ALTER TABLE series RENAME TO hidden")
    assert node.push(ct_slice) == 0xA700
    with sqlite3.connect(node.config.node.data_dir / DATABASE) as vandal:
        vandal.execute("ALTER TABLE hidden RENAME TO series")
    vandal.close()
    assert node.push(ct_slice) == 0x0000
    assert [i.sop_uid for i in node.store.copies(ct_slice.SOPInstanceUID)] == [ct_slice.SOPInstanceUID]
    assert len(node.files) == 1


@pytest.mark.parametrize(
    ("spoil", "status"),
    [
        (lambda d: d.__delattr__("SeriesInstanceUID"), 0xC000),
        (lambda d: setattr(d, "SeriesInstanceUID", "../../etc"), 0xC000),
        (lambda d: setattr(d, "SeriesInstanceUID", "1" * 65), 0xC000),
    ],
    ids=["missing", "path", "long"],
)
@pytest.mark.filterwarnings("ignore:.*(UI|UID).*")
def test_an_image_without_a_proper_series_uid_is_refused_and_not_kept(
    listen: Listen, ct_slice: pydicom.FileDataset, spoil: Callable[[Any], None], status: int
) -> None:
    node = listen()
    spoil(ct_slice)
    assert node.push(ct_slice) == status
    assert node.files == []


def test_a_dataset_that_is_not_what_was_announced_is_refused(
    listen: Listen, ct_slice: pydicom.FileDataset
) -> None:
    node = listen()
    assert _announced(node, ct_slice, as_uid="1.2.3") == 0xA900
    assert node.files == []


def _announced(node: Listening, dataset: pydicom.FileDataset, as_uid: str) -> int:
    """Status for a dataset that is announced under another SOP Instance UID."""
    script = (
        "import sys, pydicom, io\n"
        "from pynetdicom import AE\n"
        "from pynetdicom.dimse_primitives import C_STORE\n"
        "from pynetdicom.dsutils import encode\n"
        "ds = pydicom.dcmread(sys.argv[2])\n"
        "ae = AE(); ae.add_requested_context(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)\n"
        "a = ae.associate('127.0.0.1', int(sys.argv[1]), ae_title='ORGSEG')\n"
        "p = C_STORE(); p.MessageID = 1; p.Priority = 2\n"
        "p.AffectedSOPClassUID = ds.SOPClassUID; p.AffectedSOPInstanceUID = sys.argv[3]\n"
        "p.DataSet = io.BytesIO(encode(ds, False, True))\n"
        "a._reactor_checkpoint.clear()\n"
        "a.dimse.send_msg(p, a.accepted_contexts[0].context_id)\n"
        "_, r = a.dimse.get_msg(block=True)\n"
        "a._reactor_checkpoint.set(); a.release(); print(r.Status)\n"
    )
    command = [sys.executable, "-c", script, str(node.port), str(dataset.filename), as_uid]
    return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def test_a_taken_port_is_told_by_its_code(listen: Listen) -> None:
    node = listen()
    with pytest.raises(PortTaken):
        listen(node={"port": node.port, "data_dir": node.config.node.data_dir / "other"})


def test_a_second_node_on_the_same_data_folder_is_refused(listen: Listen) -> None:
    config = listen().config
    with _sole_user(config), pytest.raises(NodeRunning):
        run_node(config)


def test_a_series_in_transfer_is_not_judged_before_its_association_ends(
    listen: Listen, ct_folder: Path
) -> None:
    node = listen(receiver={"quiet_seconds": 0.1})
    association = node.associate()
    for path in sorted(ct_folder.iterdir()):
        assert association.send_c_store(pydicom.dcmread(path)).Status == 0
    _sleep_past_quiet_time()
    assert node.inbox.judge_stable_series() == []
    association.release()
    assert len(_until_judged(node)) == 1
    (job,) = node.store.jobs()
    assert job.slices == 24


def _sleep_past_quiet_time() -> None:
    time.sleep(0.3)


def _until_judged(node: Listening) -> list[str]:
    for _ in range(50):
        judged = node.inbox.judge_stable_series()
        if judged:
            return judged
        _sleep_past_quiet_time()
    raise AssertionError("the series was not judged")


@pytest.mark.peer
def test_kill_in_mid_transfer_loses_no_acknowledged_image(tmp_path: Path) -> None:
    options = PhantomOptions(slices=200, rows=16, columns=16)
    paths = build_ct_series(tmp_path / "ct", options)
    acknowledged: list[str] = []
    with running_node(tmp_path, 1) as node:
        ae = AE(ae_title="STORESCU")
        ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        association = ae.associate("127.0.0.1", node.port, ae_title="ORGSEG")
        connection = association.dul.socket
        assert connection is not None
        assert connection.socket is not None
        tcp = connection.socket
        for path in paths:
            if len(acknowledged) == 30:
                association.dimse_timeout = 5.0  # waits that long for the answer of the dead
                threading.Thread(target=node.kill).start()
            if len(acknowledged) >= 30:
                time.sleep(0.02)  # a busy machine must not have taken all images before the kill
            dataset = pydicom.dcmread(path)
            try:
                status = association.send_c_store(dataset)
            except RuntimeError:
                break
            if "Status" in status and status.Status == 0:
                acknowledged.append(dataset.SOPInstanceUID)
        association.abort()
        tcp.close()  # pynetdicom leaves it open if the other side is dead
    assert 30 <= len(acknowledged) < 200
    store = Store(tmp_path / "data")
    config = NodeConfig.model_validate(
        {"node": {"data_dir": tmp_path / "data"}, "receiver": {"accept_any_calling_ae": True}}
    )
    Inbox(config, store).adopt()
    for sop_uid in acknowledged:
        (instance,) = store.copies(sop_uid)
        assert pydicom.dcmread(tmp_path / "data" / instance.path).SOPInstanceUID == sop_uid
    assert not list((tmp_path / "data").rglob("*.part"))


@pytest.mark.parametrize("end", ["idle", "abort", "close", "release"])
def test_a_sender_that_is_cut_off_is_logged_counted_and_waited_for(
    listen: Listen, tmp_path: Path, end: str
) -> None:
    idle_s = 1.0 if end == "idle" else 60.0  # on a busy machine the others would be taken for idle
    node = listen(receiver={"idle_timeout_s": idle_s}, completeness={"broken_wait_s": 600.0})
    files = build_ct_series(tmp_path / "ct", PhantomOptions(slices=4, rows=16, columns=16))
    association = node.associate()
    for path in files:
        assert association.send_c_store(pydicom.dcmread(path)).Status == 0x0000
    with structlog.testing.capture_logs() as logs:
        if end == "abort":
            association.abort()
        elif end == "close":
            association.dul.socket.socket.close()
        elif end == "release":
            association.release()
        told = 0 if end == "release" else 2
        wait_for(
            lambda: not node.open_series and [entry["log_level"] for entry in logs].count("warning") >= told,
            30,
            "the end of the association",
        )
    (series,) = node.store.series()
    time.sleep(0.2)
    if end == "release":
        assert node.inbox.judge_stable_series() == [series.series_uid]
        assert not [entry for entry in logs if entry["log_level"] == "warning"]
        return
    assert node.inbox.judge_stable_series() == []
    cause = {"idle": "idle time-out", "abort": "A-ABORT", "close": "connection lost"}[end]
    assert {(entry["event"], entry["cause"]) for entry in logs if entry["log_level"] == "warning"} >= {
        ("association broken off", cause), ("sending broken off", cause),
    }  # fmt: skip
    assert node.meters.broken_associations.labels(cause)._value.get() == 1
    association.kill()


def _cut_in_the_middle(association: Any, dataset: Dataset) -> None:
    """Send the beginning of an image with its UIDs, and close the connection."""
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    request.DataSet = BytesIO(encode(dataset, False, True) or b"")  # noqa: FBT003  # explicit, little endian
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    context = association.accepted_contexts[0].context_id
    pdus = []
    for part in message.encode_msg(context, 4096):
        pdu = P_DATA_TF()
        pdu.from_primitive(part)
        pdus.append(pdu.encode())
    connection = association.dul.socket.socket
    for data in pdus[:3]:  # the command, and some of the dataset
        connection.sendall(data)
    time.sleep(0.5)
    connection.close()


def test_an_image_cut_in_the_middle_on_an_association_of_its_own_breaks_its_series(
    listen: Listen, tmp_path: Path
) -> None:
    node = listen(completeness={"broken_wait_s": 600.0})
    options = PhantomOptions(slices=4, rows=96, columns=96)
    datasets = [pydicom.dcmread(path) for path in build_ct_series(tmp_path / "ct", options)]
    for dataset in datasets[:3]:
        assert node.push(dataset) == 0x0000
    wait_for(lambda: not node.open_series, 10, "the end of the associations")
    assert not node.inbox._transfers.state.broken
    association = node.associate()
    _cut_in_the_middle(association, datasets[3])
    wait_for(lambda: bool(node.inbox._transfers.state.broken), 20, "the break is noted")
    assert set(node.inbox._transfers.state.broken) == {datasets[0].SeriesInstanceUID}
    association.kill()


def test_a_release_is_no_break_however_fast_the_connection_is_closed(
    listen: Listen, ct_slice: pydicom.FileDataset
) -> None:
    node = listen()
    for _ in range(20):
        assert node.push(ct_slice) == 0x0000
    wait_for(lambda: not node.open_series, 10, "the end of the associations")
    assert not node.inbox._transfers.state.broken


@pytest.mark.parametrize(("min_free_mb", "status", "kept"), [(0, 0x0000, 1), (10**9, 0xA700, 0)])
def test_a_large_image_arrives_in_a_file_that_is_renamed_or_deleted(
    listen: Listen, ct_slice: pydicom.FileDataset, min_free_mb: int, status: int, kept: int
) -> None:
    node = listen(receiver={"min_free_mb": min_free_mb})
    ct_slice.Rows = ct_slice.Columns = 1500
    ct_slice.PixelData = bytes(range(250)) * 18_000
    assert node.push(ct_slice) == status
    assert [pydicom.dcmread(path).PixelData for path in node.files] == [ct_slice.PixelData] * kept
    if kept:
        (instance,) = node.store.instances_of(str(ct_slice.SeriesInstanceUID))
        assert instance.size == node.files[0].stat().st_size
        assert node.push(ct_slice) == 0x0000
        assert len(node.files) == 1, "the same again changes nothing"


def test_an_association_that_breaks_off_in_a_large_image_leaves_no_file(
    listen: Listen, ct_slice: pydicom.FileDataset
) -> None:
    node = listen()
    ct_slice.PixelData = bytes(8_000_000)
    association = node.associate()
    send, sent = association.dul.send_pdu, []

    def break_off(primitive: Any) -> None:
        sent.append(primitive)
        if len(sent) < 20:  # 5 MB
            send(primitive)
        elif len(sent) == 20:
            wait_for(lambda: node.files, 10, "its file is there")
            assert association.dul.socket is not None
            association.dul.socket.socket.shutdown(2)

    association.dul.send_pdu = break_off  # type: ignore[method-assign]
    association.send_c_store(ct_slice)
    wait_for(lambda: not node.files, 10, "no file is left")
