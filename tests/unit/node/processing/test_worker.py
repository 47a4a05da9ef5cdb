"""The steps of a job, with a child that prints the messages of the test."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest

from orgseg_node.errors import StoreRefused, Unreachable
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.dimse.storage_scu import DicomSender
from orgseg_node.node.monitoring.alerts import Notice, Watch
from orgseg_node.node.processing.job_objects import stored_objects
from orgseg_node.node.processing.request_building import build_request
from orgseg_node.node.processing.worker import Tools, Worker
from orgseg_node.node.store.model import (
    DeliveryState,
    Instance,
    Job,
    JobState,
    NewJob,
    OutputObject,
    SeriesState,
)
from orgseg_node.node.store.store import Store
from tests.support.node.memory_sender import MemorySender

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NEW = NewJob(series_uid="1.2", content_sha256="b" * 64, bundles=("starter",), slices=1)
JOB = NEW.job_id


class Bench:
    """A worker with one job in its store, and with a child and a sender that do what the test says.

    Parameters
    ----------
    folder : the node's data folder
    new : the job
    sections : of the configuration
    """

    def __init__(self, folder: Path, new: NewJob = NEW, **sections: Any) -> None:
        self.folder = folder
        self.now = NOW
        tps = {"ae_title": "TPS", "host": "127.0.0.1", "port": 104}
        pacs = {"ae_title": "PACS", "host": "127.0.0.1", "port": 105, "objects": ["RTSTRUCT"]}
        values = {
            "node": {"data_dir": folder},
            "receiver": {"accept_any_calling_ae": True},
            "destinations": {"tps": tps, "pacs": pacs},
            **sections,
        }
        self.config = NodeConfig.model_validate(values)
        self.store = Store(folder, clock=lambda: self.now)
        self.sender = MemorySender()
        instance = Instance(
            sop_uid="1.4", series_uid="1.2", sha256="a" * 64, size=1, path="inbox/1.2/1.4.dcm",
            transfer_syntax="1.2.840.10008.1.2", calling_ae="CT", received_at=NOW,
        )  # fmt: skip
        self.store.accept(instance)
        assert self.store.judge(self.store.one_series("1.2"), SeriesState.READY, job=new)
        self.worker = self.printing()

    def printing(self, *messages: dict[str, Any], status: int = 0, then: str = "") -> Worker:
        """A worker whose child prints these messages."""
        script = self.folder / "child.py"
        lines = [f"print({json.dumps(message)!r}, flush=True)" for message in messages]
        script.write_text("\n".join(["import sys, os, time", *lines, then, f"sys.exit({status})"]))
        tools = Tools(sender=self.sender, child_command=(sys.executable, str(script)), clock=lambda: self.now)
        self.worker = Worker(self.config, self.store, tools)
        return self.worker

    def objects(self) -> list[dict[str, str]]:
        """Two small DICOM files where a job's objects are stored."""
        out = self.folder / "jobs" / JOB / "out"
        out.mkdir(parents=True, exist_ok=True)
        made = []
        for number, role in enumerate(("RTSTRUCT", "SEG"), start=1):
            path = out / f"{role}.dcm"
            dataset = pydicom.Dataset()
            dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.481.3", f"2.25.{number}"
            dataset.file_meta = pydicom.dataset.FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
            dataset.save_as(path, enforce_file_format=True)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            made.append({"role": role, "path": str(path), "sop_uid": f"2.25.{number}", "sha256": digest})
        return made

    def done(self, held: list[str] | None = None) -> dict[str, Any]:
        return {"event": "done", "objects": self.objects(), "held": held or []}

    @property
    def job(self) -> Job:
        return self.store.job(JOB)

    def computed(self) -> None:
        worker = self.printing(self.done())
        worker.apply_result(JOB, json.dumps(worker.infer(JOB)))


MakeBench = Callable[..., Bench]


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[MakeBench]:
    made: list[Bench] = []

    def make(new: NewJob = NEW, **sections: Any) -> Bench:
        made.append(Bench(tmp_path, new, **sections))
        return made[-1]

    yield make
    for each in made:
        each.store.close()


@pytest.fixture
def bench(make_bench: MakeBench) -> Bench:
    return make_bench()


