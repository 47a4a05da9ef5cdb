"""Structure sets come back by C-STORE from DCMTK and from Orthanc, and by STOW-RS."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydicom.uid import CTImageStorage, RTPlanStorage, RTStructureSetStorage

from orgseg_node.core.organs import OrganTable
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.dimse.c_store import accepted_syntaxes
from orgseg_node.node.dimse.storage_scp import Receiver
from orgseg_node.node.feedback.model import Feedback, FeedbackState
from orgseg_node.node.feedback.rows import FeedbackRows
from orgseg_node.node.intake.inbox import Inbox
from orgseg_node.node.store.model import SeriesState
from tests.support.node.feedback_bench import FeedbackBench, deleted, shifted, written
from tests.support.node.leaks import LEAKS
from tests.support.node.node_process import running_node, wait_while_moving
from tests.support.node.odd_structure_sets import ODD_SETS
from tests.support.peers.dcmtk import free_port, storescu
from tests.support.peers.orthanc import orthanc

pytestmark = [pytest.mark.endurance, pytest.mark.peer, *LEAKS]


class ReceivingBench(FeedbackBench):
    """A node that has delivered, and receives."""

    def listen(self) -> int:
        """Open a port."""
        self.inbox = Inbox(self.config, self.store)
        self.receiver = Receiver(self.config, self.inbox)
        return self.receiver.start()


@pytest.fixture
def bench(tmp_path: Path, organ_table: OrganTable) -> Iterator[ReceivingBench]:
    made = ReceivingBench(
        tmp_path / "data",
        organ_table,
        node={"data_dir": tmp_path / "data", "host": "127.0.0.1", "port": 0},
        receiver={"other_classes": "refuse", "min_free_mb": 0},
        peers=[{"ae_title": "TPS", "feedback": True, "sop_classes": []}, {"ae_title": "CT"}],
    )
    yield made
    made.receiver.stop()


def states(bench: FeedbackBench) -> list[FeedbackState]:
    bench.desk.work()
    return [one.state for one in bench.rows.all()]


def test_dcmtk_sends_edits_and_the_same_again(bench: ReceivingBench, tmp_path: Path) -> None:
    port = bench.listen()
    edited, later = tmp_path / "edited.dcm", tmp_path / "later.dcm"
    dataset = bench.returned(shifted("Brainstem", x_mm=8.0))
    edited.write_bytes(written(dataset))
    dataset.ReviewDate = "20260302"  # the same UID again with other content, as some systems do
    deleted("Parotid_L")(dataset)
    later.write_bytes(written(dataset))
    for path in (edited, edited, later):
        done = storescu(port, [path], "-aet", "TPS", "-aec", "ORGSEG")
        assert done.returncode == 0, done.stderr
    assert states(bench) == [FeedbackState.SUPERSEDED, FeedbackState.COUNTED]
    assert bench.store.series(state=SeriesState.CONFLICT) == [], "versions of one object are no conflict"
    organs = {one.roi: one.outcome for one in bench.rows.organs(2)}
    assert organs["Parotid_L"] == "DELETED"
    assert storescu(port, [edited], "-aet", "CT", "-aec", "ORGSEG").returncode != 0, "not of this peer"
    assert len(bench.rows.all()) == 2


def test_odd_structure_sets_in_one_association_each_end_in_their_state(
    bench: ReceivingBench, tmp_path: Path
) -> None:
    port, files = bench.listen(), []
    for number, odd in enumerate(ODD_SETS):
        apart = shifted("Parotid_R", x_mm=0.1 * number)  # so that none has the contours of another one
        files.append(tmp_path / f"{number}.dcm")
        files[-1].write_bytes(written(bench.returned(apart, odd.change)))
    done = storescu(port, files, "-aet", "TPS", "-aec", "ORGSEG")
    assert done.returncode == 0, done.stderr
    assert bench.desk.work() == len(ODD_SETS)
    rows = bench.rows.all()
    found = {odd.what: row.state for odd, row in zip(ODD_SETS, rows, strict=True)}
    counted = [what for what, state in found.items() if state is FeedbackState.COUNTED]
    assert counted == ["500 ROIs"], "only the last one that counts"
    expected = {odd.what: odd.state for odd in ODD_SETS}
    assert {
        what: FeedbackState.COUNTED if state is FeedbackState.SUPERSEDED else state
        for what, state in found.items()
    } == expected
    assert all((bench.data / row.path).is_file() for row in rows), "nothing is lost"


def test_orthanc_sends_an_edit(bench: ReceivingBench, tmp_path: Path) -> None:
    modality = {"node": {"AET": "ORGSEG", "Host": "127.0.0.1", "Port": bench.listen()}}
    with orthanc(tmp_path / "orthanc", DicomModalities=modality, DicomAet="TPS") as archive:
        number = archive.upload(written(bench.returned(shifted("Brainstem", x_mm=8.0))))
        done = archive.post("/modalities/node/store", [number])
        assert done["FailedInstancesCount"] == 0
    assert states(bench) == [FeedbackState.COUNTED]
    (brainstem,) = [one for one in bench.rows.organs(1) if one.organ == "brainstem"]
    assert brainstem.hd95_mm == pytest.approx(8.0)


@pytest.mark.timeout(1200)
def test_a_web_client_stores_an_edit_at_a_running_node(tmp_path: Path, organ_table: OrganTable) -> None:
    bench = FeedbackBench(tmp_path / "data", organ_table)
    content = written(bench.returned(shifted("Brainstem", x_mm=8.0)))
    bench.store.close()
    token, tokens, web = "of-the-planner", tmp_path / "tokens", free_port()
    tokens.write_text(f"PLANNER {hashlib.sha256(token.encode()).hexdigest()}\n")
    tokens.chmod(0o600)
    more = (
        '[[peers]]\nae_title = "PLANNER"\nfeedback = true\nnetworks = ["127.0.0.0/8"]\n'
        f'[web]\nport = {web}\n[stow]\ntokens = "{tokens}"\n'
    )
    head = b"--xyz\r\nContent-Type: application/dicom\r\n\r\n"
    headers = {
        "Content-Type": 'multipart/related; type="application/dicom"; boundary=xyz',
        "Authorization": f"Bearer {token}",
    }
    with (
        running_node(tmp_path, free_port(), seconds=None, more=more) as node,
        httpx.Client(trust_env=False) as client,
    ):
        for _ in range(2):  # the second time it is the same
            answer = client.post(
                f"http://127.0.0.1:{web}/dicomweb/studies", headers=headers, timeout=60,
                content=head + content + b"\r\n--xyz--\r\n",
            )  # fmt: skip
            assert answer.status_code == 200, answer.text

        def rows() -> list[Feedback]:
            with contextlib.closing(node.store()) as store:
                return FeedbackRows(store.database).all()

        wait_while_moving(
            lambda: [one.state for one in rows()] == [FeedbackState.COUNTED],
            lambda: node.children_s("feedback.child"),
            120,
            "measured",
        )
        (one,) = rows()
        assert one.sender == "PLANNER"
        with contextlib.closing(node.store()) as store:
            organs = {organ.organ: organ for organ in FeedbackRows(store.database).organs(one.number)}
        assert organs["brainstem"].hd95_mm == pytest.approx(8.0)
        assert node.stop() == 0


def test_only_structure_sets_of_peers_with_feedback_are_taken() -> None:
    config = NodeConfig.model_validate(
        {
            "receiver": {"other_classes": "refuse"},
            "peers": [{"ae_title": "TPS", "feedback": True, "sop_classes": []}, {"ae_title": "CT"}],
        }
    )
    assert accepted_syntaxes(config, "TPS", RTStructureSetStorage)
    assert not accepted_syntaxes(config, "TPS", RTPlanStorage)
    assert not accepted_syntaxes(config, "TPS", CTImageStorage)
    assert not accepted_syntaxes(config, "CT", RTStructureSetStorage)
