"""The process that reads a structure set that came back: ``python -m`` this module ``REQUEST.json``.

What is in a received file is decided by others, so it is read in a process with limits of memory and time.
The process writes one JSON object and ends. `run_child` starts it and waits for it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

import psutil

from orgseg_node import durable
from orgseg_node.contouring.background import exit_with_parent
from orgseg_node.dicom.objects.structure_set_facts import read_structure_set, structure_set_facts
from orgseg_node.errors import FeedbackUnmeasured, JobStopped, OrgsegError
from orgseg_node.errors.unexpected import stack_without_text
from orgseg_node.node.feedback.measuring import Comparison, measure, reading_note
from orgseg_node.organ_table import organ_table

_MB: Final = 1_000_000
_POLL_S: Final = 0.1
_LOW_PRIORITY: Final = 10  # at 19 a busy machine gives a process nearly no time
_WALL_FACTOR: Final = 20.0  # a process that waits for its turn is not one that computes too long
_ENVIRONMENT: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_COMMAND: Final = (sys.executable, "-m", "orgseg_node.node.feedback.child")


class Runner(Protocol):
    """Runs the process for one request, as `run_child`."""

    def __call__(
        self,
        request: Mapping[str, Any],
        folder: Path,
        *,
        memory_mb: int,
        limit_s: float,
        stopping: threading.Event,
    ) -> dict[str, Any]:
        """Its answer."""
        ...


def run_child(
    request: Mapping[str, Any], folder: Path, *, memory_mb: int, limit_s: float, stopping: threading.Event
) -> dict[str, Any]:
    """Run the process for one request.

    Parameters
    ----------
    request : ``what`` to do, ``facts`` or ``measure``, with the paths
    folder : for the request and the answer
    memory_mb : it is ended when it uses more
    limit_s : longest processor time, in seconds; it may last 20 times as long, because jobs go first
    stopping : it is ended when this is set

    Returns
    -------
    Its answer; ``error`` in it is the note on a file that cannot be read.

    Raises
    ------
    FeedbackUnmeasured
        If it ended without an answer, used too much memory or took too long.
    JobStopped
        If the node stops.
    """
    durable.make_folder(folder)
    path, answer = folder / "request.json", folder / "answer.json"
    answer.unlink(missing_ok=True)
    content = {**request, "parent": os.getpid(), "memory_mb": memory_mb, "answer": str(answer)}
    durable.write_durably(path, json.dumps(content).encode())
    with (folder / "child.log").open("wb") as log:
        child = subprocess.Popen(
            [*_COMMAND, str(path)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, **_ENVIRONMENT},
        )  # fmt: skip
    try:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, child.pid, _LOW_PRIORITY)
        _await_end(child, memory_mb, limit_s, stopping)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    if child.returncode != 0 or not answer.is_file():
        raise FeedbackUnmeasured(f"It ended with status {child.returncode}.")
    found: dict[str, Any] = json.loads(answer.read_bytes())
    return found


def _await_end(
    child: subprocess.Popen[bytes], memory_mb: int, limit_s: float, stopping: threading.Event
) -> None:
    waited = 0.0
    while True:
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=_POLL_S)
            return
        waited += _POLL_S
        if stopping.is_set():
            raise JobStopped
        if waited > limit_s * _WALL_FACTOR:
            raise FeedbackUnmeasured(f"It took more than {limit_s * _WALL_FACTOR:.0f} s.")
        with suppress(psutil.Error):
            process = psutil.Process(child.pid)
            used = process.cpu_times()
            if used.user + used.system > limit_s:
                raise FeedbackUnmeasured(f"It took more than {limit_s:.0f} s of processor time.")
            if process.memory_info().rss > memory_mb * _MB:
                raise FeedbackUnmeasured(f"It used more than {memory_mb} MB of memory.")


def main(arguments: Sequence[str]) -> int:
    """Answer the request in a file; 0 if there is an answer."""
    request = json.loads(Path(arguments[0]).read_bytes())
    exit_with_parent(int(request["parent"]))
    _limit_memory(int(request["memory_mb"]) * _MB)
    try:
        answer = answer_request(request)
    except MemoryError:
        return 2
    durable.write_durably(Path(request["answer"]), json.dumps(answer).encode())
    return 0


def answer_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a request; whatever cannot be read is an ``error`` in it."""
    try:
        return _answer(request)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  # whatever it is, it belongs to this file
        if not isinstance(error, OrgsegError):
            sys.stderr.write(stack_without_text(error))
        return {"error": reading_note(error)}


def _answer(request: Mapping[str, Any]) -> dict[str, Any]:
    if request["what"] == "facts":
        dataset = read_structure_set(Path(request["returned"]))
        return structure_set_facts(dataset, str(request["approved_label"])).as_json
    comparison = Comparison(
        returned=Path(request["returned"]),
        delivered=Path(request["delivered"]),
        delivered_sha256=str(request["delivered_sha256"]),
        images=tuple(Path(path) for path in request["images"]),
        content_sha256=str(request["content_sha256"]),
        report=Path(request["report"]),
    )
    return measure(comparison, organ_table()).as_json


def _limit_memory(limit: int) -> None:
    """Limit the address space, so that a single allocation cannot exceed the memory of the machine."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would contain patient data
    used = psutil.Process().memory_info().vms
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (used + 2 * limit,) * 2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