def test_a_child_that_is_done_brings_the_job_to_sending_for_every_destination(bench: Bench) -> None:
    bench.computed()
    assert bench.job.state is JobState.SENDING
    wanted = [("pacs", "RTSTRUCT"), ("tps", "RTSTRUCT"), ("tps", "SEG")]
    assert [(d.destination, d.role) for d in bench.store.deliveries(JOB)] == wanted
    assert {d.path for d in bench.store.deliveries(JOB)} == {
        f"jobs/{JOB}/out/{r}.dcm" for r in ("RTSTRUCT", "SEG")
    }


def test_the_request_names_exactly_this_revision_of_the_series(bench: Bench) -> None:
    bench.computed()
    asked = json.loads((bench.folder / "jobs" / JOB / "request.json").read_text())
    assert asked["files"] == [str(bench.folder / "inbox/1.2/1.4.dcm")]
    assert asked["content_sha256"] == "b" * 64
    assert asked["created"] == NOW.isoformat()
    assert asked["bundles"] == ["starter"]


def test_the_request_has_every_setting_of_the_node(make_bench: MakeBench) -> None:
    inference = {
        "backend": "fast", "memory_budget_mb": 4000, "skip_outside_body": True, "threads": 3, "device": "cpu",
    }  # fmt: skip
    bench = make_bench(inference=inference)
    bench.computed()
    asked = json.loads((bench.folder / "jobs" / JOB / "request.json").read_text())
    assert asked["settings"] == bench.config.inference.settings()
    assert asked["settings"] | inference == asked["settings"]
    assert asked["settings"]["method"] == "streaming"


def test_progress_moves_the_job_forward_only(bench: Bench) -> None:
    seen = []
    move = bench.store.move

    def watch(job_id: str, target: JobState, note: str, *, reason: str = "") -> Job:
        seen.append(target.value)
        return move(job_id, target, note, reason=reason)

    bench.store.move = watch  # type: ignore[method-assign]  # records the calls
    step = {"event": "progress", "fraction": 0.5, "text": "t"}
    worker = bench.printing(
        {**step, "state": "INFERRING"}, {**step, "state": "CHECKING"}, {**step, "state": "INFERRING"},
        {**step, "state": None}, bench.done(),
    )  # fmt: skip
    worker.infer(JOB)
    assert seen == ["PREPARING", "INFERRING", "WRITING", "CHECKING"]


def test_an_error_message_of_the_child_fails_the_job_with_its_sentence(bench: Bench) -> None:
    error = {"event": "error", "code": "BODY_NOT_FOUND", "sentence": "No patient.", "next_step": "Look."}
    worker = bench.printing({**error, "retryable": False}, status=1)
    result = worker.infer(JOB)
    worker.apply_result(JOB, json.dumps(result))
    assert (bench.job.state, bench.job.reason) == (JobState.FAILED, "BODY_NOT_FOUND")
    assert bench.job.note == "No patient. Look."


def test_a_retryable_error_waits_and_fails_after_the_last_attempt(bench: Bench) -> None:
    error = {"event": "error", "code": "INFERENCE_OUT_OF_MEMORY", "sentence": "S.", "next_step": "N."}
    worker = bench.printing({**error, "retryable": True}, status=1)
    assert worker.infer(JOB)["outcome"] == "retry"
    assert bench.job.state is JobState.RETRY_WAIT
    result = worker.infer(JOB)
    worker.apply_result(JOB, json.dumps(result))
    assert (bench.job.state, bench.job.reason) == (JobState.FAILED, "INFERENCE_OUT_OF_MEMORY")


@pytest.mark.parametrize(
    ("then", "status", "code"),
    [
        ("os.kill(os.getpid(), 9)", 0, "JOB_WORKER_DIED"),
        ("", 3, "JOB_WORKER_DIED"),
        ("", 0, "JOB_WORKER_DIED"),
    ],
    ids=["killed", "crashed", "silent"],
)
def test_a_child_that_dies_is_tried_again(bench: Bench, then: str, status: int, code: str) -> None:
    worker = bench.printing(then=then, status=status)
    result = worker.infer(JOB)
    assert (result["outcome"], result["code"]) == ("retry", code)


def test_a_child_that_takes_too_long_is_killed_and_the_job_failed(make_bench: MakeBench) -> None:
    bench = make_bench(inference={"time_limit_s": 0.6})
    worker = bench.printing(then="time.sleep(60)")
    worker.infer(JOB)
    assert (bench.job.state, bench.job.reason) == (JobState.FAILED, "JOB_TIME_LIMIT")


