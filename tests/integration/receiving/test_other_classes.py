"""A whole study arrives: its CT is contoured, and its other objects are set aside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
import structlog
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    RTDoseStorage,
    RTPlanStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE

from orgseg_node.core.contours import trace
from orgseg_node.core.organs import OrganTable
from orgseg_node.dicom.objects.rtstruct import write_rtstruct
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.dimse.storage_scp import Receiver
from orgseg_node.node.intake.inbox import Inbox
from orgseg_node.node.monitoring.metrics import Meters
from orgseg_node.node.store.model import SeriesState
from orgseg_node.node.store.store import Store
from tests.support.ct.objects import PROVENANCE, awkward_label_map, series_of
from tests.support.ct.phantom import PhantomOptions
from tests.support.node.leaks import LEAKS
from tests.support.node.node_process import wait_for
from tests.support.peers.orthanc import orthanc

pytestmark = LEAKS

OTHERS = (
    RTStructureSetStorage, RTPlanStorage, RTDoseStorage, MRImageStorage,
    PositronEmissionTomographyImageStorage,    SecondaryCaptureImageStorage,
)  # fmt: skip


class Node:
    """A receiver and its inbox, an hour ahead of every arrival."""

    def __init__(self, folder: Path, peer: dict[str, Any], receiver: dict[str, Any]) -> None:
        self.config = NodeConfig.model_validate(
            {
                "node": {"host": "127.0.0.1", "port": 0, "data_dir": folder},
                "receiver": {"min_free_mb": 0, **receiver},
                "peers": [{"ae_title": "ARCHIVE", **peer}],
            }
        )
        self.store, self.meters = Store(self.config.node.data_dir), Meters()
        self.inbox = Inbox(
            self.config, self.store, clock=lambda: datetime.now(UTC) + timedelta(hours=1), meters=self.meters
        )
        self.receiver = Receiver(self.config, self.inbox, meters=self.meters)
        self.port = self.receiver.start()

    def refused(self, reason: str) -> float:
        return self.meters.registry.get_sample_value("orgseg_refused_contexts_total", {"reason": reason}) or 0


Start = Callable[..., Node]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    nodes: list[Node] = []

    def begin(peer: dict[str, Any] | None = None, **receiver: Any) -> Node:
        nodes.append(Node(tmp_path / "data", peer or {}, receiver))
        return nodes[-1]

    yield begin
    for node in nodes:
        node.receiver.stop()


def accepted_classes(port: int) -> set[str]:
    ae = AE(ae_title="ARCHIVE")
    for sop_class in (CTImageStorage, *OTHERS):
        ae.add_requested_context(sop_class, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", port, ae_title="ORGSEG")
    assert association.is_established
    found = {str(context.abstract_syntax) for context in association.accepted_contexts}
    association.release()
    return found


def study(folder: Path, organ_table: OrganTable) -> list[Path]:
    """A CT with a structure set and a lossy secondary capture."""
    series = series_of(folder / "ct", PhantomOptions(slices=8, rows=41, columns=43))
    structures = write_rtstruct(trace(awkward_label_map(series.grid, organ_table)), series, PROVENANCE)
    structures.save_as(folder / "structures.dcm", enforce_file_format=True)
    capture = pydicom.dcmread(next(path for path in sorted((folder / "ct").iterdir())))
    capture.SOPClassUID = capture.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    capture.SOPInstanceUID = capture.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
    capture.SeriesInstanceUID, capture.Modality = "1.2.3.4", "OT"
    capture.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    capture.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    capture.save_as(folder / "capture.dcm", enforce_file_format=True)
    return [*sorted((folder / "ct").iterdir()), folder / "structures.dcm", folder / "capture.dcm"]


def test_the_other_classes_of_a_study_are_accepted_as_the_configuration_says(start: Start) -> None:
    node = start()
    assert accepted_classes(node.port) == {CTImageStorage, *OTHERS}
    assert node.refused("SOP_CLASS") == 0


@pytest.mark.parametrize("sop_class", ["1.3.12.2.1107.5.9.1", "1.2.840.10008.5.1.4.1.1.6", RTPlanStorage])
def test_private_and_retired_classes_are_set_aside_too(start: Start, ct_folder: Path, sop_class: str) -> None:
    node = start()
    dataset = pydicom.dcmread(min(ct_folder.iterdir()))
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID(sop_class)
    dataset.SeriesInstanceUID = "1.2.3.9"
    ae = AE(ae_title="ARCHIVE")
    ae.add_requested_context(sop_class, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", node.port, ae_title="ORGSEG")
    assert association.send_c_store(dataset).Status == 0x0000
    association.release()
    wait_for(node.inbox.judge_stable_series, 10, "the series is judged")
    (series,) = node.store.series()
    assert (series.state, series.reason) == (SeriesState.IGNORED, "OTHER_CLASSES")


def test_refused_classes_are_logged_by_name_and_counted(start: Start) -> None:
    node = start(other_classes="refuse")
    with structlog.testing.capture_logs() as lines:
        assert accepted_classes(node.port) == {CTImageStorage}
        assert accepted_classes(node.port) == {CTImageStorage}
    (line,) = [line for line in lines if line["event"] == "sop classes refused"]
    assert line["calling"] == "ARCHIVE"
    assert "RT Structure Set Storage" in line["names"]
    assert set(line["sop_classes"]) == set(OTHERS)
    assert node.refused("SOP_CLASS") == 2 * len(OTHERS)


def test_a_peer_that_may_send_named_classes_may_not_send_the_others(start: Start) -> None:
    assert accepted_classes(start({"sop_classes": ["CT"]}).port) == {CTImageStorage}


def test_a_refused_transfer_syntax_is_logged_and_counted(start: Start) -> None:
    node = start()
    ae = AE(ae_title="ARCHIVE")
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    ae.add_requested_context(CTImageStorage, JPEGBaseline8Bit)
    with structlog.testing.capture_logs() as lines:
        ae.associate("127.0.0.1", node.port, ae_title="ORGSEG").release()
    (line,) = [line for line in lines if line["event"] == "transfer syntaxes refused"]
    assert line["contexts"] == ["CT Image Storage: JPEG Baseline (Process 1)"]
    assert node.refused("TRANSFER_SYNTAX") == 1


@pytest.mark.peer
def test_orthanc_sends_a_whole_study_and_its_ct_becomes_a_job(
    start: Start, tmp_path: Path, organ_table: OrganTable
) -> None:
    node = start()
    files = study(tmp_path / "study", organ_table)
    modality = {"node": {"AET": "ORGSEG", "Host": "127.0.0.1", "Port": node.port}}
    with orthanc(tmp_path / "orthanc", DicomModalities=modality) as archive:
        for path in files:
            archive.upload(path.read_bytes())
        done = archive.post("/modalities/node/store", archive.ask("/studies"))
        assert done["FailedInstancesCount"] == 0
    wait_for(node.inbox.judge_stable_series, 10, "the series are judged")
    wait_for(lambda: not node.store.series(state=SeriesState.RECEIVING), 10, "all series are judged")
    found = {one.state: one for one in node.store.series()}
    assert set(found) == {SeriesState.READY, SeriesState.IGNORED}
    aside = [one for one in node.store.series() if one.state is SeriesState.IGNORED]
    assert [one.reason for one in aside] == ["OTHER_CLASSES", "OTHER_CLASSES"]
    (job,) = node.store.jobs()
    assert job.slices == 8
    assert all((node.config.node.data_dir / i.path).is_file() for i in node.store.instances_of("1.2.3.4"))
