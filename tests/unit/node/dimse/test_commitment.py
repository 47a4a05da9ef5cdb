"""What is asked and reported in storage commitment, and what the node remembers of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pydicom
import pytest

from orgseg_node.dicom.objects.storage_commitment import (
    Item,
    Reason,
    Report,
    read_report,
    read_request,
    report_dataset,
    request_dataset,
)
from orgseg_node.errors import InvalidAttribute
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.dimse.commitment_requests import CommitmentRequests
from orgseg_node.node.dimse.commitment_scp import CommitmentReporter
from orgseg_node.node.dimse.commitment_scu import CommitmentAsker
from orgseg_node.node.intake.inbox import Inbox
from orgseg_node.node.store.commitment_pending import Confirmations, Unconfirmed
from orgseg_node.node.store.data_folder import INBOX
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
                "peers": [{"ae_title": "PACS", "host": "127.0.0.1", "port": 1}],
                "destinations": {"pacs": pacs},
            }
        )
        self.store = Store(self.config.node.data_dir, clock=self.clock)
        self.requests = CommitmentRequests(self.store.database, clock=self.clock)
        self.confirmations = Confirmations(self.store.database, clock=self.clock)
        self.reporter = CommitmentReporter(self.config, self.store, clock=self.clock)
        self.asker = CommitmentAsker(self.config, self.store, clock=self.clock)
        files = build_ct_series(folder / "ct", PhantomOptions(slices=2, rows=8, columns=8))
        self.heads = [pydicom.dcmread(file) for file in files]
        self.items = [Item(sop_class_uid=h.SOPClassUID, sop_uid=h.SOPInstanceUID) for h in self.heads]
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
            self.store.settle(delivery, DeliveryState.STORED, status=0, note="", next_at=self.now)

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


def test_requests_and_reports_are_read_as_they_were_written() -> None:
    assert read_request(request_dataset("1.9", [ONE, TWO])) == ("1.9", (ONE, TWO))
    mixed = Report(transaction_uid="1.9", kept=(ONE,), failed={TWO: Reason.NO_SUCH_INSTANCE})
    assert read_report(report_dataset(mixed)) == mixed
    assert (mixed.event_type, report("1.9", ONE).event_type) == (2, 1)
    assert "FailedSOPSequence" not in report_dataset(report("1.9", ONE))


def test_what_is_said_to_be_kept_and_not_kept_is_not_kept() -> None:
    both = Report(transaction_uid="1.9", kept=(ONE,), failed={ONE: 0x0110})
    assert read_report(report_dataset(both)).kept == ()


@pytest.mark.parametrize("missing", ["TransactionUID", "ReferencedSOPSequence"])
def test_a_request_without_its_parts_is_refused(missing: str) -> None:
    dataset = request_dataset("1.9", [ONE])
    delattr(dataset, missing)
    with pytest.raises(InvalidAttribute):
        read_request(dataset)


def test_what_is_no_uid_names_nothing() -> None:
    dataset = request_dataset("1.9", [ONE])
    with pytest.warns(UserWarning, match="UI"):
        dataset.TransactionUID = "../secret"
    with pytest.raises(InvalidAttribute):
        read_request(dataset)
    dataset = request_dataset("1.9", [ONE])
    del dataset.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    with pytest.raises(InvalidAttribute):
        read_request(dataset)


def test_only_what_lies_here_as_received_is_confirmed(bench: Bench) -> None:
    first, second = bench.items
    other = Item(sop_class_uid="1.2.3", sop_uid=first.sop_uid)
    said = bench.reporter.verify("1.9", [first, second, ONE, other])
    assert said.kept == (first, second)
    assert said.failed == {ONE: 0x0112, other: 0x0119}
    path = bench.config.node.data_dir / bench.store.copies(first.sop_uid)[0].path
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert bench.reporter.verify("1.9", [first]).failed == {first: 0x0110}
    path.unlink()
    assert bench.reporter.verify("1.9", [first]).failed == {first: 0x0110}


def test_what_was_purged_is_not_confirmed_any_more(bench: Bench) -> None:
    job_id = bench.sent()
    bench.ask("1.9")
    bench.asker.answered(report("1.9", ONE, TWO), "PACS")
    assert bench.reporter.verify("1.9", bench.items).failed == {}
    bench.store.purged(bench.store.job(job_id))
    assert (bench.config.node.data_dir / INBOX).is_dir()
    assert set(bench.reporter.verify("1.9", bench.items).failed.values()) == {0x0112}


def test_a_request_is_owed_until_it_is_reported_and_forgotten_long_after(bench: Bench) -> None:
    assert bench.requests.add("OTHER", "1.9", [ONE, TWO])
    assert bench.requests.due() == [], "the answer comes first"
    bench.now += timedelta(seconds=2)
    (request,) = bench.requests.due()
    assert bench.requests.items(request) == [ONE, TWO]
    bench.reporter.report_due()  # nobody says where it listens
    assert bench.requests.due() == []
    (waiting,) = bench.requests.all()
    assert (waiting.outcome, waiting.attempts) == ("", 1)
    assert "NETWORK_COMMITMENT" in waiting.note
    bench.now += timedelta(hours=bench.config.delivery.give_up_after_h)
    bench.reporter.report_due()
    assert bench.requests.all()[0].outcome == "GIVEN_UP"
    bench.now += timedelta(days=40)
    bench.reporter.report_due()
    assert bench.requests.all() == []


def test_a_transaction_uid_belongs_to_one_sender_and_one_list(bench: Bench) -> None:
    assert bench.requests.add("PACS", "1.9", [ONE])
    assert bench.requests.add("PACS", "1.9", [ONE])
    assert not bench.requests.add("PACS", "1.9", [ONE, TWO])
    assert bench.requests.add("OTHER", "1.9", [TWO])
    assert len(bench.requests.all()) == 2


def test_nothing_is_asked_before_all_is_stored_and_nothing_twice(bench: Bench) -> None:
    job_id = bench.sent()
    assert bench.store.job(job_id).state is JobState.SENDING
    bench.ask("1.9")
    bench.now -= timedelta(minutes=1)
    assert bench.confirmations.due() == []
    assert {delivery.note for delivery in bench.of(job_id)} == {"asked"}


def test_failures_count_only_as_answer_to_the_latest_question(bench: Bench) -> None:
    job_id = bench.sent()
    bench.ask("1.9")
    bench.ask("1.10")
    bench.asker.answered(report("1.9", ONE, failed=(TWO,)), "PACS")
    assert bench.states(job_id) == ["COMMITTED", "STORED"]
    bench.asker.answered(report("1.10", failed=(TWO,)), "PACS")
    assert bench.states(job_id) == ["COMMITTED", "RETRY_WAIT"]
    bench.now += timedelta(hours=1)
    bench.deliver(job_id)
    bench.ask("1.11")
    bench.asker.answered(report("1.11", TWO), "PACS")
    assert bench.states(job_id) == ["COMMITTED", "COMMITTED"]
    assert bench.store.job(job_id).state is JobState.DONE


def test_an_archive_that_never_keeps_it_fails_the_delivery_in_the_end(bench: Bench) -> None:
    job_id = bench.sent()
    bench.now += timedelta(hours=bench.config.delivery.give_up_after_h)
    bench.ask("1.9")
    bench.asker.answered(report("1.9", ONE, failed=(TWO,)), "PACS")
    assert bench.states(job_id) == ["COMMITTED", "FAILED"]
    assert bench.store.job(job_id).reason == "NOT_DELIVERED"


def test_an_archive_that_cannot_be_asked_is_said_in_the_end(bench: Bench) -> None:
    job_id = bench.sent()
    for role in ("RTSTRUCT", "SEG"):
        (bench.config.node.data_dir / f"{role}.dcm").write_bytes(b"")
    bench.asker.ask_due()
    assert all("could not be asked" in delivery.note for delivery in bench.of(job_id))
    assert bench.confirmations.due() == []
    bench.now += timedelta(hours=bench.config.delivery.give_up_after_h)
    bench.asker.ask_due()
    assert bench.store.job(job_id).state is JobState.DONE
    assert {d.outcome for d in bench.of(job_id)} == {"stored, not confirmed"}


def test_a_late_no_to_a_job_that_is_over_is_a_remark(bench: Bench) -> None:
    job_id = bench.sent()
    one = bench.ask("1.9")
    bench.confirmations.waive(one, "no answer")
    assert bench.store.job(job_id).state is JobState.DONE
    bench.asker.answered(report("1.9", failed=(TWO,)), "PACS")
    assert bench.states(job_id) == ["STORED", "STORED"]
    assert [d.note for d in bench.of(job_id)] == ["no answer", "The archive does not keep it: 0x0112."]


def test_an_answer_from_another_or_to_no_question_changes_nothing(bench: Bench) -> None:
    job_id = bench.sent()
    bench.ask("1.9")
    assert bench.asker.answered(report("1.9", ONE, TWO), "OTHER") == 0x0112
    assert bench.asker.answered(report("1.99", ONE, TWO), "PACS") == 0x0112
    assert bench.states(job_id) == ["STORED", "STORED"]


def test_asking_and_reporting_follow_a_reload(bench: Bench) -> None:
    current = CurrentConfig(bench.config)
    asker = CommitmentAsker(current, bench.store, clock=bench.clock)
    job_id = bench.sent()
    plain = bench.config.destinations["pacs"].model_copy(update={"commitment": False})
    current.replace(bench.config.model_copy(update={"destinations": {"pacs": plain}}))
    asker.ask_due()
    assert "does not ask for a confirmation any more" in bench.of(job_id)[0].note
