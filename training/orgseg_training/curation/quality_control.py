"""Quality control: every ingested scan is measured, checked and drawn, for review by a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.contours import Structure, StructureSet, trace_mask
from orgseg_node.core.montage import Scene, montage
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap, Mask, Volume
from orgseg_node.durable import atomic_file
from orgseg_training.curation.checks import Cohort, check_scan
from orgseg_training.curation.measurements import (
    ScanMeasurements,
    measure,
    measurement_hash,
    read_case,
    read_measurements,
    write_measurements,
)
from orgseg_training.datasets.case_store import CaseStore, StoredCase
from orgseg_training.durable import read_json, write_json
from orgseg_training.errors import NoScans, scan_error

FINDINGS = "findings.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityReview:
    """Result of quality control for one scan.

    Attributes
    ----------
    key : of the scan
    findings : the most severe first
    picture : of its contours; None if the scan cannot be read
    measurements : None if the scan cannot be read
    left_out : why an organ, or with the key ``""`` the whole scan, is already left out of the experiment
    """

    key: str
    findings: tuple[Finding, ...]
    picture: Path | None
    measurements: ScanMeasurements | None
    left_out: Mapping[str, str]

    def count(self, level: Level) -> int:
        """Number of findings of a level."""
        return sum(finding.level is level for finding in self.findings)

    @property
    def severity(self) -> tuple[int, int, int]:
        """Number of errors, warnings and notes; the scan with the larger value is listed first."""
        return self.count(Level.ERROR), self.count(Level.WARNING), self.count(Level.INFO)


def review_scans(
    store: CaseStore, out: Path, organs: OrganTable, on_scan_done: Callable[[], object] = lambda: None
) -> tuple[QualityReview, ...]:
    """Check and draw all ingested scans, also those that are left out of the experiment; the worst first.

    Writes ``CASE.png``, ``measurements/CASE.json`` and ``findings.json``. Results of unchanged files are
    kept. A scan that cannot be read is listed with an error.

    Parameters
    ----------
    store : the scans
    out : folder to write to
    organs : the organ table
    on_scan_done : called after each scan

    Raises
    ------
    NoScans
        If no scan was ingested.
    StorageError
        If results cannot be written, or the list of what is left out cannot be read.
    """
    keys = store.keys()
    if not keys:
        raise NoScans(f"{store.root}.")
    decisions = store.decisions
    measurements: dict[str, ScanMeasurements] = {}
    unread: dict[str, Finding] = {}
    noted: dict[str, tuple[Finding, ...]] = {}
    for key in keys:
        try:
            case = store.ingested_case(key)
            noted[key] = case.findings
            measured = _measured_before(case, out) or _measure(case, organs)
        except Exception as error:  # noqa: BLE001  # whatever is wrong with one scan, the others are reviewed
            unread[key] = _unreadable(key, scan_error(error).sentence)
            _picture(out, key).unlink(missing_ok=True)  # drawn when the files could still be read
        else:
            measurements[key] = measured.measurements
            _write(measured, key, out)
        on_scan_done()
    cohort = Cohort.of(measurements.values())
    reviews = []
    for key in keys:
        left_out = dict(decisions["organs"].get(key, {}))
        if key in decisions["cases"]:
            left_out[""] = decisions["cases"][key]
        readable = key in measurements
        reviews.append(
            QualityReview(
                key=key,
                findings=_findings(measurements[key], cohort, noted[key]) if readable else (unread[key],),
                picture=_picture(out, key) if readable else None,
                measurements=measurements.get(key),
                left_out=left_out,
            )
        )
    ordered = tuple(sorted(reviews, key=lambda one: (*(-n for n in one.severity), one.key)))
    write_json(out / FINDINGS, {one.key: [_as_json(finding) for finding in one.findings] for one in ordered})
    return ordered


def _findings(measured: ScanMeasurements, cohort: Cohort, noted: Sequence[Finding]) -> tuple[Finding, ...]:
    """Findings of the checks and of the data set's contours, the most severe first."""
    levels = (Level.ERROR, Level.WARNING, Level.INFO)
    found = (*check_scan(measured, cohort), *noted)
    return tuple(sorted(found, key=lambda finding: levels.index(finding.level)))


