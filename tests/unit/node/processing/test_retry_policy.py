"""Crashes, memory and time limit: when a job is tried again, and when it is given up."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from orgseg_node.errors import (
    DiskFull,
    InputError,
    JobStopped,
    OrgsegError,
    OutOfMemory,
    TimeLimit,
    WorkerDied,
)
from orgseg_node.node.processing.retry_policy import FailureKind, classify_failure
from orgseg_node.node.processing.worker import Tools, Worker
from orgseg_node.node.store.model import DeliveryState, JobState
from tests.support.node.node_process import wait_for
from tests.unit.node.processing.test_worker import JOB, Bench

OOM = {
    "event": "error", "code": OutOfMemory.code, "sentence": "S.", "next_step": "N.", "retryable": True,
}  # fmt: skip


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (WorkerDied, FailureKind.CRASH),
        (OutOfMemory, FailureKind.OUT_OF_MEMORY),
        (DiskFull, FailureKind.TRANSIENT),
        (InputError, FailureKind.PERMANENT),
        (TimeLimit, FailureKind.PERMANENT),
    ],
)
def test_each_error_has_one_kind_of_failure(error: type[OrgsegError], kind: FailureKind) -> None:
    assert classify_failure(error.code, retryable=error.retryable) is kind


def test_three_crashes_of_the_child_fail_the_job(bench: Bench) -> None:
    worker = bench.printing(then="os.kill(os.getpid(), 9)")
    assert [worker.infer(JOB)["outcome"] for _ in range(3)] == ["retry", "retry", "failed"]
    assert (bench.job.state, bench.job.reason, bench.job.deaths) == (JobState.FAILED, "JOB_POISON", 3)
    assert "3 times" in bench.job.note
    assert "orgseg jobs retry" in bench.job.note


def test_crashes_of_the_node_count_with_those_of_the_child(bench: Bench) -> None:
    worker = bench.printing(then="os.kill(os.getpid(), 9)")
    worker.infer(JOB)
    for deaths in (1, 2):
        # the process died in the middle: the attempt was not ended
        assert bench.store.attempts.begin(JOB) == deaths
    result = worker.infer(JOB)
    assert (result["outcome"], bench.job.reason) == ("failed", "JOB_POISON")
    assert not (bench.folder / "jobs" / JOB / "out").exists()


def test_a_child_that_finishes_is_no_crash(bench: Bench) -> None:
    bench.computed()
    assert (bench.job.deaths, bench.job.at_risk) == (0, 0)


def test_out_of_memory_is_tried_once_more_with_half_of_the_free_memory(bench: Bench) -> None:
    bench.printing(OOM, status=1)
    tools = Tools(sender=bench.sender, child_command=bench.worker._tools.child_command, free_mb=lambda: 6000)
    worker = Worker(bench.config, bench.store, tools)
    assert worker.infer(JOB)["outcome"] == "retry"
    assert bench.job.memory_budget_mb == 3000
    assert "3000 MB" in bench.job.note
    result = worker.infer(JOB)
    asked = json.loads((bench.folder / "jobs" / JOB / "request.json").read_text())
    assert asked["settings"]["memory_budget_mb"] == 3000
    assert (result["outcome"], bench.job.state) == ("failed", JobState.FAILED)
    assert bench.job.reason == OutOfMemory.code
    assert bench.job.note.endswith("It was tried twice, the second time with a memory budget of 3000 MB.")


def test_out_of_memory_is_tried_with_half_of_the_configured_budget(tmp_path: Path) -> None:
    bench = Bench(tmp_path, inference={"memory_budget_mb": 1000})
    bench.printing(OOM, status=1).infer(JOB)
    assert bench.job.memory_budget_mb == 500


def test_approved_objects_are_sent_if_they_are_those_that_were_proven(bench: Bench) -> None:
    worker = bench.printing(bench.done(held=["Look at it."]))
    worker.apply_result(JOB, json.dumps(worker.infer(JOB)))
    assert bench.job.state is JobState.REVIEW
    worker.release_approved(bench.job)
    assert bench.job.state is JobState.SENDING
    assert len(bench.store.deliveries(JOB)) == 3


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"other")])
def test_approved_objects_that_have_changed_are_not_sent(bench: Bench, spoil: object) -> None:
    worker = bench.printing(bench.done(held=["Look at it."]))
    worker.apply_result(JOB, json.dumps(worker.infer(JOB)))
    spoil(bench.folder / "jobs" / JOB / "out" / "SEG.dcm")  # type: ignore[operator]
    worker.release_approved(bench.job)
    assert (bench.job.state, bench.job.reason) == (JobState.FAILED, "STORAGE")
    assert bench.store.deliveries(JOB) == []


def test_a_job_cancelled_in_the_middle_of_sending_sends_no_further_object(bench: Bench) -> None:
    bench.computed()
    send = bench.sender.send

    def then_cancel(*arguments: object) -> object:
        stored = send(*arguments)  # type: ignore[arg-type]
        bench.store.move(JOB, JobState.CANCELLED, "by a person")
        return stored

    bench.sender.send = then_cancel  # type: ignore[method-assign, assignment]  # a person acts meanwhile
    bench.worker.send(JOB, "tps")
    states = {(d.destination, d.role): d.state for d in bench.store.deliveries(JOB)}
    assert states == {
        ("tps", "RTSTRUCT"): DeliveryState.STORED,
        ("tps", "SEG"): DeliveryState.DROPPED,
        ("pacs", "RTSTRUCT"): DeliveryState.DROPPED,
    }
    assert bench.sender.received == ["2.25.1"]
    assert bench.job.state is JobState.CANCELLED


def test_a_stop_in_order_is_no_crash(bench: Bench) -> None:
    worker = bench.printing(then="time.sleep(60)")

    def infer() -> None:
        with pytest.raises(JobStopped):  # the engine, which has stopped, stores no result
            worker.infer(JOB)

    thread = threading.Thread(target=infer)
    thread.start()
    wait_for(lambda: bench.job.at_risk == 1, 20, "the child runs")
    worker.stop_children()
    wait_for(lambda: bench.job.at_risk == 0, 20, "the child was ended")
    worker.engine_stopped()
    thread.join(20)
    assert (bench.job.deaths, bench.job.state) == (0, JobState.PREPARING), "the next start runs it again"
