"""The process that contours: its error messages, and that it ends with its parent."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pydicom
import pytest

from orgseg_node.contouring.protocol import Protocol
from orgseg_node.dicom.reading.series import files_in, read_series
from orgseg_node.node.processing.child import describe_left_out
from orgseg_node.node.processing.child_request import ChildRequest
from tests.support.node.failing_child import NETWORKS
from tests.support.processes.forked import ForkedProcess


def request(ct_folder: Path, out: Path, **changes: Any) -> Path:
    values: dict[str, Any] = {
        "job_id": "0123456789abcdef",
        "created": "2026-01-02T03:04:05+00:00",
        "files": tuple(map(str, files_in(ct_folder))),
        "content_sha256": read_series(ct_folder).content_sha256,
        "out": str(out),
        "bundles": ("no-such-bundle",),
        "bundle_folders": (),
        "settings": {"method": "whole", "device": "cpu"},
        "protocol": Protocol().as_json,
        "requested_objects": {"roles": ["RTSTRUCT", "SEG"], "seg": "BINARY"},
        "parent_pid": os.getpid(),
        **changes,
    }
    file = out.parent / "request.json"
    file.write_text(ChildRequest(**values).to_json(), encoding="utf-8")
    assert ChildRequest.from_json(file.read_text(encoding="utf-8")) == ChildRequest(**values)
    return file


def contoured(file: Path, what: str = NETWORKS) -> tuple[list[dict[str, Any]], str]:
    """The messages of a process that must fail, and its standard error; see `failing_child`."""
    out, log = file.with_name("messages"), file.with_name("log")
    with out.open("wb") as stdout, log.open("wb") as stderr:
        process = ForkedProcess(
            "tests.support.node.failing_child",
            [what, str(file)],
            streams=(0, stdout.fileno(), stderr.fileno()),
        )
        assert process.wait(60) == 1, log.read_text()
    return [json.loads(line) for line in out.read_text().splitlines()], log.read_text()


def final_message(file: Path) -> dict[str, Any]:
    return contoured(file)[0][-1]


@pytest.mark.parametrize(
    ("grades", "text"),
    [
        ({"Larynx": "implausible", "Cord": "unusual", "Brain": None}, "left out Larynx; unusual Cord"),
        ({"Larynx": "implausible", "Mandible": "implausible"}, "left out Larynx, Mandible"),
        ({"Parotid_L": "unusual"}, ""),
    ],
)
def test_what_was_left_out_is_named_with_what_is_unusual_beside_it(
    grades: dict[str, str | None], text: str
) -> None:
    organs = [
        {"name": name, "grade": grade, "left_out": grade == "implausible"} for name, grade in grades.items()
    ]
    assert describe_left_out(organs) == text


def test_an_unknown_bundle_is_reported_by_its_code(ct_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "orgseg_node.node.processing.child"]
    ended = subprocess.run(
        [*command, request(ct_folder, tmp_path / "out")],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1, ended.stderr
    message = json.loads(ended.stdout.splitlines()[-1])
    assert (message["event"], message["code"], message["retryable"]) == ("error", "BUNDLE_UNKNOWN", False)
    assert "orgseg models" in message["next_step"]


def test_a_series_that_changed_on_the_disk_is_not_contoured(ct_folder: Path, tmp_path: Path) -> None:
    message = final_message(request(ct_folder, tmp_path / "out", content_sha256="0" * 64))
    assert message["code"] == "INPUT"
    assert "changed on the disk" in message["sentence"]


def test_a_job_of_an_earlier_version_is_contoured_by_its_hash_of_whole_files(
    ct_folder: Path, tmp_path: Path
) -> None:
    lines = sorted(
        f"{pydicom.dcmread(path).SOPInstanceUID} {hashlib.sha256(path.read_bytes()).hexdigest()}\n"
        for path in files_in(ct_folder)
    )
    earlier = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert earlier != read_series(ct_folder).content_sha256
    message = final_message(request(ct_folder, tmp_path / "out", content_sha256=earlier))
    assert message["code"] == "BUNDLE_UNKNOWN", "which is opened after the series"


@pytest.mark.endurance
def test_too_small_a_memory_budget_is_reported_with_what_is_needed(ct_folder: Path, tmp_path: Path) -> None:
    budget = {"method": "streaming", "device": "cpu", "memory_budget_mb": 5}
    wanted = request(
        ct_folder, tmp_path / "out", bundles=("starter-hn",), settings=budget, scan_released=True
    )
    message = final_message(wanted)
    assert (message["code"], message["retryable"]) == ("INFERENCE_BUDGET", False)
    assert re.search(r"needs about \d+ MB of main memory; 5 MB are allowed", message["sentence"])
    assert "memory_budget_mb" in message["next_step"]
    assert not (tmp_path / "out").exists()


def test_a_child_out_of_memory_reports_it_and_limits_its_progress_messages(
    ct_folder: Path, tmp_path: Path
) -> None:
    (*messages, last), _ = contoured(request(ct_folder, tmp_path / "out"), "flood")
    assert (last["event"], last["code"], last["retryable"]) == ("error", "INFERENCE_OUT_OF_MEMORY", True)
    assert "memory_budget_mb" in last["next_step"]
    assert len(messages) < 50
    assert [each["fraction"] for each in messages] == sorted(each["fraction"] for each in messages)
    inferring = [each["text"] for each in messages if each["state"] == "INFERRING"]
    assert inferring[0] == "segmenting"


def test_an_unexpected_exception_is_reported_by_type_and_place_without_its_text(
    ct_folder: Path, tmp_path: Path
) -> None:
    (*messages, last), log = contoured(request(ct_folder, tmp_path / "out"), "unexpected")
    assert (last["event"], last["code"]) == ("error", "JOB_UNEXPECTED")
    assert last["retryable"] is False
    assert re.search(r"KeyError at orgseg_node\.contouring\.scan_check:\d+\.", last["sentence"])
    assert "Mueller" not in json.dumps([*messages, last]) + log
    assert "KeyError" in log
    assert "in predict" in log, "the stack is in the log of the job"


def test_temporary_files_are_in_the_folder_of_the_job(ct_folder: Path, tmp_path: Path) -> None:
    (*_, last), _ = contoured(request(ct_folder, tmp_path / "out"), "temporary")
    assert f" {tmp_path}/" in last["sentence"]
    assert not list(tmp_path.glob("tmp*")), "and is gone with it"


def test_it_ends_with_its_parent_without_a_message() -> None:
    grandchild = (
        "import os, time; from orgseg_node.contouring.background import exit_with_parent;"
        "exit_with_parent(os.getppid()); print(os.getpid(), flush=True); time.sleep(60)"
    )
    parent = (
        "import subprocess, sys;"
        f"p = subprocess.Popen([sys.executable, '-c', {grandchild!r}], stdout=subprocess.PIPE);"
        "print(p.stdout.readline().decode(), flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        process.kill()
        process.wait()
        end = time.monotonic() + 5
        while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < end
            time.sleep(0.05)
