"""Exceptions without a code of their own: type and place are reported, never the text."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from orgseg_node.core.organs import load_organs
from orgseg_node.errors import (
    DiskFull,
    NotDicom,
    OrgsegError,
    OutOfMemory,
    SystemCallFailed,
    UnexpectedFailure,
)
from orgseg_node.errors.unexpected import coded, place, stack_without_text
from orgseg_node.node.store.model import JobState
from tests.unit.node.processing.test_worker import JOB, Bench


def caught(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except type(error) as found:
        return found


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), OutOfMemory),
        (OSError(errno.ENOMEM, "x"), OutOfMemory),
        (OSError(errno.ENOSPC, "x"), DiskFull),
        (OSError(errno.EIO, "x"), SystemCallFailed),
        (FileNotFoundError(errno.ENOENT, "x"), UnexpectedFailure),
        (ValueError("Mueller^Anna"), UnexpectedFailure),
        (RecursionError(), UnexpectedFailure),
        (NotDicom(), NotDicom),
    ],
)
def test_every_exception_has_a_code(error: Exception, expected: type[OrgsegError]) -> None:
    found = coded(caught(error))
    assert type(found) is expected
    assert "Mueller" not in found.sentence


def test_a_cause_counts_too() -> None:
    assert type(coded(caught(ValueError("x"), MemoryError()))) is OutOfMemory


def test_the_place_is_the_last_line_of_this_program() -> None:
    with pytest.raises(AttributeError) as raised:
        load_organs(3)  # type: ignore[arg-type]
    assert place(raised.value).startswith("orgseg_node.core.organs:")
    assert place(caught(ValueError())) == "an unknown place"


def test_the_stack_names_the_causes_without_their_texts() -> None:
    stack = stack_without_text(caught(ValueError("Mueller^Anna"), caught(KeyError("1234"))))
    assert stack.index("builtins.KeyError") < stack.index("builtins.ValueError")
    assert "Mueller" not in stack
    assert "1234" not in stack


def test_an_unexpected_failure_of_the_child_fails_the_job_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    error = coded(caught(ValueError("Mueller^Anna")))
    message = {"event": "error", "code": error.code, "sentence": error.sentence, "next_step": error.next_step}
    assert bench.printing({**message, "retryable": False}, status=1).infer(JOB)["outcome"] == "failed"
    assert (bench.job.state, bench.job.reason, bench.job.deaths) == (JobState.FAILED, "JOB_UNEXPECTED", 0)


def test_an_unexpected_failure_of_the_node_fails_the_job_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.printing({"event": "done", "held": []}).infer(JOB)["outcome"] == "failed"
    assert (bench.job.state, bench.job.reason) == (JobState.FAILED, "JOB_UNEXPECTED")
    assert "KeyError at orgseg_node.node.processing." in bench.job.note


def test_a_result_that_cannot_be_applied_fails_the_job(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    result = bench.printing(bench.done()).infer(JOB)
    del result["held"]
    bench.worker.apply_result(JOB, json.dumps(result))
    assert (bench.job.state, bench.job.reason) == (JobState.FAILED, "JOB_UNEXPECTED")
