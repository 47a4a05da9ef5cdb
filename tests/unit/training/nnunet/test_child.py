"""Why a training process ended is said with its own code."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orgseg_node.errors import DiskFull, OrgsegError, OutOfMemory
from orgseg_training.errors import TrainerFailed, TrainingKilled, TrainingNotFinite
from orgseg_training.nnunet.child import Watch, run_child
from tests.support.small_disk import fill, small_disk

HEAD = "from orgseg_training.nnunet.child import report_reason\nwith report_reason():\n    "
NOT_FINITE = "from orgseg_training.errors import TrainingNotFinite as E; raise E('9 of 9 steps.')"


def _run(folder: Path, code: str, log: Path | None = None) -> None:
    script = folder / "step.py"
    script.write_text(code, encoding="utf-8")
    run_child(script, os.environ, "Dataset801_common", Watch(log=log))


def test_a_script_that_ends_well(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    _run(tmp_path, HEAD + "print('done')", log)
    assert log.read_text(encoding="utf-8") == "done\n"


@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        (HEAD + NOT_FINITE, TrainingNotFinite, "9 of 9 steps"),
        (HEAD + "raise MemoryError", OutOfMemory, "enough memory"),
        (HEAD + "raise OSError(28, 'full')", DiskFull, "disk"),
        (HEAD + "OutOfMemoryError = type('OutOfMemoryError', (RuntimeError,), {}); raise OutOfMemoryError",
         OutOfMemory, "GPU"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", TrainingKilled, "memory was short"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", TrainingKilled, "SIGTERM"),
        (HEAD + "raise ValueError('Doe^John')", TrainerFailed, "ValueError at"),
        ("raise SystemExit(9)", TrainerFailed, "status 9"),
    ],
)  # fmt: skip
def test_the_reason_of_an_end(tmp_path: Path, code: str, error: type[OrgsegError], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        _run(tmp_path, code, tmp_path / "log.txt")
    assert "Doe" not in str(caught.value)


def test_the_process_ends_with_its_parent(tmp_path: Path) -> None:
    number = tmp_path / "number"
    body = f"import os, time; open({str(number)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    script = tmp_path / "step.py"
    script.write_text(HEAD + body, encoding="utf-8")
    code = (
        "import os, pathlib\nfrom orgseg_training.nnunet.child import Watch, run_child\n"
        f"run_child(pathlib.Path({str(script)!r}), os.environ, 'x', Watch())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while not (number.is_file() and number.read_text(encoding="utf-8")) and time.monotonic() < deadline:
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    child = Path("/proc", number.read_text(encoding="utf-8"))
    while child.is_dir() and " Z " not in (child / "stat").read_text(encoding="utf-8"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_full_disk_is_said_although_nothing_can_be_written(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        script = disk / "step.py"
        script.write_text(HEAD + "raise RuntimeError('unexpected pos 704 vs 598')", encoding="utf-8")
        filler = fill(disk)
        with pytest.raises(DiskFull):
            run_child(script, os.environ, "Dataset801_common", Watch(log=disk / "log.txt"))
        filler.unlink()
