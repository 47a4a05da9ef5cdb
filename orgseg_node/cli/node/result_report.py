"""The report.json of a result, as the commands show it: what follows from the checks of its organs."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from orgseg_node.errors import ResultUnreadable

if TYPE_CHECKING:
    from orgseg_node.node.store.store import Store

REPORT: Final = "report.json"
_OF_A_FINDING: Final = ("level", "code", "organ", "message")
_TO_LOOK_AT: Final = ("warning", "error")


def report_path(store: Store, data_dir: Path, job_id: str) -> Path:
    """Where the report of a job is, whether it exists or not.

    Parameters
    ----------
    store : the node's database
    data_dir : the node's data folder
    job_id : number of the job
    """
    return data_dir / store.attempts.result_folder(job_id) / REPORT


def read_report(path: Path) -> dict[str, Any]:
    """The content of a report.json. Raises ResultUnreadable if it is none."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        _require_fields(report)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ResultUnreadable(f"{REPORT}: {type(error).__name__}.") from error
    return dict(report)


def _require_fields(report: Mapping[str, Any]) -> None:
    """Raise KeyError, TypeError or AttributeError if a field is missing that the commands show."""
    for rows, fields in (
        (report["organs"], ("name", "key", "voxels")),
        (report.get("anatomy", []), ("organ",)),
        (report["findings"], _OF_A_FINDING),
    ):
        for row in rows:
            operator.itemgetter(*fields)(row)


def verdict(organ: Mapping[str, Any]) -> str:
    """What follows from the checks of an organ of a report."""
    if organ.get("left_out"):
        return "left out: by a person" if organ.get("left_out_by") else "left out: implausible"
    if not organ["voxels"]:
        return "not found"
    grade = organ.get("grade")
    return f"{grade}: look at it" if grade else "as expected"


def flags(report: Mapping[str, Any]) -> dict[str, str]:
    """Why a person should look at an organ of a report, by key of the organ; others are missing."""
    found = {}
    for organ in report["organs"]:
        codes = dict.fromkeys(
            finding["code"]
            for finding in report["findings"]
            if finding["organ"] == organ["key"] and finding["level"] in _TO_LOOK_AT
        )
        if organ.get("grade") or organ.get("left_out"):
            found[organ["key"]] = verdict(organ)
        elif codes:
            found[organ["key"]] = ", ".join(codes)
    return found


def flagged_organs(store: Store, data_dir: Path, job_id: str) -> dict[str, str]:
    """Why a person should look at an organ of a job, by name of the organ.

    Empty without a report. One that cannot be read is an entry of its own.

    Parameters
    ----------
    store : the node's database
    data_dir : the node's data folder
    job_id : number of the job
    """
    path = report_path(store, data_dir, job_id)
    if not path.is_file():
        return {}
    try:
        report = read_report(path)
    except ResultUnreadable as error:
        return {REPORT: error.sentence}
    names = {organ["key"]: organ["name"] for organ in report["organs"]}
    return {names[key]: text for key, text in flags(report).items()}
