"""The whole way by real peers: DCMTK pushes a CT to the node, DCMTK receives what comes of it."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import pydicom
import pytest
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.events import Event

from orgseg_node.dicom.reading.series import read_series
from orgseg_node.dicom.slice_table import slice_table, table_of
from orgseg_node.node.store.model import DeliveryState, JobState
from tests.support.node.leaks import LEAKS
from tests.support.node.node_process import running_node, wait_for
from tests.support.peers.dcmtk import echoscu, free_port, storescp, storescu

pytestmark = [pytest.mark.peer, *LEAKS]

TO_NODE = ("-aec", "ORGSEG")


def received(folder: Path) -> dict[str, pydicom.FileDataset]:
    datasets = [pydicom.dcmread(path) for path in folder.iterdir()]
    assert len({d.Modality for d in datasets}) == len(datasets), "an object arrived under two UIDs"
    return {d.Modality: d for d in datasets}


def test_a_pushed_ct_comes_back_as_rtstruct_and_seg_once(tmp_path: Path, ct_folder: Path) -> None:
    files = sorted(ct_folder.iterdir())
    sent = pydicom.dcmread(files[0])
    port = free_port()
    with (
        storescp(tmp_path / "tps", port, "-aet", "TPS") as tps,
        running_node(tmp_path, port, warm=True) as node,
    ):
        assert echoscu(node.port, *TO_NODE).returncode == 0
        pushed = storescu(node.port, files, *TO_NODE)
        assert pushed.returncode == 0, pushed.stdout
        job = node.job_in(JobState.DONE)

        again = storescu(node.port, files, *TO_NODE)
        assert again.returncode == 0, again.stdout

        objects = received(tps)
        assert set(objects) == {"RTSTRUCT", "SEG"}
        (frame,) = objects["RTSTRUCT"].ReferencedFrameOfReferenceSequence
        assert frame.FrameOfReferenceUID == sent.FrameOfReferenceUID
        (series,) = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
        assert series.SeriesInstanceUID == sent.SeriesInstanceUID
        assert objects["SEG"].FrameOfReferenceUID == sent.FrameOfReferenceUID

        with contextlib.closing(node.store()) as store:
            assert {d.state for d in store.deliveries(job.job_id)} == {DeliveryState.STORED}
            assert {d.status for d in store.deliveries(job.job_id)} == {0}
            paths = {one.sop_uid: node.data / one.path for one in store.instances_of(job.series_uid)}
        assert node.job_in(JobState.DONE).run == 1
        table = slice_table((node.data / "jobs" / job.job_id / "slices.json").read_text(), paths)
        expected = table_of(read_series(node.data / "inbox" / job.series_uid))
        assert table.slices == expected.slices, "the pages find the slices as they were contoured"
        assert table.heights_mm == expected.heights_mm
        assert node.stop() == 0
        text = (tmp_path / "log").read_text()
        assert str(sent.PatientName) not in text
        assert str(sent.PatientID) not in text
        assert "Traceback" not in text


def test_the_series_is_read_in_its_quiet_time(tmp_path: Path, ct_folder: Path) -> None:
    port = free_port()
    with (
        storescp(tmp_path / "tps", port, "-aet", "TPS") as tps,
        running_node(tmp_path, port, quiet_s=4, warm=True) as node,
    ):
        assert storescu(node.port, sorted(ct_folder.iterdir()), *TO_NODE).returncode == 0
        job = node.job_in(JobState.DONE)
        log = node.data / "jobs" / job.job_id / "child.log"
        assert "had been preloaded" in log.read_text()
        assert set(received(tps)) == {"RTSTRUCT", "SEG"}


def test_kill_in_mid_inference_and_a_dead_destination_still_give_one_rtstruct(
    tmp_path: Path, ct_folder: Path
) -> None:
    port = free_port()
    with running_node(tmp_path, port, seconds=3, warm=True) as node:
        assert storescu(node.port, sorted(ct_folder.iterdir()), *TO_NODE).returncode == 0
        node.job_in(JobState.INFERRING)
        children = node.children()
        assert children
        node.kill()
        wait_for(lambda: not any(c.is_running() for c in children), 5, "the child dies with the node")

        node.seconds = 0.0
        node.start()
        job = node.job_in(JobState.SENDING)
        with contextlib.closing(node.store()) as store:
            wait_for(
                lambda: {d.state for d in store.deliveries(job.job_id)} == {DeliveryState.RETRY_WAIT},
                10,
                "both deliveries wait for the destination",
            )
            assert all("NETWORK_UNREACHABLE" in d.note for d in store.deliveries(job.job_id))
            with storescp(tmp_path / "tps", port, "-aet", "TPS") as tps:
                node.job_in(JobState.DONE)
                assert set(received(tps)) == {"RTSTRUCT", "SEG"}
            changes = [e.change for e in store.events(job.job_id) if e.kind == "job"]
        assert changes.count("PREPARING -> INFERRING") == 2
        assert "INFERRING -> QUEUED" in changes
        assert node.stop() == 0


def test_an_orderly_stop_in_mid_inference_leaves_the_job_to_the_next_start(
    tmp_path: Path, ct_folder: Path
) -> None:
    port = free_port()
    with storescp(tmp_path / "tps", port, "-aet", "TPS") as tps, running_node(tmp_path, port, 60) as node:
        assert storescu(node.port, sorted(ct_folder.iterdir()), *TO_NODE).returncode == 0
        node.job_in(JobState.INFERRING)
        assert node.stop() == 0
        with contextlib.closing(node.store()) as store:
            assert store.jobs()[0].state is JobState.INFERRING
        node.seconds = 0.0
        node.start()
        node.job_in(JobState.DONE)
        assert set(received(tps)) == {"RTSTRUCT", "SEG"}


def test_kill_in_mid_sending_sends_again_without_inferring_again(tmp_path: Path, ct_folder: Path) -> None:
    hang, stores = threading.Event(), []

    def on_store(event: Event) -> int:
        stores.append(event.request.AffectedSOPInstanceUID)
        if not hang.is_set():
            hang.wait(30)
        return 0x0000

    ae = AE(ae_title="TPS")
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
    try:
        with running_node(tmp_path, server.server_address[1]) as node:
            assert storescu(node.port, sorted(ct_folder.iterdir()), *TO_NODE).returncode == 0
            wait_for(lambda: stores, 30, "the first object arrives")
            node.kill()
            hang.set()
            node.start()
            job = node.job_in(JobState.DONE)
            with contextlib.closing(node.store()) as store:
                changes = [e.change for e in store.events(job.job_id)]
            assert changes.count("PREPARING -> INFERRING") == 1
            assert len(set(stores)) == 2, "a second send is the same object"
    finally:
        hang.set()
        server.shutdown()


def test_each_destination_gets_its_own_objects_and_the_protocol_is_applied(
    tmp_path: Path, ct_folder: Path
) -> None:
    archive_port, planning_port = free_port(), free_port()
    more = f"""
