"""Storage commitment as a user: requests, reports, and what becomes of the deliveries."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from orgseg_node.dicom.objects.storage_commitment import (
    Item,
    Report,
    read_report,
    request_dataset,
)
from orgseg_node.errors import InvalidAttribute
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.dimse.commitment_scu import CommitmentScu
from orgseg_node.node.intake.inbox import Inbox
from orgseg_node.node.store.commitment_pending import Confirmations, Unconfirmed
from orgseg_node.node.store.model import (
    Delivery,
    DeliveryState,
    Incoming,
    JobState,
    NewJob,
    OutputObject,
    SeriesState,
)
from orgseg_node.node.store.store import Store
from tests.support.ct.phantom import PhantomOptions, build_ct_series

ONE, TWO = Item(sop_class_uid="1.2", sop_uid="1.2.1"), Item(sop_class_uid="1.2", sop_uid="1.2.2")
STEPS = (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING)


class Bench:
    """A node's memory with one series, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.now = datetime(2026, 1, 2, tzinfo=UTC)
        pacs = {"ae_title": "PACS", "host": "127.0.0.1", "port": 105, "commitment": True}
        self.config = NodeConfig.model_validate(
            {
                "node": {"data_dir": folder / "data"},
                "receiver": {"min_free_mb": 1},
                "peers": [{"ae_title": "PACS"}],
                "destinations": {"pacs": pacs},
            }
        )
        self.store = Store(self.config.node.data_dir, clock=self.clock)
        self.confirmations = Confirmations(self.store.database, clock=self.clock)
        self.scu = CommitmentScu(self.config, self.store, clock=self.clock)
        files = build_ct_series(folder / "ct", PhantomOptions(slices=2, rows=8, columns=8))
        self.heads = [pydicom.dcmread(file) for file in files]
        inbox = Inbox(self.config, self.store, clock=self.clock)
        for file, head in zip(files, self.heads, strict=True):
            content = file.read_bytes()
            start = 144 + int.from_bytes(content[140:144], "little")
            inbox.accept(
                Incoming(
                    sop_class_uid=head.SOPClassUID, sop_uid=head.SOPInstanceUID, calling_ae="CT",
                    transfer_syntax=head.file_meta.TransferSyntaxUID, association=1, encoded=content[start:],
                )
            )  # fmt: skip

    def clock(self) -> datetime:
        return self.now

    def sent(self) -> str:
        """A job of which two objects are stored at PACS, to be confirmed."""
        series = str(self.heads[0].SeriesInstanceUID)
        new = NewJob(series_uid=series, content_sha256="b" * 64, bundles=("starter",), slices=2)
        assert self.store.judge(self.store.one_series(series), SeriesState.READY, job=new)
        for state in STEPS:
            self.store.move(new.job_id, state, "")
        objects = [
            OutputObject(role=role, path=f"{role}.dcm", sop_uid=item.sop_uid)
            for role, item in (("RTSTRUCT", ONE), ("SEG", TWO))
        ]
        self.store.begin_sending(new.job_id, [(one, "pacs") for one in objects], confirm={"pacs"})
        self.deliver(new.job_id)
        return new.job_id

    def deliver(self, job_id: str) -> None:
        for delivery in self.store.claim(job_id, "pacs"):
            self.store.record_delivery(delivery, DeliveryState.STORED, status=0, note="", next_at=self.now)

    def ask(self, transaction: str) -> Unconfirmed:
        """Put a question that PACS takes."""
        (one,) = self.confirmations.due()
        self.confirmations.begin(one, transaction)
        self.confirmations.asked(one, self.now + timedelta(hours=1), "asked")
        self.now += timedelta(hours=1)
        return one

    def states(self, job_id: str) -> list[str]:
        return [delivery.state.value for delivery in self.of(job_id)]

    def of(self, job_id: str) -> list[Delivery]:
        return self.store.deliveries(job_id)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def report(transaction: str, *kept: Item, failed: tuple[Item, ...] = ()) -> Report:
    return Report(transaction_uid=transaction, kept=kept, failed=dict.fromkeys(failed, 0x0112))


def report_dataset(transaction: str, kept: tuple[Item, ...], failed: tuple[Item, ...] = ()) -> Dataset:
    """The Event Information with which an archive reports."""
    asked = request_dataset(transaction, [*failed, *kept])
    items = list(asked.ReferencedSOPSequence)
    dataset = Dataset()
    dataset.TransactionUID = transaction
    for item in items[: len(failed)]:
        item.FailureReason = 0x0112
    if failed:
        dataset.FailedSOPSequence = Sequence(items[: len(failed)])
    if kept:
        dataset.ReferencedSOPSequence = Sequence(items[len(failed) :])
    return dataset


def test_a_request_lists_the_objects() -> None:
    dataset = request_dataset("1.9", [ONE, TWO])
    assert dataset.TransactionUID == "1.9"
    asked = [
        (one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID) for one in dataset.ReferencedSOPSequence
    ]
    assert asked == [(one.sop_class_uid, one.sop_uid) for one in (ONE, TWO)]