def test_a_job_that_is_superseded_meanwhile_stops_its_child(bench: Bench) -> None:
    progress = bench.store.progress

    def supersede(job_id: str, fraction: float, stage: str) -> JobState:
        progress(job_id, fraction, stage)
        return bench.store.move(job_id, JobState.SUPERSEDED, "a later revision").state

    bench.store.progress = supersede  # type: ignore[method-assign]  # something happens meanwhile
    message = {"event": "progress", "state": "INFERRING", "fraction": 0.1, "text": "t"}
    worker = bench.printing(message, then="time.sleep(60)")
    assert worker.infer(JOB) == {"outcome": "stopped"}
    assert bench.job.state is JobState.SUPERSEDED


def test_a_superseded_job_does_not_come_back_as_failed(bench: Bench) -> None:
    progress = bench.store.progress

    def supersede(job_id: str, fraction: float, stage: str) -> JobState:
        progress(job_id, fraction, stage)
        return bench.store.move(job_id, JobState.SUPERSEDED, "a later revision").state

    bench.store.progress = supersede  # type: ignore[method-assign]  # something happens meanwhile
    message = {"event": "progress", "state": "INFERRING", "fraction": 0.1, "text": "t"}
    error = {"event": "error", "code": "INPUT", "sentence": "S.", "next_step": "N.", "retryable": False}
    assert bench.printing(message, error, status=1).infer(JOB) == {"outcome": "stopped"}
    assert bench.job.state is JobState.SUPERSEDED


def test_a_job_whose_process_died_is_run_again_from_the_beginning(bench: Bench) -> None:
    bench.store.move(JOB, JobState.PREPARING, "")
    bench.store.move(JOB, JobState.INFERRING, "")
    bench.computed()
    assert bench.job.state is JobState.SENDING


def test_a_job_in_sending_is_not_computed_again(bench: Bench) -> None:
    bench.computed()
    assert bench.worker.infer(JOB) == {"outcome": "stopped"}
    bench.worker.apply_result(JOB, json.dumps({"outcome": "stopped"}))
    assert bench.job.state is JobState.SENDING


def test_a_finding_of_level_error_holds_the_job_for_review(bench: Bench) -> None:
    worker = bench.printing(bench.done(held=["The body touches the edge."]))
    worker.apply_result(JOB, json.dumps(worker.infer(JOB)))
    assert (bench.job.state, bench.job.note) == (JobState.REVIEW, "The body touches the edge.")
    assert bench.store.deliveries(JOB) == []


def test_a_result_without_implausible_organs_is_sent_and_a_notice_names_them(bench: Bench) -> None:
    worker = bench.printing(bench.done() | {"left_out": "left out Larynx"})
    worker.apply_result(JOB, json.dumps(worker.infer(JOB)))
    assert bench.job.state is JobState.SENDING
    assert Watch(bench.config, bench.store.database).scan() == 1
    (notice,) = bench.store.database.read(Notice, "SELECT * FROM notice")
    assert (notice.code, notice.subject) == ("ORGANS_LEFT_OUT", f"job {JOB}: left out Larynx")


CARRIED: dict[str, Any] = {
    "rule": "pelvis",
    "protocol": "own.toml",
    "protocol_json": '{"profile": "eclipse", "others": "drop"}',
    "destinations": ("pacs",),
}


def test_a_job_is_done_as_it_was_decided_whatever_the_configuration_says_now(make_bench: MakeBench) -> None:
    bench = make_bench(replace(NEW, **CARRIED))
    bench.computed()
    asked = json.loads((bench.folder / "jobs" / JOB / "request.json").read_text())
    assert asked["protocol"] == {"profile": "eclipse", "others": "drop"}
    assert asked["bundles"] == ["starter"]
    assert [(d.destination, d.role) for d in bench.store.deliveries(JOB)] == [("pacs", "RTSTRUCT")]


def test_only_what_the_destinations_of_the_job_get_is_made(make_bench: MakeBench, tmp_path: Path) -> None:
    place = {"ae_title": "TPS", "host": "127.0.0.1", "port": 104}
    more = {"ae_title": "OTHER", "host": "127.0.0.1", "port": 105, "objects": ["PDF"]}
    bench = make_bench(destinations={"tps": place, "other": more})
    for names, wanted in (
        (("tps",), ["RTSTRUCT", "SEG"]),
        (None, ["RTSTRUCT", "SEG", "PDF:alone"]),
        ((), ["RTSTRUCT", "SEG"]),
    ):
        request = build_request(bench.config, replace(bench.job, destinations=names), (), tmp_path)
        assert list(request.requested_objects["roles"]) == wanted


