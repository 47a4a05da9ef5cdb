"""A step of nnU-Net in a process of its own, and why it ended if it did not finish."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orgseg_node.contouring.background import exit_with_parent
from orgseg_node.durable import is_full
from orgseg_node.errors import DiskFull, OrgsegError, OutOfMemory, UnexpectedFailure
from orgseg_node.errors.unexpected import coded
from orgseg_training.errors import TrainerFailed, TrainingKilled, TrainingNotFinite

_REASON: Final = "ORGSEG_TRAINING_REASON"
_REPORTED: Final = 3
_MOST_BYTES: Final = 60_000  # a pipe holds 64 KiB
_SHELL_KILLED: Final = 128 + signal.SIGKILL
_POLL_S: Final = 0.5
_CODES: Final = {error.code: error for error in (TrainingNotFinite, OutOfMemory, DiskFull)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Where the output of a process goes, and who is called while it runs.

    Attributes
    ----------
    log : file to which its output is appended; None for that of this process
    on_wait : called about twice a second
    """

    log: Path | None = None
    on_wait: Callable[[], None] = lambda: None


def run_child(script: Path, environment: Mapping[str, str], what: str, watch: Watch) -> None:
    """Run a Python script to its end.

    Parameters
    ----------
    script : calls `report_reason` around what it does
    environment : of the process
    what : is done, for the error
    watch : where its output goes, and who is called while it runs

    Raises
    ------
    TrainingNotFinite, OutOfMemory, DiskFull
        If the script ended with it.
    TrainingKilled
        If it was ended by a signal, most often because memory was short.
    TrainerFailed
        If it failed in another way.
    """
    log = watch.log
    killed_before = _killed_for_memory()
    with _reason_pipe() as (reader, writer), open(log or os.devnull, "ab") as stream:  # noqa: PTH123  # no Path
        child = subprocess.Popen(
            [sys.executable, str(script)],
            env={**environment, _REASON: str(writer)},
            stdout=stream if log else None,
            stderr=subprocess.STDOUT if log else None,
            pass_fds=(writer,),
        )
        try:
            while (status := _wait(child)) is None:
                watch.on_wait()
        except BaseException:
            child.terminate()
            child.wait()
            raise
        known = _read_reason(reader)
    watch.on_wait()
    if status == 0:
        return
    if known.get("code") in _CODES:
        raise _CODES[known["code"]](known["detail"])
    if status in {-signal.SIGKILL, _SHELL_KILLED}:
        sure = _killed_for_memory() > killed_before
        why = (
            "The operating system ended it because memory was short"
            if sure
            else "Most often the reason is that memory was short"
        )
        raise TrainingKilled(f"{what}: ended by the signal KILL. {why}.")
    if status < 0:
        raise TrainingKilled(f"{what}: ended by the signal {signal.Signals(-status).name}.")
    where = f"; see {log}" if log else ""
    raise TrainerFailed(f"{what}: {known.get('detail') or f'status {status}'}{where}.")


@contextmanager
def _reason_pipe() -> Iterator[tuple[int, int]]:
    """A pipe for the reason of a failure: it also takes it where nothing can be written to the disk."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


def _read_reason(reader: int) -> dict[str, str]:
    try:
        known = json.loads(os.read(reader, _MOST_BYTES))
    except (OSError, ValueError):  # nothing was written
        return {}
    return known if isinstance(known, dict) else {}


def _wait(child: subprocess.Popen[bytes]) -> int | None:
    try:
        return child.wait(_POLL_S)
    except subprocess.TimeoutExpired:
        return None


@contextmanager
def report_reason() -> Iterator[None]:
    """In the child: the reason of a failure goes to the parent; the log has the whole traceback.

    The child ends when its parent is killed: two of them would train in the same folder.
    """
    exit_with_parent(os.getppid())
    try:
        yield
    except Exception as error:
        known = _known(error)
        text = json.dumps({"code": known.code, "detail": known.detail.rstrip(".")})
        os.write(int(os.environ[_REASON]), text.encode()[:_MOST_BYTES])
        with suppress(OSError):  # the log may be on a full disk
            traceback.print_exc()
        raise SystemExit(_REPORTED) from error


def _known(error: Exception) -> OrgsegError:
    if type(error).__name__ == "OutOfMemoryError":  # torch's, for a GPU; torch is not imported here
        return OutOfMemory("The memory of the GPU is not enough for a batch of this network.")
    known = coded(error)
    # libraries that write files themselves, such as blosc2 and torch, give no reason
    full = isinstance(known, UnexpectedFailure) and is_full(Path(sys.argv[0]).parent)
    return DiskFull() if full else known


def _killed_for_memory() -> int:
    """How many processes of this control group the system ended because memory was short; 0 if unknown."""
    try:
        group = Path("/proc/self/cgroup").read_text(encoding="ascii").split("::", 1)[1].splitlines()[0]
        file = Path("/sys/fs/cgroup", group.lstrip("/"), "memory.events")
        if not file.is_file():
            file = Path("/sys/fs/cgroup/memory.events")
        lines = dict(line.split() for line in file.read_text(encoding="ascii").splitlines())
        return int(lines["oom_kill"])
    except (OSError, IndexError, KeyError, ValueError):
        return 0