def test_a_report_is_read() -> None:
    mixed = read_report(report_dataset("1.9", (ONE,), failed=(TWO,)))
    assert mixed == Report(transaction_uid="1.9", kept=(ONE,), failed={TWO: 0x0112})
    assert read_report(report_dataset("1.9", (ONE,))).failed == {}


def test_an_object_reported_both_as_kept_and_as_failed_is_not_kept() -> None:
    both = read_report(report_dataset("1.9", (ONE,), failed=(ONE,)))
    assert (both.kept, both.failed) == ((), {ONE: 0x0112})


def test_a_failure_without_a_reason_is_a_processing_failure() -> None:
    dataset = report_dataset("1.9", (), failed=(ONE,))
    del dataset.FailedSOPSequence[0].FailureReason
    assert read_report(dataset).failed == {ONE: 0x0110}


def test_a_report_without_transaction_uid_is_refused() -> None:
    dataset = report_dataset("1.9", (ONE,))
    del dataset.TransactionUID
    with pytest.raises(InvalidAttribute):
        read_report(dataset)


def test_a_report_with_something_else_than_uids_is_refused() -> None:
    dataset = report_dataset("1.9", (ONE,))
    with pytest.warns(UserWarning, match="UI"):
        dataset.TransactionUID = "../secret"
    with pytest.raises(InvalidAttribute):
        read_report(dataset)
    dataset = report_dataset("1.9", (ONE,))
    del dataset.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    with pytest.raises(InvalidAttribute):
        read_report(dataset)


def test_commitment_is_requested_once_and_only_when_all_is_stored(bench: Bench) -> None:
    job_id = bench.sent()
    assert bench.store.job(job_id).state is JobState.SENDING
    bench.ask("1.9")
    bench.now -= timedelta(minutes=1)
    assert bench.confirmations.due() == []
    assert {delivery.note for delivery in bench.of(job_id)} == {"asked"}


def test_failures_count_only_in_the_report_on_the_latest_request(bench: Bench) -> None:
    job_id = bench.sent()
    bench.ask("1.9")
    bench.ask("1.10")
    bench.scu.apply_report(report("1.9", ONE, failed=(TWO,)), "PACS")
    assert bench.states(job_id) == ["COMMITTED", "STORED"]
    bench.scu.apply_report(report("1.10", failed=(TWO,)), "PACS")
    assert bench.states(job_id) == ["COMMITTED", "RETRY_WAIT"]
    bench.now += timedelta(hours=1)
    bench.deliver(job_id)
    bench.ask("1.11")
    bench.scu.apply_report(report("1.11", TWO), "PACS")
    assert bench.states(job_id) == ["COMMITTED", "COMMITTED"]
    assert bench.store.job(job_id).state is JobState.DONE


def test_a_delivery_that_the_archive_never_keeps_fails_after_the_limit(bench: Bench) -> None:
    job_id = bench.sent()
    bench.now += timedelta(hours=bench.config.delivery.give_up_after_h)
    bench.ask("1.9")
    bench.scu.apply_report(report("1.9", ONE, failed=(TWO,)), "PACS")
    assert bench.states(job_id) == ["COMMITTED", "FAILED"]
    assert bench.store.job(job_id).reason == "NOT_DELIVERED"


def test_an_archive_that_cannot_be_asked_is_reported_after_the_limit(bench: Bench) -> None:
    job_id = bench.sent()
    for role in ("RTSTRUCT", "SEG"):
        (bench.config.node.data_dir / f"{role}.dcm").write_bytes(b"")
    bench.scu.request_due()
    assert all("could not be asked" in delivery.note for delivery in bench.of(job_id))
    assert bench.confirmations.due() == []
    bench.now += timedelta(hours=bench.config.delivery.give_up_after_h)
    bench.scu.request_due()
    assert bench.store.job(job_id).state is JobState.DONE
    assert {d.outcome for d in bench.of(job_id)} == {"stored, not confirmed"}


def test_a_failure_reported_after_the_job_is_done_is_only_noted(bench: Bench) -> None:
    job_id = bench.sent()
    one = bench.ask("1.9")
    bench.confirmations.waive(one, "no answer")
    assert bench.store.job(job_id).state is JobState.DONE
    bench.scu.apply_report(report("1.9", failed=(TWO,)), "PACS")
    assert bench.states(job_id) == ["STORED", "STORED"]
    assert [d.note for d in bench.of(job_id)] == ["no answer", "The archive does not keep it: 0x0112."]


def test_a_report_from_another_ae_or_without_request_changes_nothing(bench: Bench) -> None:
    job_id = bench.sent()
    bench.ask("1.9")
    assert bench.scu.apply_report(report("1.9", ONE, TWO), "OTHER") == 0x0112
    assert bench.scu.apply_report(report("1.99", ONE, TWO), "PACS") == 0x0112
    assert bench.states(job_id) == ["STORED", "STORED"]


def test_requests_follow_a_reload(bench: Bench) -> None:
    current = CurrentConfig(bench.config)
    scu = CommitmentScu(current, bench.store, clock=bench.clock)
    job_id = bench.sent()
    plain = bench.config.destinations["pacs"].model_copy(update={"commitment": False})
    current.replace(bench.config.model_copy(update={"destinations": {"pacs": plain}}))
    scu.request_due()
    assert "does not ask for a confirmation any more" in bench.of(job_id)[0].note
