"""Runs one child process that prints JSON lines, and makes sure that it ends."""

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

_POLL_S: Final = 0.5
_END_OF_OUTPUT: Final = None

Message = Mapping[str, Any]


def start_child(
    command: Sequence[str], log: Path, inherited_fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a command whose stdout `supervise` reads.

    Parameters
    ----------
    command : program and arguments
    log : file for what it writes to stderr
    inherited_fds : descriptors of open files that the child inherits
    """
    with log.open("ab") as stderr:
        return subprocess.Popen(
            [*command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
            pass_fds=tuple(inherited_fds),
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )


def supervise(
    child: subprocess.Popen[bytes],
    on_message: Callable[[Message], bool],
    *,
    must_stop: Callable[[], bool],
    time_limit_s: float,
) -> None:
    """Supervise a child until it ends, and pass on each JSON object that it prints.

    Parameters
    ----------
    child : just started, or just given its request
    on_message : called with each line of its stdout that is a JSON object; returns whether that was the final
        message, after which the child is not needed any more and is killed
    must_stop : called twice a second; the child is killed when it returns True
    time_limit_s : the child is killed after this time

    Raises
    ------
    WorkerDied
        If it ended by a signal, or with a status other than 0 and 1 (1: it has printed the reason), without a
        final message.
    TimeLimit
        If it took too long.
    JobStopped
        If it had to stop.
    """
    deadline = time.monotonic() + time_limit_s
    lines: queue.Queue[bytes | None] = queue.Queue()
    reader = threading.Thread(target=_read_lines, args=(child.stdout, lines), daemon=True)
    reader.start()
    try:
        if _pass_on_messages(lines, on_message, must_stop, deadline, time_limit_s):
            return
        status = child.wait(timeout=max(1.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        raise TimeLimit(f"It closed its output but did not end within {time_limit_s:g} s.") from error
    finally:
        kill_process_group(child)
        reader.join()
        if child.stdout is not None:
            child.stdout.close()
    if status < 0:
        raise WorkerDied(f"It was ended by signal {-status}.")
    if status > 1:
        raise WorkerDied(f"It ended with status {status}.")


def _pass_on_messages(
    lines: queue.Queue[bytes | None],
    on_message: Callable[[Message], bool],
    must_stop: Callable[[], bool],
    deadline: float,
    time_limit_s: float,
) -> bool:
    """Whether a final message came before the output of the child ended."""
    next_check = 0.0
    while True:
        now = time.monotonic()
        if now > deadline:
            raise TimeLimit(f"The limit is {time_limit_s:g} s.")
        if now >= next_check:
            if must_stop():
                raise JobStopped
            next_check = now + _POLL_S
        try:
            line = lines.get(timeout=_POLL_S)
        except queue.Empty:
            continue
        if line is _END_OF_OUTPUT:
            return False
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if isinstance(message, dict) and on_message(message):
            return True


def _read_lines(stream: IO[bytes] | None, lines: queue.Queue[bytes | None]) -> None:
    if stream is not None:
        for line in stream:
            lines.put(line)
    lines.put(_END_OF_OUTPUT)


def kill_process_group(child: subprocess.Popen[bytes]) -> None:
    """Kill a child and everything it started."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        child.kill()
    child.wait()
