"""What peers may do, enforced at negotiation: real associations against the node's receiver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
import structlog
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
)
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at import from a table

from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.dimse.storage_scp import Receiver
from orgseg_node.node.intake.inbox import Inbox
from orgseg_node.node.store.store import Store
from tests.support.node.leaks import LEAKS
from tests.support.node.node_process import wait_for
from tests.support.peers.dcmtk import storescu

pytestmark = [pytest.mark.endurance, *LEAKS]

CLASSES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
Listen = Callable[..., tuple[int, Store]]


@pytest.fixture
def listen(tmp_path: Path) -> Iterator[Listen]:
    receivers: list[Receiver] = []

    def start(*peers: dict[str, Any], **receiver: Any) -> tuple[int, Store]:
        config = NodeConfig.model_validate(
            {
                "node": {
                    "host": "127.0.0.1", "port": 0, "data_dir": tmp_path / "data",
                    "also_called": ["ORGSEG_HN", "ORGSEG_PELVIS"],
                },
                "receiver": {"min_free_mb": 0, **receiver},
                "peers": list(peers),
            }
        )  # fmt: skip
        store = Store(config.node.data_dir)
        receivers.append(Receiver(config, Inbox(config, store)))
        return receivers[-1].start(), store

    yield start
    for receiver in receivers:
        receiver.stop()


def associate(port: int, calling: str = "CT1", called: str = "ORGSEG") -> Association:
    ae = AE(ae_title=calling)
    for sop_class in CLASSES:
        ae.add_requested_context(sop_class, ExplicitVRLittleEndian)
    ae.add_requested_context(Verification)
    return ae.associate("127.0.0.1", port, ae_title=called)


def accepted(association: Association) -> set[str]:
    assert association.is_established
    found = {str(context.abstract_syntax) for context in association.accepted_contexts}
    association.release()
    return found


@pytest.mark.parametrize(
    ("words", "classes"),
    [
        (None, set(CLASSES)),
        (["CT"], {CTImageStorage}),
        (["EnhancedCT", "LegacyConvertedEnhancedCT"], set(CLASSES[1:])),
        ([], set()),
    ],
)
def test_a_peer_gets_contexts_for_the_sop_classes_it_may_send(
    listen: Listen, words: list[str] | None, classes: set[str]
) -> None:
    port, _ = listen({"ae_title": "CT1", "sop_classes": words}, {"ae_title": "CT2"})
    with structlog.testing.capture_logs() as lines:
        assert accepted(associate(port)) == {*classes, Verification}
        assert accepted(associate(port, "CT2")) == {*CLASSES, Verification}, "others are not concerned"
    logged = [line for line in lines if line["event"] == "sop classes refused"]
    assert [set(line["sop_classes"]) for line in logged] == (
        [set(CLASSES) - classes] if words is not None else []
    )


def test_a_peer_may_call_only_the_titles_it_is_kept_to(listen: Listen) -> None:
    port, _ = listen({"ae_title": "CT1", "called": ["ORGSEG_HN"]}, {"ae_title": "CT2"})
    for calling, called, let_in in (
        ("CT1", "ORGSEG_HN", True),
        ("CT1", "ORGSEG", False),
        ("CT2", "ORGSEG", True),
        ("CT2", "ORGSEG_PELVIS", True),
        ("CT2", "ORGSEG_XX", False),
    ):
        association = associate(port, calling, called)
        assert association.is_established is let_in, (calling, called)
        if let_in:
            association.release()
        else:
            assert association.acceptor.primitive.diagnostic == 0x07


def test_a_peer_has_no_more_associations_at_once_than_it_may(listen: Listen) -> None:
    port, _ = listen({"ae_title": "CT1", "max_associations": 2}, {"ae_title": "CT2"})
    first, second = associate(port), associate(port)
    assert first.is_established
    assert second.is_established
    third = associate(port)
    assert third.is_rejected
    assert (third.acceptor.primitive.result, third.acceptor.primitive.diagnostic) == (0x02, 0x02)
    other = associate(port, "CT2")
    assert other.is_established
    first.abort()

    def again() -> bool:
        association = associate(port)
        if association.is_established:
            association.release()
            return True
        return False

    wait_for(again, 10, "an association that ended makes room")
    for association in (second, other):
        association.release()


def test_a_thousand_refusals_do_not_make_a_thousand_lines(listen: Listen) -> None:
    port, _ = listen({"ae_title": "CT1"})
    with structlog.testing.capture_logs() as lines:
        for _ in range(20):
            assert associate(port, "STRANGER").is_rejected
    assert len([line for line in lines if line["event"] == "association rejected"]) == 1


@pytest.mark.peer
def test_the_largest_pdu_is_what_the_configuration_says_and_images_come_through(
    listen: Listen, ct_folder: Path
) -> None:
    port, store = listen({"ae_title": "STORESCU"}, {"ae_title": "CT1"}, max_pdu=4096)
    association = associate(port)
    assert association.acceptor.maximum_length == 4096
    association.release()
    files = sorted(ct_folder.iterdir())
    assert storescu(port, files, "-aec", "ORGSEG_HN").returncode == 0
    (series,) = store.series()
    assert (series.instances, series.called_ae, series.calling_ae) == (len(files), "ORGSEG_HN", "STORESCU")
    uid = pydicom.dcmread(files[0]).SeriesInstanceUID
    assert {instance.called_ae for instance in store.instances_of(uid)} == {"ORGSEG_HN"}
