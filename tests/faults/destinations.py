"""Faults of destinations."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pynetdicom import AE, evt
from pynetdicom.events import Event

from orgseg_node.errors import NetworkError
from orgseg_node.node.config.node_config import Destination, NodeConfig
from orgseg_node.node.dimse.storage_scu import DicomSender
from orgseg_node.node.processing.job_objects import stored_objects
from orgseg_node.node.processing.worker import Tools, Worker
from orgseg_node.node.store.model import DeliveryState, JobState, NewJob
from orgseg_node.node.store.store import Store
from tests.faults.bench import Fault, images, listening, push, uid_of
from tests.support.peers.certificates import Authority, Pair
from tests.support.peers.dcmtk import free_port


@dataclass(kw_only=True)
class Sending:
    """A job whose one object is to be delivered, with a clock that is moved by hand."""

    store: Store
    worker: Worker
    job_id: str
    now: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def attempts(self, until: timedelta) -> int:
        """Deliver whenever it is due, for so long by the clock; how often that was."""
        made, end = 0, self.now + until
        while self.now < end and self.job == JobState.SENDING:
            if self.store.due_deliveries():
                self.worker.send(self.job_id, "tps")
                made += 1
            else:
                self.now += timedelta(seconds=5)
        return made

    @property
    def job(self) -> JobState:
        """Where the job is."""
        return self.store.job(self.job_id).state

    @property
    def delivery(self) -> Any:
        """Where its object is."""
        return self.store.deliveries(self.job_id)[0]


@contextlib.contextmanager
def sending(scratch: Path, port: int, **more: Any) -> Iterator[Sending]:
    """A job that is computed and has one object to deliver to a port."""
    image = images(scratch, 3)[0]
    place = {"ae_title": "TPS", "host": "127.0.0.1", "port": port, "timeout_s": 5, "objects": ["RTSTRUCT"]}
    config = NodeConfig.model_validate({
        "node": {"data_dir": scratch / "data", "host": "127.0.0.1", "port": 0},
        "receiver": {"accept_any_calling_ae": True, "min_free_mb": 0},
        "destinations": {"tps": place | more},
    })  # fmt: skip
    with listening(scratch / "data") as node:
        push(node.port, image)
    held: list[Sending] = []
    store = Store(scratch / "data", clock=lambda: held[0].now)
    held.append(Sending(store=store, worker=_worker(config, store, lambda: held[0].now), job_id=""))
    (series,) = store.series()
    new = NewJob(series_uid=series.series_uid, content_sha256="a" * 64, bundles=("b",), slices=1)
    assert store.judge(series, series.state.READY, job=new)
    held[0].job_id = new.job_id
    for state in (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING):
        store.move(new.job_id, state, "")
    path = scratch / "data" / "inbox" / series.series_uid / f"{uid_of(image)}.dcm"
    item = {"role": "RTSTRUCT", "path": str(path), "sop_uid": uid_of(image)}
    held[0].worker.release(store.job(new.job_id), stored_objects(scratch / "data", [item]))
    try:
        yield held[0]
    finally:
        store.close()


def _worker(config: NodeConfig, store: Store, clock: Callable[[], datetime]) -> Worker:
    return Worker(config, store, Tools(sender=DicomSender(), clock=clock))


@contextlib.contextmanager
def answering(answer: Callable[[Event], int], port: int = 0) -> Iterator[tuple[int, list[str]]]:
    """A destination that answers as the fault says; its port, and what it was sent."""
    got: list[str] = []

    def on_store(event: Event) -> int:
        got.append(str(event.request.AffectedSOPInstanceUID))
        return answer(event)

    ae = AE(ae_title="TPS")
    ae.add_supported_context(pydicom.uid.CTImageStorage)
    server: Any = ae.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)]
    )
    try:
        yield server.server_address[1], got
    finally:
        server.shutdown()


def down(scratch: Path) -> str:
    """Nobody answers for an hour; then the destination is back."""
    port = free_port()
    with sending(scratch, port) as job:
        tried = job.attempts(timedelta(hours=1))
        assert (job.job, job.delivery.state) == (JobState.SENDING, DeliveryState.RETRY_WAIT)
        assert 6 <= tried <= 15, tried
        with answering(lambda _: 0, port) as (_, got):
            more = job.attempts(timedelta(minutes=15))
            assert len(got) == 1
        assert job.job is JobState.DONE
    return f"{tried} attempts in the hour, ever longer apart; delivered at attempt {tried + more}, once"


def status(code: int) -> Callable[[Path], str]:
    """A destination that answers with a status three times, and with Success then."""

    def trial(scratch: Path) -> str:
        answers = iter([code, code, code])
        with (
            answering(lambda _: next(answers, 0)) as (port, got),
            sending(scratch, port) as job,
        ):
            tried = job.attempts(timedelta(hours=1))
            end = job.delivery
            assert len(set(got)) == 1
            if code >> 12 == 0xB:
                assert (job.job, end.state, end.status) == (JobState.DONE, DeliveryState.STORED, code)
                return f"stored at the first attempt, warning kept: {end.note}"
            assert (job.job, end.state, tried) == (JobState.DONE, DeliveryState.STORED, 4)
            return f"{tried - 1} attempts waited and kept the status 0x{code:04X}; stored at attempt {tried}"

    return trial


def aborts(scratch: Path) -> str:
    """The destination breaks the association in the middle of storing, twice."""
    left = [1, 1]

    def answer(event: Event) -> int:
        if left:
            left.pop()
            event.assoc.abort()
        return 0

    with answering(answer) as (port, got), sending(scratch, port) as job:
        tried = job.attempts(timedelta(hours=1))
        assert (job.job, len(set(got))) == (JobState.DONE, 1)
        return f"two attempts waited; stored at attempt {tried}, {len(got)} times the same object"


def silent(scratch: Path) -> str:
    """The destination takes connections and never says a word."""
    server = socket.create_server(("127.0.0.1", 0))
    with server, sending(scratch, server.getsockname()[1], timeout_s=1) as job:
        tried = job.attempts(timedelta(seconds=20))
        assert tried >= 1
        assert job.delivery.state is DeliveryState.RETRY_WAIT
    return f"{tried} attempts, each ended by its time-out; waits for the next"


def certificates(scratch: Path) -> str:
    """Callers and a destination with wrong, expired and missing certificates."""
    clinic, stranger = Authority(scratch, "clinic"), Authority(scratch, "strange")
    own, pairs = clinic.sign("node"), {
        "wrong": stranger.sign("wrong"), "expired": clinic.sign("late", days=-1), "missing": None,
    }  # fmt: skip
    seen = []
    for name, pair in pairs.items():
        with _tls(scratch / name, clinic, own) as port:
            seen.append(f"caller {name}: {_refusal(port, clinic, pair)}")
        if pair is not None:
            with _tls(scratch / f"{name}-there", clinic, pair) as port:
                seen.append(f"destination {name}: {_refusal(port, clinic, own)}")
    with answering(lambda _: 0) as (port, _):
        seen.append(f"destination without TLS: {_refusal(port, clinic, own)}")
    with _tls(scratch / "good", clinic, own) as port:
        DicomSender().echo(_calling(port, clinic, clinic.sign("peer")), "PEER")
    return "; ".join(seen) + "; right ones are let in"


@contextlib.contextmanager
def _tls(data: Path, clinic: Authority, pair: Pair) -> Iterator[int]:
    section = {
        "port": 0, "plain": False, "ca": clinic.certificate, "certificate": pair.certificate, "key": pair.key,
    }  # fmt: skip
    with listening(data, tls=section) as node:
        yield node.tls_port or 0


def _calling(port: int, clinic: Authority, pair: Pair | None) -> Destination:
    shown = {} if pair is None else {"tls_certificate": pair.certificate, "tls_key": pair.key}
    values = {"ae_title": "ORGSEG", "host": "127.0.0.1", "port": port, "timeout_s": 5, "tls": True}
    return Destination.model_validate(values | {"tls_ca": clinic.certificate} | shown)


def _refusal(port: int, clinic: Authority, pair: Pair | None) -> str:
    with pytest.raises(NetworkError) as caught:
        DicomSender().echo(_calling(port, clinic, pair), "PEER")
    assert caught.value.code.startswith("NETWORK_TLS"), caught.value.code
    return caught.value.code


FAULTS = (
    Fault(name="destination down for an hour", trial=down,
          expected="tried again ever more rarely, at least every 10 min; delivered once when it is back"),
    Fault(name="destination answers 0xA700", trial=status(0xA700),
          expected="kept and tried again; shown with the status; never shown as sent"),
    Fault(name="destination answers 0xB000", trial=status(0xB000),
          expected="stored, with the warning kept; not sent a second time"),
    Fault(name="destination answers 0xC000", trial=status(0xC000),
          expected="kept and tried again; shown with the status; never shown as sent"),
    Fault(name="destination aborts in mid-association", trial=aborts,
          expected="tried again; stored as the same object"),
    Fault(name="destination takes connections and is silent", trial=silent,
          expected="the attempt ends by its time-out and is made again"),
    Fault(name="TLS certificates wrong, expired, missing", trial=certificates,
          expected="refused on either side with a code that says which; nothing is exchanged"),
)  # fmt: skip