[contours]
protocol = "head_and_neck"

[destinations.planning]
ae_title = "ECLIPSE"
host = "127.0.0.1"
port = {planning_port}
objects = ["RTSTRUCT", "SR", "PDF"]
tps = "eclipse"
"""
    with (
        storescp(tmp_path / "archive", archive_port, "-aet", "TPS") as archive,
        storescp(tmp_path / "planning", planning_port, "-aet", "ECLIPSE") as planning,
        running_node(tmp_path, archive_port, inference=more) as node,
    ):
        assert storescu(node.port, sorted(ct_folder.iterdir()), *TO_NODE).returncode == 0
        node.job_in(JobState.DONE, seconds=60)
        for_archive, for_planning = received(archive), received(planning)
        assert node.stop() == 0
    assert set(for_archive) == {"RTSTRUCT", "SEG"}
    assert set(for_planning) == {"RTSTRUCT", "SR", "DOC"}
    generic, eclipse = for_archive["RTSTRUCT"], for_planning["RTSTRUCT"]
    assert generic.SOPInstanceUID != eclipse.SOPInstanceUID
    for dataset in (generic, eclipse):
        names = [str(roi.ROIName) for roi in dataset.StructureSetROISequence]
        assert "SpinalCord_PRV05" in names
        assert all(len(name) <= 16 for name in names)


def test_a_series_with_missing_slices_waits_and_goes_on_when_they_come(
    tmp_path: Path, ct_folder: Path
) -> None:
    files = sorted(ct_folder.iterdir())
    port = free_port()
    with storescp(tmp_path / "tps", port, "-aet", "TPS") as tps, running_node(tmp_path, port) as node:
        assert storescu(node.port, [*files[:9], *files[11:]], *TO_NODE).returncode == 0

        def held() -> bool:
            with contextlib.closing(node.store()) as store:
                return [s.reason for s in store.series()] == ["INPUT_MISSING_SLICES"]

        wait_for(held, 20, "the series is held")
        assert storescu(node.port, files[9:11], *TO_NODE).returncode == 0
        node.job_in(JobState.DONE)
        assert set(received(tps)) == {"RTSTRUCT", "SEG"}
        assert node.stop() == 0
