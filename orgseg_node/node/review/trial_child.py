"""The process that tries a protocol on a contoured CT: ``python -m`` this module ``REQUEST.json``.

It prints one JSON object, and leaves the contours of changed structures in ``lines.bin``: pairs of float32,
little-endian, in the order of the lines in that object.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from orgseg_node.contouring.anatomy_check import AnatomyRules, organ_judge
from orgseg_node.contouring.label_export import mask_on_slices
from orgseg_node.contouring.pipeline import REPORT, hashes_of
from orgseg_node.contouring.protocol import parse_protocol
from orgseg_node.contouring.revision.found_result import FOUND, load_found
from orgseg_node.contouring.revision.kept_result import KEPT, load_kept
from orgseg_node.contouring.revision.trial import Case, Change, Trial, trial_document, try_protocol
from orgseg_node.core.body import find_body
from orgseg_node.dicom.patient_age import age_years
from orgseg_node.dicom.reading.reader import read_volume
from orgseg_node.errors import BundleError, ResultUnreadable
from orgseg_node.inference.bundles.bundle import open_bundles
from orgseg_node.inference.bundles.references import open_references
from orgseg_node.node.review.child import answer_request, series_of
from orgseg_node.organ_table import organ_table

COMMAND: Final = (sys.executable, "-m", "orgseg_node.node.review.trial_child")
LINES: Final = "lines.bin"
_NICE: Final = 10


def _try(request: Mapping[str, Any]) -> dict[str, Any]:
    with suppress(OSError):
        os.nice(_NICE)  # jobs come first
    series = series_of(request)
    found = load_found(_recorded(Path(request["found"]), FOUND), series)
    kept = load_kept(_recorded(Path(request["kept"]), KEPT), series)
    folders = [Path(folder) for folder in request["bundle_folders"]]
    volume = read_volume(series)
    body = find_body(volume)
    references = open_references(request["bundles"], folders)
    rules = AnatomyRules(references=references.anatomy)
    case = Case(
        kept=kept,
        found=found,
        protocol=parse_protocol(request["before"], "The protocol of the job"),
        body=mask_on_slices(body.mask, series),
        judge=organ_judge(rules, (volume, body), found.found_by, age_years(series.header)),
    )
    trial = try_protocol(case, parse_protocol(request["protocol"], "The protocol"), organ_table())
    models = _models(request["bundles"], folders)
    return {
        "event": "done",
        **trial_document(trial),
        "models_missing": bool(set(found.found_by.models) - models),
        "lines": _lines(trial, Path(request["out"])),
    }


def _recorded(folder: Path, name: str) -> bytes:
    """A file of a result; it must be the one that its report names."""
    try:
        content = (folder / name).read_bytes()
        report = json.loads((folder / REPORT).read_bytes())
    except (OSError, ValueError) as error:
        raise ResultUnreadable(f"{type(error).__name__}.") from error
    if hashes_of({name: content})[name] != report["sha256"].get(name):
        raise ResultUnreadable(f"{name} changed after it was written.")
    return content


def _models(names: list[str], folders: list[Path]) -> set[str]:
    """SHA-256 of those models of the job that are still here."""
    found = set()
    for name in names:
        with suppress(BundleError):
            found |= {bundle.sha256 for bundle in open_bundles([name], folders)}
    return found


def _lines(trial: Trial, out: Path) -> list[dict[str, Any]]:
    """The structures that are drawn as second line: those that are added, removed or changed."""
    drawn = [one for one in trial.structures if one.change not in {Change.SAME, Change.RENAMED}]
    every = [contour.points for one in drawn for contour in one.contours]
    content = np.concatenate(every).astype("<f4").tobytes() if every else b""
    (out / LINES).write_bytes(content)
    return [
        {
            "key": one.key,
            "slices": [contour.k for contour in one.contours],
            "counts": [len(contour.points) for contour in one.contours],
        }
        for one in drawn
    ]


if __name__ == "__main__":
    sys.exit(answer_request(sys.argv[1:], _try))
