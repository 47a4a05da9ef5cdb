"""A warm worker gets its request, its log and the lock of the device, and does not outlive the node."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from orgseg_node.node.processing.warm_worker import WarmWorker
from tests.support.node.node_process import wait_for

CHILD = """
import os, sys
from orgseg_node.node.processing.warm_worker import wait_for_request
class SeriesPreloader:
    def preload(self, folder):
        with open(folder / "looked", "a") as log:
            print(folder.name, file=log)
request = wait_for_request(SeriesPreloader())
if request:
    print("asked", open(request).read(), flush=True)
    print("heard", file=sys.stderr, flush=True)
    sys.stdin.read()
    while not os.path.exists(request + ".over"):
        pass
"""


@pytest.fixture
def warm_worker(tmp_path: Path) -> Iterator[WarmWorker]:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    warm_worker = WarmWorker([sys.executable, str(script)])
    yield warm_worker
    warm_worker.stop()


def waiting() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "--wait" in p.cmdline()]


def taken(warm_worker: WarmWorker, request: Path, keep: list[int]) -> subprocess.Popen[bytes]:
    warm_worker.prepare()
    wait_for(waiting, 10, "a child waits")
    return wait_for(lambda: warm_worker.assign(request, request.with_suffix(".log"), keep), 10, "it is taken")


def test_it_reads_its_request_and_holds_what_it_inherits(warm_worker: WarmWorker, tmp_path: Path) -> None:
    request = tmp_path / "request"
    request.write_text("this")
    lock = (tmp_path / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    child = taken(warm_worker, request, [lock.fileno()])
    assert child.stdout is not None
    assert child.stdout.readline() == b"asked this\n"
    wait_for(lambda: request.with_suffix(".log").read_text() == "heard\n", 10, "stderr goes to the log")
    lock.close()
    with (tmp_path / "lock").open("w") as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        Path(f"{request}.over").touch()
        assert child.wait(10) == 0
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    child.stdout.close()
    assert warm_worker.assign(request, tmp_path / "log", []) is None, "each is used once"


def test_it_preloads_one_series_and_then_takes_its_request(warm_worker: WarmWorker, tmp_path: Path) -> None:
    first, other = tmp_path / "first", tmp_path / "other"
    first.mkdir()
    other.mkdir()
    warm_worker.preload(first)  # no child is ready yet
    warm_worker.prepare()
    wait_for(lambda: warm_worker._ready, 10, "a child is ready")
    for folder in (first, other, first):
        warm_worker.preload(folder)
    (tmp_path / "request").write_text("that")
    child = taken(warm_worker, tmp_path / "request", [])
    assert child.stdout is not None
    assert child.stdout.readline() == b"asked that\n"
    assert (first / "looked").read_text() == "first\nfirst\n", "again, as more images came"
    assert not (other / "looked").exists(), "it would delay the job of the first"
    Path(f"{tmp_path / 'request'}.over").touch()
    child.wait(10)
    child.stdout.close()


def test_another_series_is_preloaded_when_the_first_did_not_become_a_job(
    warm_worker: WarmWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orgseg_node.node.processing.warm_worker._EXPECTED_S", 0.0)
    for name in ("first", "other"):
        (tmp_path / name).mkdir()
    warm_worker.prepare()
    wait_for(lambda: warm_worker._ready, 10, "a child is ready")
    warm_worker.preload(tmp_path / "first")
    warm_worker.preload(tmp_path / "other")
    wait_for((tmp_path / "other" / "looked").exists, 10, "the other is looked at")
    assert (tmp_path / "first" / "looked").exists()


def test_a_child_that_hangs_while_preloading_delays_no_job(
    warm_worker: WarmWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orgseg_node.node.processing.warm_worker._PRELOAD_S", 0.5)
    (tmp_path / "child.py").write_text("import time\ntime.sleep(60)\n")
    warm_worker.prepare()
    (child,) = wait_for(waiting, 10, "a child waits")
    wait_for(lambda: warm_worker._ready, 10, "it is ready")
    for _ in range(20_000):  # more than its socket takes
        warm_worker.preload(tmp_path)
    assert warm_worker.assign(tmp_path / "request", tmp_path / "log", []) is None
    assert not child.is_running()


def test_a_child_that_dies_while_preloading_gets_no_request(warm_worker: WarmWorker, tmp_path: Path) -> None:
    script = (tmp_path / "child.py").read_text()
    (tmp_path / "child.py").write_text(
        script.replace("def preload(self, folder):", "def look(self, folder):\n        os._exit(9)")
    )
    warm_worker.prepare()
    wait_for(lambda: warm_worker._ready, 10, "a child is ready")
    warm_worker.preload(tmp_path)
    assert warm_worker.assign(tmp_path / "request", tmp_path / "log", []) is None


def test_one_that_died_while_it_waited_gets_no_request(warm_worker: WarmWorker, tmp_path: Path) -> None:
    warm_worker.prepare()
    (child,) = wait_for(waiting, 10, "a child waits")
    os.kill(child.pid, signal.SIGKILL)
    wait_for(lambda: child.status() == psutil.STATUS_ZOMBIE, 10, "it is dead")
    assert warm_worker.assign(tmp_path / "request", tmp_path / "log", []) is None
    (tmp_path / "request").write_text("next")
    child = taken(warm_worker, tmp_path / "request", [])
    assert child.stdout is not None
    assert child.stdout.readline() == b"asked next\n"
    Path(f"{tmp_path / 'request'}.over").touch()
    child.wait(10)
    child.stdout.close()


def test_it_ends_with_the_node_also_when_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    node = tmp_path / "node.py"
    node.write_text(
        "import sys, time\nfrom orgseg_node.node.processing.warm_worker import WarmWorker\n"
        f"kept = WarmWorker([sys.executable, {str(script)!r}])\nkept.prepare()\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, str(node)]) as running:
        parent = psutil.Process(running.pid)
        (child,) = wait_for(parent.children, 20, "a child waits")
        running.kill()
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 10, "it is gone")


def test_an_orderly_stop_ends_it_and_starts_no_other(warm_worker: WarmWorker, tmp_path: Path) -> None:
    warm_worker.prepare()
    (child,) = wait_for(waiting, 10, "a child waits")
    wait_for(lambda: warm_worker._ready, 10, "it is ready")
    warm_worker.stop()
    assert not child.is_running()
    warm_worker.prepare()
    assert warm_worker.assign(tmp_path / "request", tmp_path / "log", []) is None


def test_without_a_command_none_is_started(tmp_path: Path) -> None:
    warm_worker = WarmWorker(None)
    warm_worker.prepare()
    assert warm_worker.assign(tmp_path / "request", tmp_path / "log", []) is None
    assert not waiting()
    warm_worker.stop()