def summarise(reviews: Sequence[QualityReview]) -> str:
    """How many scans have errors, and how many have only warnings."""
    errors = sum(one.count(Level.ERROR) > 0 for one in reviews)
    warned = sum(one.count(Level.ERROR) == 0 < one.count(Level.WARNING) for one in reviews)
    return f"{len(reviews)} scans: {errors} with errors, {warned} with warnings"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """Measurements of a scan, and its picture as PNG if that is not written yet."""

    measurements: ScanMeasurements
    picture: bytes | None


def _measured_before(case: StoredCase, out: Path) -> _Measured | None:
    found = read_measurements(_measurements_file(out, case.key), measurement_hash(case))
    complete = _picture(out, case.key).is_file() and case.image.is_file()
    return _Measured(measurements=found, picture=None) if found and complete else None


def _measure(case: StoredCase, organs: OrganTable) -> _Measured:
    volume, masks = read_case(case)
    measured = measure(volume, masks, organs, measurement_hash(case), frozenset(case.known_slices))
    picture = montage(_scene(volume, masks, measured, organs), note=case.key)
    return _Measured(measurements=measured, picture=picture)


def _write(measured: _Measured, key: str, out: Path) -> None:
    """Write the picture first: measurements without a picture are made again."""
    if measured.picture is None:
        return
    with atomic_file(_picture(out, key)) as part:
        part.write_bytes(measured.picture)
    write_measurements(_measurements_file(out, key), measured.measurements)


def _scene(
    volume: Volume, masks: Mapping[str, Mask], measured: ScanMeasurements, organs: OrganTable
) -> Scene:
    """Each organ's own contours; where organs overlap, the label map shows the smaller one."""
    by_size = sorted(masks, key=lambda key: -measured.organs[key].volume_ml)
    labels = np.zeros(volume.grid.shape, np.uint8)
    structures = []
    for number, key in enumerate(by_size, start=1):
        labels[masks[key]] = number
        contours = tuple(trace_mask(masks[key]))
        structures.append(Structure(organ=organs[key], label=number, contours=contours))
    named = {number: organs[key] for number, key in enumerate(by_size, start=1)}
    return Scene(
        volume=volume,
        label_map=LabelMap(grid=volume.grid, labels=labels, organs=named),
        structures=StructureSet(grid=volume.grid, structures=tuple(structures)),
        volumes_ml={number: measured.organs[key].volume_ml for number, key in enumerate(by_size, start=1)},
    )


def quality_lines(folder: Path) -> list[str]:
    """Sentences of the report about quality control.

    Parameters
    ----------
    folder : where `review_scans` wrote to

    Raises
    ------
    StorageError
        If the findings cannot be read.
    """
    file = folder / FINDINGS
    if not file.is_file():
        return ["Quality control (orgseg-train qc) was not run."]
    scans: dict[str, list[dict[str, Any]]] = read_json(file)
    counts = Counter(finding["code"] for findings in scans.values() for finding in findings)
    clean = sum(not any(one["level"] != Level.INFO for one in found) for found in scans.values())
    lines = [f"Quality control checked {len(scans)} scans; {clean} have neither errors nor warnings."]
    return lines + [f"{code}: {number} findings." for code, number in sorted(counts.items())]


def _unreadable(key: str, why: str) -> Finding:
    return Finding(level=Level.ERROR, code="SCAN_UNREADABLE", message=f"{key} cannot be read: {why}")


def _as_json(finding: Finding) -> dict[str, object]:
    return {
        "level": finding.level.value,
        "code": finding.code,
        "message": finding.message,
        "organ": finding.organ,
        "value": finding.value,
    }


def _picture(out: Path, key: str) -> Path:
    return out / f"{key}.png"


def _measurements_file(out: Path, key: str) -> Path:
    return out / "measurements" / f"{key}.json"
