"""A peer that rejects an association is distinguished from one that is not there, however fast it rejects."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification

from orgseg_node.errors import AssociationRejected, Unreachable
from orgseg_node.node.config.node_config import Destination, Source
from orgseg_node.node.dimse.association import destination_association, source_association
from tests.support.peers.dcmtk import free_port

# pynetdicom 3.0 drops the socket of a refused connection without closing it
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

Call = Callable[..., AbstractContextManager[Association]]

_CONTEXTS: Any = [(Verification, [ExplicitVRLittleEndian])]


def _send(port: int, calling_ae: str, **more: Any) -> AbstractContextManager[Association]:
    peer = Destination(ae_title="TPS", host="127.0.0.1", port=port, timeout_s=5)
    return destination_association(peer, calling_ae, _CONTEXTS, **more)


def _ask(port: int, calling_ae: str, **more: Any) -> AbstractContextManager[Association]:
    peer = Source(ae_title="TPS", host="127.0.0.1", port=port, timeout_s=5)
    return source_association(peer, calling_ae, _CONTEXTS, **more)


@pytest.fixture(autouse=True)
def _dropped_sockets_go_here() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def port() -> Iterator[int]:
    ae = AE(ae_title="TPS")
    ae.require_calling_aet = ["ORGSEG"]
    ae.add_supported_context(Verification)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    yield server.server_address[1]
    server.shutdown()


@pytest.fixture(params=[_send, _ask], ids=["send", "ask"])
def call(request: pytest.FixtureRequest) -> Call:
    made: Call = request.param
    return made


def test_a_rejection_that_is_there_before_anyone_looks_is_a_rejection(call: Call, port: int) -> None:
    # pynetdicom calls this after the request and before it looks whether the connection is open
    late = [(evt.EVT_REQUESTED, lambda _: time.sleep(0.3))]
    with pytest.raises(AssociationRejected, match="calling AE"), call(port, "STRANGER", evt_handlers=late):
        pass


def test_a_rejection_at_leisure_is_the_same(call: Call, port: int) -> None:
    with pytest.raises(AssociationRejected, match="calling AE"), call(port, "STRANGER"):
        pass


def test_who_is_known_is_taken_and_who_is_not_there_is_unreachable(call: Call, port: int) -> None:
    with call(port, "ORGSEG") as made:
        assert made.is_established
    with pytest.raises(Unreachable), call(free_port(), "ORGSEG"):
        pass
