"""The background process returns the same files as this process; after a failure they are made here."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from orgseg_node.contouring.background import BackgroundProcess


def test_the_files_come_from_another_process() -> None:
    files = BackgroundProcess(lambda: {"pid": str(os.getpid()).encode(), "large": b"x" * 5_000_000}).files()
    assert len(files["large"]) == 5_000_000
    assert int(files["pid"]) != os.getpid()


@pytest.mark.parametrize("after", [0, 1], ids=["at once", "in the middle"])
def test_a_process_that_ends_unexpectedly_costs_time_only(after: int) -> None:
    here = os.getpid()

    class Exiting(dict[str, bytes]):
        def items(self) -> Any:  # type: ignore[override]
            for number, item in enumerate(super().items()):
                if number >= after and os.getpid() != here:
                    os._exit(9)
                yield item

    files = BackgroundProcess(lambda: Exiting(a=b"1", b=b"2")).files()
    assert {name: files[name] for name in files} == {"a": b"1", "b": b"2"}


def test_an_error_is_raised_where_the_files_are_requested(capfd: pytest.CaptureFixture[str]) -> None:
    def fails() -> dict[str, bytes]:
        raise ValueError("no picture")

    drawing = BackgroundProcess(fails)
    with pytest.raises(ValueError, match="no picture"):
        drawing.files()
    capfd.readouterr()


def test_on_one_core_the_files_are_made_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert int(BackgroundProcess(lambda: {"pid": str(os.getpid()).encode()}).files()["pid"]) == os.getpid()


def test_a_process_that_hangs_is_not_waited_for() -> None:
    here = os.getpid()

    def make() -> dict[str, bytes]:
        while os.getpid() != here:
            time.sleep(1)
        return {"a": b"1"}

    began = time.monotonic()
    assert BackgroundProcess(make, timeout_s=0.2).files() == {"a": b"1"}
    assert time.monotonic() - began < 10


KILLED = """
import os, time
from orgseg_node.contouring.background import BackgroundProcess
BackgroundProcess(lambda: {"larger than a pipe": b"x" * 5_000_000})
os.write(1, b".")
time.sleep(60)
"""


def test_the_fork_ends_with_its_process_and_releases_its_locks(tmp_path: Path) -> None:
    """The device is free for the next job, and the node sees that the process has ended."""
    with (tmp_path / "device.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED],
            stdout=subprocess.PIPE,
            start_new_session=True,
            pass_fds=(lock.fileno(),),
        )
    assert process.stdout is not None
    try:
        assert process.stdout.read(1) == b"."
        process.kill()
        process.wait()
        with (tmp_path / "device.lock").open("w") as lock:
            end = time.monotonic() + 5
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    assert time.monotonic() < end, "the device is still held"
                    time.sleep(0.05)
        os.set_blocking(process.stdout.fileno(), False)
        assert process.stdout.read(1) == b"", "its output has ended"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
