"""Runs one child process that talks in JSON lines, and makes sure that it ends."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from orgseg_node.errors import JobStopped, TimeLimit, WorkerDied

_TICK_S: Final = 0.5
_END_OF_LINES: Final = None

Message = Mapping[str, Any]


def start_child(command: Sequence[str], log: Path, keep: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Start a command whose stdout `attend` reads.

    Parameters
    ----------
    command : program and arguments
    log : file for what it says on stderr
    keep : descriptors of open files that the child inherits
    """
    with log.open("ab") as stderr:
        return subprocess.Popen(
            [*command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
            pass_fds=tuple(keep),
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )


def attend(
    child: subprocess.Popen[bytes],
    on_message: Callable[[Message], bool],
    *,
    must_stop: Callable[[], bool],
    time_limit_s: float,
) -> None:
    """Attend a child to its end, handing on each JSON object it prints.

    Parameters
    ----------
    child : just started, or just given its work
    on_message : called with each line of its stdout that is a JSON object; it answers whether that was the
        last word, after which the child is not needed any more and is ended
    must_stop : asked twice a second; the child is killed when it answers yes
    time_limit_s : the child is killed after so long

    Raises
    ------
    WorkerDied
        If it ended by a signal, or with a status other than 0 and 1 (1 says: I told you why), without a last
        word.
    TimeLimit
        If it took too long.
    JobStopped
        If it was told to stop.
    """
    deadline = time.monotonic() + time_limit_s
    lines: queue.Queue[bytes | None] = queue.Queue()
    reader = threading.Thread(target=_read, args=(child.stdout, lines), daemon=True)
    reader.start()
    try:
        if _listen(lines, on_message, must_stop, deadline, time_limit_s):
            return
        status = child.wait(timeout=max(1.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        raise TimeLimit(f"It closed its output but did not end within {time_limit_s:g} s.") from error
    finally:
        kill_group(child)
        reader.join()
        if child.stdout is not None:
            child.stdout.close()
    if status < 0:
        raise WorkerDied(f"It was ended by signal {-status}.")
    if status > 1:
        raise WorkerDied(f"It ended with status {status}.")


def _listen(
    lines: queue.Queue[bytes | None],
    on_message: Callable[[Message], bool],
    must_stop: Callable[[], bool],
    deadline: float,
    time_limit_s: float,
) -> bool:
    """Whether a last word came before its output ended."""
    next_look = 0.0
    while True:
        now = time.monotonic()
        if now > deadline:
            raise TimeLimit(f"The limit is {time_limit_s:g} s.")
        if now >= next_look:
            if must_stop():
                raise JobStopped
            next_look = now + _TICK_S
        try:
            line = lines.get(timeout=_TICK_S)
        except queue.Empty:
            continue
        if line is _END_OF_LINES:
            return False
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if isinstance(message, dict) and on_message(message):
            return True


def _read(stream: IO[bytes] | None, lines: queue.Queue[bytes | None]) -> None:
    if stream is not None:
        for line in stream:
            lines.put(line)
    lines.put(_END_OF_LINES)


def kill_group(child: subprocess.Popen[bytes]) -> None:
    """End a child and everything it started, at once."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        child.kill()
    child.wait()