def test_a_job_without_destinations_is_done_and_kept(make_bench: MakeBench) -> None:
    bench = make_bench(replace(NEW, destinations=()))
    bench.computed()
    assert bench.job.state is JobState.DONE


def test_a_destination_that_is_no_longer_configured_fails_visibly(make_bench: MakeBench) -> None:
    bench = make_bench(replace(NEW, destinations=("gone", "pacs")))
    bench.computed()
    bench.worker.send(JOB, "gone")
    bench.worker.send(JOB, "pacs")
    failed = {d.role: d.note for d in bench.store.deliveries(JOB) if d.state is DeliveryState.FAILED}
    assert set(failed) == {"RTSTRUCT", "SEG"}
    assert all("NETWORK_UNKNOWN_DESTINATION" in note for note in failed.values())
    assert (bench.job.state, bench.job.reason) == (JobState.FAILED, "NOT_DELIVERED")


def test_a_rule_that_asks_for_a_review_holds_the_result(make_bench: MakeBench) -> None:
    bench = make_bench(replace(NEW, review=True, rule="trial"))
    bench.computed()
    assert (bench.job.state, bench.job.reason) == (JobState.REVIEW, "REVIEW_BY_RULE")
    assert bench.job.note == "Rule 'trial' asks for a review."
    assert bench.store.deliveries(JOB) == []
    bench.worker.release(bench.job, stored_objects(bench.folder, bench.objects()))
    assert bench.job.state is JobState.SENDING


def test_an_object_that_changed_after_it_was_written_is_not_sent(bench: Bench) -> None:
    done = bench.done()
    done["objects"][0]["sha256"] = "0" * 64
    bench.printing(done).infer(JOB)
    assert bench.job.state is JobState.FAILED


def test_everything_delivered_is_done_with_the_peers_status(bench: Bench) -> None:
    bench.computed()
    bench.sender.status = 0xB000
    for place in ("tps", "pacs"):
        bench.worker.send(JOB, place)
    assert bench.job.state is JobState.DONE
    assert bench.sender.received == ["2.25.1", "2.25.2", "2.25.1"]
    assert {d.status for d in bench.store.deliveries(JOB)} == {0xB000}


def test_a_destination_that_is_down_is_tried_again_after_longer_and_longer_waits(bench: Bench) -> None:
    bench.computed()
    bench.sender.there = False
    waits = []
    for _ in range(3):
        bench.worker.send(JOB, "pacs")
        (delivery,) = [d for d in bench.store.deliveries(JOB) if d.destination == "pacs"]
        assert delivery.state is DeliveryState.RETRY_WAIT
        assert "NETWORK_UNREACHABLE" in delivery.note
        waits.append((delivery.next_attempt_at - bench.now).total_seconds())
    assert waits == [10, 20, 40]


def test_a_refusal_keeps_its_status_and_affects_no_other_object(bench: Bench) -> None:
    bench.computed()
    bench.sender.failures = [StoreRefused("no.", status=0xA700)]
    bench.worker.send(JOB, "tps")
    first, second = (d for d in bench.store.deliveries(JOB) if d.destination == "tps")
    assert (first.state, first.status) == (DeliveryState.RETRY_WAIT, 0xA700)
    assert second.state is DeliveryState.STORED


def test_a_destination_that_stays_down_is_given_up_and_the_job_is_failed(bench: Bench) -> None:
    bench.computed()
    bench.worker.send(JOB, "tps")
    bench.sender.failures = [Unreachable("x")]
    bench.worker.send(JOB, "pacs")
    bench.now = NOW.replace(year=2100) + timedelta(days=4)
    bench.sender.failures = [Unreachable("x")]
    bench.worker.send(JOB, "pacs")
    assert (bench.job.state, bench.job.reason) == (JobState.FAILED, "NOT_DELIVERED")


