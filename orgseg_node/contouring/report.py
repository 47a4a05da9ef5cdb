"""report.json: what was done, with what, and what came out. It holds no patient data."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from orgseg_node import __version__
from orgseg_node.contouring.objects import Result
from orgseg_node.contouring.protocol import Protocol
from orgseg_node.core.checks import worst_level
from orgseg_node.core.contours import StructureSet
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.inference.predictor import Disagreement, Prediction

SCHEMA = 1

_PACKAGES = ("torch", "nnunetv2", "pydicom", "highdicom", "numpy", "SimpleITK")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Facts:
    """What a report is made from.

    Attributes
    ----------
    result : series, organs, regions and findings
    prediction : what the networks found, and how
    structures : contours as they are delivered
    protocol : what was asked for
    created : of the job
    sha256 : hash of each written file, by name
    timings_s : wall seconds of each step; the step that writes the report cannot know its own
    """

    result: Result
    prediction: Prediction
    structures: StructureSet
    protocol: Protocol
    created: datetime
    sha256: Mapping[str, str]
    timings_s: Mapping[str, float]


def build_report(facts: Facts) -> dict[str, Any]:
    """The report as plain dictionaries and lists."""
    result = facts.result
    worst = worst_level(result.findings)
    return {
        "schema": SCHEMA,
        "notice": "Automatic, not reviewed. A qualified person must check the contours before use.",
        "job_id": result.provenance.job_id,
        "created": facts.created.isoformat(),
        "remark": result.provenance.remark,
        "input": _input(result.series),
        "organs": _organs(result.applied.label_map, facts.prediction, facts.structures),
        "protocol": {"sha256": facts.protocol.sha256, "done": list(result.applied.recorded)},
        "findings": [asdict(finding) for finding in result.findings],
        "worst_finding": None if worst is None else worst.value,
        "models": [asdict(model) for model in facts.prediction.models],
        "method": facts.prediction.method,
        "device": facts.prediction.device,
        "timings_s": {
            "steps": dict(facts.timings_s),
            "segment": {name: round(seconds, 3) for name, seconds in facts.prediction.timings_s.items()},
        },
        "versions": versions(),
        "sha256": dict(facts.sha256),
    }


def render_report(report: Mapping[str, Any]) -> bytes:
    """The report as JSON, UTF-8, indented."""
    return (json.dumps(report, indent=2, ensure_ascii=False) + "\n").encode()


def versions() -> dict[str, str]:
    """Versions of this program and of what it rests on, without importing any of it."""
    found = {"orgseg_node": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _input(series: CtSeries) -> dict[str, Any]:
    """Facts about the CT that say nothing about the patient."""
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


def _organs(label_map: LabelMap, prediction: Prediction, structures: StructureSet) -> list[dict[str, Any]]:
    """One row for each organ that was looked for, also where it was not found."""
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
                "disagreement": _disagreement(organ.key, prediction.disagreement),
            }
        )
    return rows


def _disagreement(key: str, found: Sequence[Disagreement]) -> dict[str, Any] | None:
    """How far the folds of an ensemble differ on an organ; None where one network alone looked for it.

    Where several ensembles look for the same organ, that of the ensemble which is least at one with itself.
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
