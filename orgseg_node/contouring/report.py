"""report.json: input, models, settings and results of a job. It contains no patient data."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from orgseg_node import __version__
from orgseg_node.contouring.cohort_check import PatientCohort
from orgseg_node.contouring.objects import Result
from orgseg_node.contouring.protocol import Protocol
from orgseg_node.contouring.structures import AppliedProtocol
from orgseg_node.core.checks import Finding, worst_level
from orgseg_node.core.contours import StructureSet
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.inference.predictor import Disagreement, Prediction

SCHEMA = 1

_PACKAGES = ("torch", "nnunetv2", "pydicom", "highdicom", "numpy", "SimpleITK")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReportContent:
    """Everything a report is made from.

    Attributes
    ----------
    result : series, organs, regions and findings
    prediction : result of the networks, with models and method
    cohort : the cohort of the patient
    structures : contours as they are delivered
    protocol : the protocol that was applied
    created : date and time of the job
    sha256 : hash of each written file, by name
    timings_s : duration of each step in seconds, without the step that writes the report
    """

    result: Result
    prediction: Prediction
    cohort: PatientCohort
    structures: StructureSet
    protocol: Protocol
    created: datetime
    sha256: Mapping[str, str]
    timings_s: Mapping[str, float]


def build_report(content: ReportContent) -> dict[str, Any]:
    """The report as plain dictionaries and lists."""
    result = content.result
    worst = worst_level(result.findings)
    return {
        "schema": SCHEMA,
        "notice": "Automatic, not reviewed. A qualified person must check the contours before use.",
        "job_id": result.provenance.job_id,
        "created": content.created.isoformat(),
        "remark": result.provenance.remark,
        "input": _input(result.series),
        "cohort": content.cohort.as_dict(),
        "organs": _organs(result.applied, content.prediction, content.structures),
        "anatomy": [dict(row) for row in result.applied.judgement.compared],
        "protocol": {"sha256": content.protocol.sha256, "done": list(result.applied.recorded)},
        "findings": [_finding(finding) for finding in result.findings],
        "worst_finding": None if worst is None else worst.value,
        "models": [asdict(model) for model in content.prediction.models],
        "method": content.prediction.method,
        "not_searched": list(content.prediction.not_searched),
        "guided": [asdict(row) for row in content.prediction.guided],
        "device": content.prediction.device,
        "processor": processor(),
        "timings_s": {
            "steps": dict(content.timings_s),
            "segment": {name: round(seconds, 3) for name, seconds in content.prediction.timings_s.items()},
        },
        "versions": versions(),
        "sha256": dict(content.sha256),
    }


def revise_report(
    report: Mapping[str, Any], result: Result, structures: StructureSet, sha256: Mapping[str, str]
) -> dict[str, Any]:
    """The report of a result from which a person has left out structures.

    Parameters
    ----------
    report : of the result before
    result : as it is now
    structures : contours as they are delivered now
    sha256 : hash of each written file, by name
    """
    removed = set(result.applied.removed)
    worst = worst_level(result.findings)
    contours = {one.organ.key: one.contours for one in structures.structures}
    organs = []
    for row in report["organs"]:
        drawn = contours.get(row["key"], ())
        now: dict[str, Any] = {"slices": len({one.k for one in drawn}), "contours": len(drawn)}
        if row["key"] in removed:
            now |= {"voxels": 0, "volume_ml": 0.0, "left_out": True, "left_out_by": "person"}
        organs.append({**row, **now})
    return {
        **report,
        "created": result.provenance.created.isoformat(),
        "remark": result.provenance.remark,
        "object_revision": result.provenance.object_revision,
        "removed": list(result.applied.removed),
        "organs": organs,
        "findings": [_finding(finding) for finding in result.findings],
        "worst_finding": None if worst is None else worst.value,
        "sha256": dict(sha256),
    }


def render_report(report: Mapping[str, Any]) -> bytes:
    """The report as JSON, UTF-8, indented."""
    return (json.dumps(report, indent=2, ensure_ascii=False) + "\n").encode()


def versions() -> dict[str, str]:
    """Versions of this program, of Python and of the main libraries, which are not imported for it."""
    found = {"orgseg_node": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def processor() -> str:
    """Name of the processor of this machine: another kind may round differently."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _finding(finding: Finding) -> dict[str, Any]:
    row = asdict(finding)
    return row if finding.reference is None else row | {"reference": list(finding.reference)}


def _input(series: CtSeries) -> dict[str, Any]:
    """Properties of the CT without patient data."""
    grid = series.grid
    return {
        "slices": len(series.slices),
        "rows": series.rows,
        "columns": series.columns,
        "spacing_mm": [round(step, 5) for step in grid.spacing_mm],
        "is_regular": series.is_regular,
        "part": series.part,
        "orientation": [round(float(value), 6) for value in series.orientation],
        "patient_position": series.patient_position,
        "transfer_syntaxes": sorted({each.transfer_syntax_uid for each in series.slices}),
        "sop_classes": sorted({each.sop_class_uid for each in series.slices}),
        "content_sha256": series.content_sha256,
    }


def _organs(
    applied: AppliedProtocol, prediction: Prediction, structures: StructureSet
) -> list[dict[str, Any]]:
    """One row for each organ of the models, also for those that were not found."""
    label_map, grades = applied.label_map, applied.judgement.grades
    left_out = {organ.key for organ in applied.left_out}
    contours = {structure.label: structure.contours for structure in structures.structures}
    volumes_ml = label_map.volumes_ml()
    rows = []
    for label, voxels in label_map.voxel_counts().items():
        organ = label_map.organs[label]
        drawn = contours.get(label, ())
        rows.append(
            {
                "key": organ.key,
                "name": organ.name,
                "label": label,
                "voxels": voxels,
                "volume_ml": round(volumes_ml[label], 3),
                "slices": len({contour.k for contour in drawn}),
                "contours": len(drawn),
                "grade": grades.get(organ.key),
                "left_out": organ.key in left_out,
                "disagreement": _disagreement(organ.key, prediction.disagreement),
            }
        )
    return rows


def _disagreement(key: str, found: Sequence[Disagreement]) -> dict[str, Any] | None:
    """How far the folds of an ensemble differ on an organ; None if a single network segments it.

    If several ensembles segment the organ, the one with the lowest agreement counts.
    """
    rows = [each for each in found if each.organ == key]
    if not rows:
        return None
    least = min(rows, key=lambda each: each.mean_dice)
    return {
        "folds": least.folds,
        "mean_dice": round(least.mean_dice, 4),
        "volume_min_ml": round(least.volume_min_ml, 3),
        "volume_max_ml": round(least.volume_max_ml, 3),
    }
