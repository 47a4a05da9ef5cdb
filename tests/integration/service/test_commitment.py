"""Storage commitment as a user, with Orthanc and with pynetdicom as archives."""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import CTImageStorage, generate_uid

from orgseg_node.dicom.objects.storage_commitment import Item, request_dataset
from orgseg_node.node.store.model import Delivery, DeliveryState, Job, JobState
from tests.support.node.leaks import LEAKS
from tests.support.node.node_process import NodeProcess, running_node, wait_for
from tests.support.peers.commitment import accepted, ask, committing_archive
from tests.support.peers.dcmtk import free_port, storescu
from tests.support.peers.orthanc import orthanc
from tests.support.peers.pacs import introduce

pytestmark = [pytest.mark.endurance, pytest.mark.peer, *LEAKS]

TO_NODE = ("-aec", "ORGSEG")
TPS_MAY_CALL = '[[peers]]\nae_title = "TPS"\n'
CONFIRM = "commitment = true"
STORAGE_CLASSES = {"RTSTRUCT": "1.2.840.10008.5.1.4.1.1.481.3", "SEG": "1.2.840.10008.5.1.4.1.1.66.4"}


def push(node: NodeProcess, folder: Path) -> list[Path]:
    files = sorted(folder.iterdir())
    pushed = storescu(node.port, files, *TO_NODE)
    assert pushed.returncode == 0, pushed.stdout
    return files


def deliveries(node: NodeProcess, job: Job) -> list[Delivery]:
    with contextlib.closing(node.store()) as store:
        return store.deliveries(job.job_id)


def changes(node: NodeProcess, job: Job) -> list[str]:
    with contextlib.closing(node.store()) as store:
        return [f"{event.change} {event.note}" for event in store.events(job.job_id)]


def no_patient_in(node: NodeProcess, file: Path) -> None:
    text, sent = (node.folder / "log").read_text(), pydicom.dcmread(file)
    assert "Traceback" not in text, text
    assert str(sent.PatientName) not in text
    assert str(sent.PatientID) not in text


def test_an_archive_reports_over_its_own_association(tmp_path: Path, ct_folder: Path) -> None:
    with (
        orthanc(tmp_path / "archive", DicomAet="TPS") as archive,
        running_node(tmp_path, archive.dicom_port, inference=TPS_MAY_CALL, tps=CONFIRM) as node,
    ):
        introduce(archive, "ORGSEG", node.port)
        files = push(node, ct_folder)
        job = node.job_in(JobState.DONE)
        assert {d.state for d in deliveries(node, job)} == {DeliveryState.COMMITTED}
        assert {d.outcome for d in deliveries(node, job)} == {"confirmed by the archive"}
        assert job.note == "2 objects delivered, 2 of them confirmed by the archive."
        assert node.stop() == 0
        no_patient_in(node, files[0])


@pytest.mark.parametrize("how", ["same association", "own call"])
def test_what_an_archive_does_not_keep_is_sent_again_as_the_same_object(
    tmp_path: Path, ct_folder: Path, how: str
) -> None:
    with (
        committing_archive(refuse=1, same=how == "same association") as archive,
        running_node(tmp_path, archive.port, inference=TPS_MAY_CALL, tps=CONFIRM) as node,
    ):
        archive.report_to = node.port
        push(node, ct_folder)
        job = node.job_in(JobState.DONE)
        found = deliveries(node, job)
        assert {d.state for d in found} == {DeliveryState.COMMITTED}
        assert sorted(d.attempts for d in found) == [1, 2]
        assert len(archive.stored) == 3
        assert len(set(archive.stored)) == 2, "sent again, it is the same object"
        assert [len(one.ReferencedSOPSequence) for one in archive.asked] == [2, 1]
        assert archive.asked[0].TransactionUID != archive.asked[1].TransactionUID
        wait_for(lambda: len(archive.report_statuses) == 2, 5, "both reports are answered")
        assert archive.report_statuses == [0, 0]
        again = [line for line in changes(node, job) if line.startswith("STORED -> RETRY_WAIT")]
        assert len(again) == 1
        assert "0x0112" in again[0]


