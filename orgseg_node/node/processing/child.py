"""The process that contours one job: ``python -m`` this module ``REQUEST.json``, or ``--wait``.

It is a separate process so that it can be killed, runs out of memory alone, and frees all its memory at the
end. It prints one JSON object per line: its progress, and as the final message what it wrote or the error. It
ends with its parent, and a second process for the same job waits until the first has ended.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final

import pydicom

from orgseg_node.contouring.anatomy_check import AnatomyRules
from orgseg_node.contouring.background import exit_with_parent
from orgseg_node.contouring.objects import RequestedObjects, preload_libraries
from orgseg_node.contouring.pipeline import Outcome, Request, Step, StepCallback, run
from orgseg_node.contouring.preload import SeriesPreloader
from orgseg_node.contouring.protocol import parse_protocol
from orgseg_node.contouring.scan_check import ScanRules
from orgseg_node.dicom.objects.seg import SegKind
from orgseg_node.dicom.reading.series import CtSeries, survey
from orgseg_node.dicom.slice_table import table_of
from orgseg_node.durable import write_durably
from orgseg_node.errors import InputError, JobError, NoSeries, OrgsegError, StorageError
from orgseg_node.errors.unexpected import coded, stack_without_text
from orgseg_node.inference.bundles.references import open_references
from orgseg_node.inference.predictor import Predictor
from orgseg_node.node.monitoring.logs import silence_warning_texts
from orgseg_node.node.processing.child_request import ChildRequest
from orgseg_node.node.processing.warm_worker import WAIT, wait_for_request
from orgseg_node.node.store.data_folder import SLICES
from orgseg_node.node.store.model import JobState
from orgseg_node.organ_table import organ_table

_LOCK_WAIT_S: Final = 20.0
_PROGRESS_S: Final = 0.25  # between two progress messages: a GPU may compute a hundred tiles a second

STATES: Final = {
    Step.READ: JobState.PREPARING,
    Step.BODY: JobState.PREPARING,
    Step.SEGMENT: JobState.INFERRING,
    Step.CONTOUR: JobState.WRITING,
    Step.ENCODE: JobState.WRITING,
    Step.PROVE: JobState.CHECKING,
    Step.REVIEW: JobState.CHECKING,
    Step.SAVE: JobState.CHECKING,
}


MakePredictor = Callable[[ChildRequest], Predictor]


def open_networks(request: ChildRequest) -> Predictor:
    """The networks of the bundles that the request names; torch is imported only here."""
    from orgseg_node.inference.bundles.bundle import open_bundles, require_versions  # noqa: PLC0415
    from orgseg_node.inference.loading import open_predictor  # noqa: PLC0415  # torch is first needed here
    from orgseg_node.inference.predictor import InferenceSettings  # noqa: PLC0415  # only for a real run

    bundles = open_bundles(list(request.bundles), tuple(Path(folder) for folder in request.bundle_folders))
    require_versions(bundles, request.models)
    needed = parse_protocol(request.protocol, "The protocol of the job").needed_organs
    return open_predictor(bundles, InferenceSettings(**request.settings), needed)


def main(arguments: Sequence[str], make_predictor: MakePredictor = open_networks) -> int:
    """Contour what the request file names; exit status 0, or 1 if the reason of a failure was printed."""
    messages = _reserve_stdout()
    silence_warning_texts()
    preloader = SeriesPreloader()
    if list(arguments) == [WAIT]:
        if make_predictor is open_networks:
            from orgseg_node.inference.loading import preload_streaming  # noqa: PLC0415  # only for a real run

            preload_streaming()
        preload_libraries()
        arguments = [wait_for_request(preloader)]
        if not arguments[0]:
            return 0  # the node has ended

    def send(**message: Any) -> None:
        messages.write(json.dumps(message) + "\n")
        messages.flush()

    try:
        request = ChildRequest.from_json(Path(arguments[0]).read_text(encoding="utf-8"))
        exit_with_parent(request.parent_pid)
        # /tmp is in main memory on many systems, and temporary files may contain patient data
        tempfile.tempdir = str(Path(arguments[0]).parent.absolute())
        with (Path(arguments[0]).parent / "lock").open("w") as lock:
            _await_lock(lock)
            outcome = _contour(request, make_predictor, send, preloader)
        send(event="done", **_describe(outcome))
    except Exception as error:  # noqa: BLE001  # whatever it is, the node has to know it
        if not isinstance(error, OrgsegError):
            sys.stderr.write(stack_without_text(error))
        send(**_error_message(coded(error)))
        return 1
    return 0


def _error_message(error: OrgsegError) -> dict[str, Any]:
    """The final message of a child that failed."""
    return {
        "event": "error",
        "code": error.code,
        "sentence": error.sentence,
        "next_step": error.next_step,
        "retryable": error.retryable,
    }


def _contour(
    request: ChildRequest,
    make_predictor: MakePredictor,
    send: Callable[..., None],
    preloader: SeriesPreloader,
) -> Outcome:
    send(event="progress", state=JobState.PREPARING, fraction=0.0, text="looking at the series")
    preloaded = preloader.take(map(Path, request.files), request.content_sha256)
    if preloaded:
        sys.stderr.write("The series had been preloaded.\n")
    series = preloaded.series if preloaded else _series(request)
    send(event="progress", state=JobState.PREPARING, fraction=0.0, text="loading the network")
    predictor = make_predictor(request)
    protocol = parse_protocol(request.protocol, "The protocol of the job")
    references = open_references(request.bundles, [Path(folder) for folder in request.bundle_folders])
    pipeline_request = Request(
        series=series,
        out=Path(request.out),
        job_id=request.job_id,
        created=datetime.fromisoformat(request.created),
        remark=request.remark,
        organs=organ_table(),
        protocol=protocol,
        requested=RequestedObjects(
            roles=tuple(request.requested_objects["roles"]),
            profile=protocol.profile,
            seg=SegKind(request.requested_objects["seg"]),
        ),
        scans=ScanRules(references=references.scans, released=request.scan_released),
        anatomy=AnatomyRules(references=references.anatomy),
        keep=True,
    )
    outcome = run(pipeline_request, predictor, _progress_messages(send), preloaded)
    with suppress(StorageError):  # pages read the headers again if it is not there
        write_durably(Path(request.out).parent / SLICES, table_of(series).to_json().encode())
    return outcome


def _progress_messages(send: Callable[..., None]) -> StepCallback:
    """Progress as messages: one for each new state of the job, and in between a few per second."""
    last_state: JobState | None = None
    next_at = 0.0

    def progress(step: Step, fraction: float, text: str) -> None:
        nonlocal last_state, next_at
        state = STATES[step]
        now = time.monotonic()
        if state is last_state and now < next_at:
            return
        last_state, next_at = state, now + _PROGRESS_S
        send(event="progress", state=state, fraction=fraction, text=text)

    return progress


def _series(request: ChildRequest) -> CtSeries:
    """The series as it was when the job was made. Raises InputError if its content has changed."""
    inventory = survey([Path(file) for file in request.files])
    if inventory.refused:
        raise inventory.refused[0].error
    if not inventory.accepted:
        raise NoSeries("The job's files are no longer a CT series.")
    for one in inventory.accepted:  # several where a series holds several volumes
        if one.has_content(request.content_sha256):
            return one
    raise InputError("The files of the series have changed on the disk since they were received.")


def _describe(outcome: Outcome) -> dict[str, Any]:
    objects = []
    for role, path in outcome.objects.items():
        content = path.read_bytes()
        uid = str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
        digest = hashlib.sha256(content).hexdigest()
        objects.append({"role": role, "path": str(path), "sop_uid": uid, "sha256": digest})
    held = [finding.message for finding in outcome.findings if finding.level == "error"]
    return {"objects": objects, "held": held, "left_out": describe_left_out(outcome.report["organs"])}


def describe_left_out(organs: Sequence[Mapping[str, Any]]) -> str:
    """Which organs were left out as implausible, and which others are unusual; empty if none was left out."""
    gone = [organ["name"] for organ in organs if organ["left_out"]]
    rest = [organ["name"] for organ in organs if organ["grade"] and not organ["left_out"]]
    if not gone:
        return ""
    return f"left out {', '.join(gone)}" + (f"; unusual {', '.join(rest)}" if rest else "")


def _reserve_stdout() -> IO[str]:
    """Keep stdout for the JSON lines; what libraries print goes to stderr."""
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return messages


def _await_lock(lock: IO[str]) -> None:
    """Lock the job; wait for another process that works on it."""
    end = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise JobError("Another process is still working on it.") from None
            time.sleep(0.2)
        else:
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