def test_an_object_that_is_missing_on_the_disk_fails_at_once(bench: Bench) -> None:
    bench.computed()
    (bench.folder / "jobs" / JOB / "out" / "RTSTRUCT.dcm").unlink()
    tools = Tools(sender=DicomSender(), clock=lambda: bench.now)
    Worker(bench.config, bench.store, tools).send(JOB, "pacs")
    (delivery,) = [d for d in bench.store.deliveries(JOB) if d.destination == "pacs"]
    assert delivery.state is DeliveryState.FAILED
    assert "INPUT_NOT_DICOM" in delivery.note


def test_an_alternate_destination_gets_only_what_the_first_refused(make_bench: MakeBench) -> None:
    tps = {"ae_title": "TPS", "host": "a", "port": 104, "alternate": "backup", "alternate_after_h": 1}
    places = {"tps": tps, "backup": {"ae_title": "BACKUP", "host": "b", "port": 104}}
    bench = make_bench(destinations=places)
    bench.computed()
    assert {d.destination for d in bench.store.deliveries(JOB)} == {"tps"}
    bench.sender.failures = [StoreRefused("no", status=0xC000), Unreachable("gone")]
    bench.worker.send(JOB, "tps")
    states = {(d.destination, d.role): d.state for d in bench.store.deliveries(JOB)}
    assert states == {
        ("backup", "RTSTRUCT"): DeliveryState.PENDING,
        ("tps", "RTSTRUCT"): DeliveryState.DROPPED,
        ("tps", "SEG"): DeliveryState.RETRY_WAIT,
    }
    bench.worker.send(JOB, "tps")
    bench.worker.send(JOB, "backup")
    assert bench.job.state is JobState.DONE
    assert bench.sender.received == ["2.25.2", "2.25.1"], "each object once, at one place"
    (moved,) = [d for d in bench.store.deliveries(JOB) if d.destination == "backup"]
    assert moved.note == "instead of tps"


def test_the_alternate_gets_variants_without_references_where_there_are_any(make_bench: MakeBench) -> None:
    tps = {"ae_title": "TPS", "host": "a", "port": 104, "alternate": "backup", "alternate_after_h": 1}
    places = {"tps": tps, "backup": {"ae_title": "BACKUP", "host": "b", "port": 104}}
    bench = make_bench(destinations=places)
    assert {"RTSTRUCT:alone", "SEG:alone"} <= set(bench.config.roles_for(["tps"]))
    assert "RTSTRUCT:alone" not in bench.config.roles_for(["backup"])
    bench.computed()
    alone = OutputObject(role="SEG:alone", path="alone.dcm", sop_uid="2.25.9", sha256="0" * 64)
    bench.store.attempts.keep_objects(JOB, [*bench.store.attempts.objects(JOB), alone])
    bench.sender.failures = [Unreachable("gone"), StoreRefused("no", status=0xC000)]
    bench.worker.send(JOB, "tps")
    (moved,) = [d for d in bench.store.deliveries(JOB) if d.destination == "backup"]
    assert (moved.role, moved.sop_uid, moved.path) == ("SEG:alone", "2.25.9", "alone.dcm")


def doubtful(code: str = "REGION_NOT_TRAINED") -> dict[str, Any]:
    """The final message of a child that found the scan doubtful."""
    sentence = {"sentence": "Another region.", "next_step": "View it."}
    return {"event": "error", "code": code, **sentence, "retryable": False}


def test_a_doubtful_scan_waits_for_a_person_and_is_not_tried_again(bench: Bench) -> None:
    worker = bench.printing(doubtful())
    result = worker.infer(JOB)
    worker.apply_result(JOB, json.dumps(result))
    assert result["outcome"] == "held"
    assert (bench.job.state, bench.job.reason) == (JobState.REVIEW, "REGION_NOT_TRAINED")
    assert bench.job.note == "Another region. View it."
    assert bench.store.deliveries(JOB) == []


def test_a_released_scan_is_contoured_whatever_it_shows(bench: Bench) -> None:
    worker = bench.printing(doubtful("PATIENT_POSITION_DOUBTFUL"))
    worker.infer(JOB)
    run = bench.job.run
    worker.release_approved(bench.job)
    assert (bench.job.state, bench.job.run) == (JobState.QUEUED, run + 1)
    request = build_request(bench.config, bench.job, [], bench.folder)
    assert request.scan_released
    bench.computed()
    assert bench.job.state is JobState.SENDING


def test_a_scan_that_nobody_released_is_judged(bench: Bench) -> None:
    assert not build_request(bench.config, bench.job, [], bench.folder).scan_released