def test_an_archive_that_never_reports_is_asked_again_and_then_noted(tmp_path: Path, ct_folder: Path) -> None:
    soon = CONFIRM + "\ncommitment_timeout_h = 0.0002"
    with (
        committing_archive(silent=True) as archive,
        running_node(tmp_path, archive.port, inference=TPS_MAY_CALL, tps=soon) as node,
    ):
        push(node, ct_folder)
        job = node.job_in(JobState.DONE, seconds=60)
        assert len(archive.asked) == 3
        assert len(archive.stored) == 2, "nothing is sent again"
        assert job.note == "2 objects delivered, 2 stored but not confirmed."
        for delivery in deliveries(node, job):
            assert delivery.outcome == "stored, not confirmed"
            assert "did not answer 3 requests" in delivery.note

        archive.report_to = node.port
        archive.call(archive.answer(archive.asked[0]))  # days later
        assert {d.state for d in deliveries(node, job)} == {DeliveryState.COMMITTED}


def test_a_report_after_a_crash_counts_and_only_from_the_archive_that_was_asked(
    tmp_path: Path, ct_folder: Path
) -> None:
    with (
        committing_archive(silent=True) as archive,
        running_node(tmp_path, archive.port, inference=TPS_MAY_CALL, tps=CONFIRM) as node,
    ):
        push(node, ct_folder)
        job = node.job_in(JobState.SENDING)
        wait_for(lambda: archive.asked, 30, "the archive is asked")
        node.kill()
        node.start()
        archive.report_to = node.port
        answer = archive.answer(archive.asked[0])
        archive.call(answer, calling="STORESCU")
        assert node.job_in(JobState.SENDING).job_id == job.job_id
        stranger = copy.deepcopy(answer)
        stranger.TransactionUID = generate_uid()
        archive.call(stranger)
        archive.call(answer)
        assert archive.report_statuses == [0x0112, 0x0112, 0]
        assert {d.state for d in deliveries(node, node.job_in(JobState.DONE))} == {DeliveryState.COMMITTED}


def test_the_node_confirms_nothing_to_senders(tmp_path: Path) -> None:
    request = request_dataset("1.2.3", [Item(sop_class_uid="1.2", sop_uid="1.3")])
    with running_node(tmp_path, free_port(), inference=TPS_MAY_CALL) as node:
        assert accepted(node.port, "STORESCU") == {CTImageStorage}, "a scanner sees that there is no provider"
        assert ask(node.port, "TPS", request) == 0x0211, "a destination may report, and may not ask"
        assert "commitment request refused" in (node.folder / "log").read_text()


def test_one_of_two_objects_is_refused_and_is_sent_to_the_alternate(tmp_path: Path, ct_folder: Path) -> None:
    with (
        committing_archive(refuse_stores={STORAGE_CLASSES["SEG"]: 0xC000}) as first,
        committing_archive() as second,
    ):
        more = (
            '[destinations.backup]\nae_title = "TPS"\nhost = "127.0.0.1"\n'
            f"port = {second.port}\ncommitment = true\n{TPS_MAY_CALL}"
        )
        with running_node(tmp_path, first.port, inference=more, tps='alternate = "backup"') as node:
            second.report_to = node.port
            push(node, ct_folder)
            job = node.job_in(JobState.DONE)
            found = {(d.destination, d.role): d for d in deliveries(node, job)}
            assert {key: d.state.value for key, d in found.items()} == {
                ("tps", "RTSTRUCT"): "STORED",
                ("tps", "SEG"): "DROPPED",
                ("backup", "SEG:alone"): "COMMITTED",  # does not refer to the RTSTRUCT, which is not there
            }
            assert found["tps", "SEG"].status == 0xC000
            assert "Goes to backup instead." in found["tps", "SEG"].note
            assert found["backup", "SEG:alone"].instead_of == "tps"
            assert second.stored == [found["backup", "SEG:alone"].sop_uid]
            assert job.note == "2 objects delivered, 1 of them confirmed by the archive."
