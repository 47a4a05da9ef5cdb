"""An object that a destination did not answer for may be stored: it is not sent again without asking."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import RTStructureSetStorage

from orgseg_node.errors import NoAnswer
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.destinations import Destination, WebDestination
from orgseg_node.node.delivery.deliver import Deliverer
from orgseg_node.node.delivery.unanswered import LONGEST_S, source_of, with_longer_limit
from orgseg_node.node.monitoring.metrics import Meters
from orgseg_node.node.store.commitment_pending import Confirmations
from orgseg_node.node.store.model import DeliveryState
from tests.support.ct.dicom_bytes import small_object
from tests.support.node.job_bench import RTSTRUCT, JobBench
from tests.support.node.leaks import LEAKS
from tests.support.node.memory_sender import MemorySender

pytestmark = LEAKS

PLACE = {"ae_title": "TPS", "host": "127.0.0.1", "port": 1}


class Sending(JobBench):
    """A job that is sent to one destination; the sender notes the time limit of each attempt."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        super().__init__(folder, **sections)
        (self.data / RTSTRUCT.path).parent.mkdir(parents=True)
        small_object(self.data / RTSTRUCT.path, RTStructureSetStorage, RTSTRUCT.sop_uid)
        self.sender = Patient()
        self.deliverer = Deliverer(
            CurrentConfig.of(self.config), self.store, self.sender, clock=self.now, meters=Meters()
        )
        self.number = self.sending("tps").job_id

    def attempt(self) -> DeliveryState:
        self.deliverer.send(self.number, "tps")
        (delivery,) = self.store.deliveries(self.number)
        return delivery.state

    @property
    def note(self) -> str:
        return self.store.deliveries(self.number)[0].note


class Patient(MemorySender):
    """A sender that notes the time limits."""

    def __init__(self) -> None:
        super().__init__()
        self.limits: list[float] = []

    def send(self, destination: Destination | WebDestination, calling_ae: str, path: Path) -> Any:
        self.limits.append(destination.timeout_s)
        return super().send(destination, calling_ae, path)


def silent(times: int) -> list[Any]:
    return [NoAnswer("TPS: no answer within 30 s.") for _ in range(times)]


def test_it_is_sent_once_more_with_a_longer_limit_and_then_fails(tmp_path: Path) -> None:
    bench = Sending(tmp_path)
    bench.sender.failures = silent(5)
    assert bench.attempt() is DeliveryState.RETRY_WAIT
    assert "no answer within 30 s" in bench.note
    assert bench.attempt() is DeliveryState.FAILED
    assert bench.sender.limits == [30.0, 120.0]


def test_a_receiver_that_answers_within_the_longer_limit_has_it(tmp_path: Path) -> None:
    bench = Sending(tmp_path)
    bench.sender.failures = silent(1)
    assert [bench.attempt(), bench.attempt()] == [DeliveryState.RETRY_WAIT, DeliveryState.STORED]


def test_a_limit_grows_up_to_a_bound() -> None:
    to = Destination(**PLACE, timeout_s=20)
    assert [with_longer_limit(to, n).timeout_s for n in (1, 2, 3, 9)] == [80, 80, 320, LONGEST_S]


def test_a_destination_that_is_a_source_is_asked_before_it_is_sent_again(tmp_path: Path) -> None:
    sections = {"destinations": {"tps": PLACE}, "sources": {"same": {**PLACE, "timeout_s": 1}}}
    bench = Sending(tmp_path, **sections)
    assert source_of(bench.config, bench.config.destination("tps")) == bench.config.sources["same"]
    bench.sender.failures = silent(1)
    for _ in range(3):  # nothing answers the query: it is not sent again
        assert bench.attempt() is DeliveryState.RETRY_WAIT
    assert len(bench.sender.limits) == 1
    assert "NETWORK_NO_ANSWER" in bench.note


@pytest.mark.parametrize("confirmed", [True, False])
def test_a_destination_with_commitment_is_asked_to_confirm(tmp_path: Path, *, confirmed: bool) -> None:
    bench = Sending(tmp_path, destinations={"tps": {**PLACE, "commitment": True}})
    with bench.store.database.write() as tx:
        tx.run("UPDATE delivery SET confirmation = 'WANTED'")
    bench.sender.failures = silent(1)
    assert bench.attempt() is DeliveryState.STORED
    assert "asked whether it keeps it" in bench.note
    confirmations = Confirmations(bench.store.database)
    (pending,) = confirmations.due()
    if not confirmed:
        confirmations.waive(pending, "not confirmed")
        (delivery,) = bench.store.deliveries(bench.number)
        assert delivery.state is DeliveryState.FAILED
        assert "see at the destination" in delivery.note
        return
    with bench.store.database.write() as tx:
        tx.run("UPDATE delivery SET status = 0")
    confirmations.waive(pending, "not confirmed")
    assert bench.store.deliveries(bench.number)[0].state is DeliveryState.STORED


def test_a_connection_that_broke_is_tried_for_its_time(tmp_path: Path) -> None:
    bench = Sending(tmp_path)
    bench.sender.there = False
    for hours in range(3):
        bench.elapsed = timedelta(hours=hours)
        assert bench.attempt() is DeliveryState.RETRY_WAIT
    assert bench.sender.limits == [30.0] * 3
    assert datetime.now(UTC) <= bench.now()
