"""The process that makes the objects of a job anew: ``python -m`` this module ``REQUEST.json``.

Images and masks of a CT need memory, which a process of its own gives back. It prints one JSON object, and
ends.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pydicom

from orgseg_node.contouring.background import exit_with_parent
from orgseg_node.contouring.objects import RequestedObjects
from orgseg_node.contouring.pipeline import REPORT, hashes_of
from orgseg_node.contouring.protocol import parse_protocol
from orgseg_node.contouring.revision.kept_result import KEPT
from orgseg_node.contouring.revision.leaving_out import Before, make_without
from orgseg_node.dicom.objects.seg import SegKind
from orgseg_node.dicom.reading.series import CtSeries, survey
from orgseg_node.errors import InputError, OrgsegError, ResultUnreadable
from orgseg_node.errors.unexpected import coded, stack_without_text
from orgseg_node.node.monitoring.logs import silence_warning_texts

COMMAND: Final = (sys.executable, "-m", "orgseg_node.node.review.child")


def main(arguments: Sequence[str]) -> int:
    """Make what the request file names; exit status 0, or 1 if the reason of a failure was printed."""
    return answer_request(arguments, _make)


def answer_request(arguments: Sequence[str], make: Callable[[Mapping[str, Any]], dict[str, Any]]) -> int:
    """Read the request file, and print the answer; exit status 0, or 1 if it is the reason of a failure.

    Parameters
    ----------
    arguments : path of the request file
    make : makes the answer
    """
    silence_warning_texts()
    try:
        path = Path(arguments[0])
        request: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        exit_with_parent(int(request["parent_pid"]))
        # /tmp is in main memory on many systems, and temporary files may contain patient data
        tempfile.tempdir = str(path.parent.absolute())
        answer = make(request)
    except Exception as error:  # noqa: BLE001  # whatever it is, the person has to know it
        if not isinstance(error, OrgsegError):
            sys.stderr.write(stack_without_text(error))
        known = coded(error)
        answer = {"event": "error", "code": known.code, "sentence": known.sentence}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    return int(answer["event"] == "error")


def _make(request: Mapping[str, Any]) -> dict[str, Any]:
    protocol = parse_protocol(request["protocol"], "The protocol of the job")
    out, folder = Path(request["out"]), Path(request["before"])
    try:
        kept, report = (folder / KEPT).read_bytes(), json.loads((folder / REPORT).read_bytes())
    except (OSError, ValueError) as error:
        raise ResultUnreadable(f"{type(error).__name__}.") from error
    if hashes_of({KEPT: kept})[KEPT] != report["sha256"].get(KEPT):
        raise ResultUnreadable(f"{KEPT} changed after it was written.")
    before = Before(
        series=series_of(request),
        kept=kept,
        report=report,
        objects={role: Path(path).read_bytes() for role, path in request["objects"].items()},
        requested=RequestedObjects(
            roles=tuple(request["requested_objects"]["roles"]),
            profile=protocol.profile,
            seg=SegKind(request["requested_objects"]["seg"]),
        ),
        protocol=protocol,
    )
    made = make_without(
        before,
        request["structure"],
        out,
        number=int(request["number"]),
        created=datetime.fromisoformat(request["created"]),
    )
    contents = {role: path.read_bytes() for role, path in made.objects.items()}
    digests = hashes_of(contents)
    objects = [
        {
            "role": role,
            "path": str(path),
            "sop_uid": str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID),
            "sha256": digests[role],
        }
        for role, path in made.objects.items()
    ]
    return {"event": "done", "objects": objects, "names": list(made.names)}


def series_of(request: Mapping[str, Any]) -> CtSeries:
    """The series as it was when the job was made. Raises InputError if its content has changed."""
    inventory = survey([Path(file) for file in request["files"]])
    for one in inventory.accepted:  # several where a series holds several volumes
        if one.has_content(request["content_sha256"]):
            return one
    raise InputError("The images of the series are not here any more, or were changed.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
