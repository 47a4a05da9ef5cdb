"""The planning CT goes to a destination that lacks it, image by image, with retries like other objects."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, RTStructureSetStorage

from orgseg_node.contouring.object_roles import CT
from orgseg_node.errors import StorageError, Unreachable
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.delivery.deliver import Deliverer
from orgseg_node.node.monitoring.metrics import Meters
from orgseg_node.node.processing.job_commands import JobCommands
from orgseg_node.node.processing.job_objects import planning_ct
from orgseg_node.node.processing.worker import Tools, Worker
from orgseg_node.node.store.model import DeliveryState, Job, JobState, OutputObject
from tests.support.ct.dicom_bytes import small_object
from tests.support.node.command_line import orgseg
from tests.support.node.job_bench import JobBench
from tests.support.node.memory_sender import MemorySender

SERIES = "1.2"
USED, UNUSED = ("1.2.1", "1.2.2", "1.2.3"), "1.2.4"  # the RT Structure Set refers to three of four images
TPS: dict[str, Any] = {"ae_title": "TPS", "host": "127.0.0.1", "port": 104, "objects": ["RTSTRUCT", "CT"]}


def rtstruct(path: Path, images: tuple[str, ...]) -> OutputObject:
    """An RT Structure Set with little more than its references, and the same without references to a SEG."""
    dataset = pydicom.dcmread(small_object(path, RTStructureSetStorage, "1.9.1"))
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = SERIES
    series.ContourImageSequence = [Dataset() for _ in images]
    for item, uid in zip(series.ContourImageSequence, images, strict=True):
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, uid
    study.RTReferencedSeriesSequence = [series]
    frame.RTReferencedStudySequence = [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.save_as(path)
    return OutputObject(role="RTSTRUCT", path=path.name, sop_uid="1.9.1", sha256="0" * 64)


class Bench(JobBench):
    """A job that was contoured, with the four images of its series."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, destinations={"tps": TPS})
        for uid in (*USED, UNUSED):
            self.accept(uid)
        job = self.job(SERIES)
        for uid in (*USED, UNUSED):
            small_object(folder / f"inbox/{SERIES}/{uid}.dcm", CTImageStorage, uid)
        self.job_id = job.job_id
        alone = OutputObject(role="RTSTRUCT:alone", path="alone.dcm", sop_uid="1.9.2", sha256="0" * 64)
        small_object(folder / alone.path, RTStructureSetStorage, alone.sop_uid)
        self.objects = [rtstruct(folder / "RTSTRUCT.dcm", USED), alone]
        self.store.attempts.keep_objects(job.job_id, self.objects)
        for state in (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING):
            self.store.move(job.job_id, state, "")
        self.sender = MemorySender()
        Worker(self.config, self.store, Tools(sender=self.sender)).release(job, self.objects)

    @property
    def one(self) -> Job:
        return self.store.job(self.job_id)

    def send(self) -> None:
        """One attempt to send what is due."""
        deliverer = Deliverer(
            CurrentConfig.of(self.config), self.store, self.sender, clock=self.now, meters=Meters()
        )
        deliverer.send(self.job_id, "tps")

    def states(self) -> Counter[str]:
        return Counter(one.state.value for one in self.store.deliveries(self.job_id))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "data")


def test_the_images_that_the_structure_set_refers_to_are_sent_before_it(bench: Bench) -> None:
    bench.send()
    assert bench.sender.received == [*USED, "1.9.2"]  # the structure set without references to a SEG
    assert (bench.one.state, bench.one.note) == (JobState.DONE, "4 objects delivered.")


def test_only_what_did_not_arrive_is_sent_again(bench: Bench) -> None:
    bench.sender.failures = [Unreachable("Broken."), Unreachable("Broken.")]
    bench.send()
    assert bench.states() == {"STORED": 2, "RETRY_WAIT": 2}
    assert bench.one.state is JobState.SENDING
    bench.send()
    assert sorted(bench.sender.received) == sorted([*USED, "1.9.2"])
    assert bench.one.state is JobState.DONE


def test_a_ct_alone_is_no_delivered_contour(bench: Bench) -> None:
    for one in bench.store.claim(bench.job_id, "tps"):
        state = DeliveryState.STORED if one.is_image else DeliveryState.RETRY_WAIT
        bench.store.record_delivery(one, state, status=0, note="", next_at=bench.now())
    assert bench.one.delivered_at is None
    bench.accept("1.2.9")  # another image comes: the job is replaced, since nothing was contoured there yet
    assert bench.one.state is JobState.SUPERSEDED


def test_the_history_has_what_became_of_each_image_and_not_each_attempt(bench: Bench) -> None:
    for _ in range(3):
        bench.sender.failures = [Unreachable("Broken.")] * 4
        bench.send()
    events = bench.store.events(bench.job_id)
    assert [one.change for one in events if one.note.startswith("CT:")] == []
    bench.send()
    events = [one for one in bench.store.events(bench.job_id) if one.note.startswith("CT:")]
    assert [one.change for one in events] == ["SENDING -> STORED"] * 3


def test_resending_to_a_destination_that_now_gets_the_ct_sends_it(
    tmp_path: Path, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.send()
    config = tmp_path / "node.toml"
    config.write_text(
        f'[node]\ndata_dir = "{bench.data}"\n[receiver]\naccept_any_calling_ae = true\n'
        '[destinations.tps]\nae_title = "TPS"\nhost = "127.0.0.1"\nport = 104\nobjects = ["CT"]\n'
    )
    assert orgseg(capsys, "jobs", "resend", bench.job_id, "--config", config).status == 0
    assert bench.states() == {"PENDING": 3, "STORED": 1}
    shown = orgseg(capsys, "jobs", "show", bench.job_id, "--config", config).out
    assert "CT to tps: 3 images, 3 pending." in shown
    assert not any(uid in shown.replace(SERIES, "", 1) for uid in USED)


def test_a_cancelled_job_says_once_that_the_ct_was_sent(bench: Bench) -> None:
    for one in bench.store.claim(bench.job_id, "tps"):
        state = DeliveryState.STORED if one.is_image else DeliveryState.RETRY_WAIT
        bench.store.record_delivery(one, state, status=0, note="", next_at=bench.now())
    assert JobCommands(bench.store).cancel(bench.job_id, "by anna").note.endswith("sent before: CT to tps")


def test_an_image_that_is_gone_is_an_error(bench: Bench) -> None:
    objects = [rtstruct(bench.data / "RTSTRUCT.dcm", (*USED, "1.2.77"))]
    with pytest.raises(StorageError, match="1 images of the CT are not here"):
        planning_ct(bench.store, bench.data, bench.one, objects)
    assert CT in bench.config.destination("tps").objects
