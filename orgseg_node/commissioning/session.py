"""Contours every scan and compares it; what is finished is kept, and one bad scan never stops the others."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from orgseg_node import __version__
from orgseg_node.commissioning.cases import ClinicalCase, UnusableScan
from orgseg_node.commissioning.comparing import Clinical, compare_organs
from orgseg_node.commissioning.page import render_html, render_pdf
from orgseg_node.commissioning.results import ScanResult
from orgseg_node.commissioning.summary import FORMAT, organ_rows
from orgseg_node.contouring.anatomy_check import AnatomyRules
from orgseg_node.contouring.identity import ResultSettings, derive_job_id
from orgseg_node.contouring.object_roles import RTSTRUCT
from orgseg_node.contouring.objects import RequestedObjects
from orgseg_node.contouring.pipeline import Request, run
from orgseg_node.contouring.protocol import Protocol
from orgseg_node.contouring.scan_check import ScanRules
from orgseg_node.core.organs import OrganTable
from orgseg_node.durable import make_folder, write_durably
from orgseg_node.errors import BodyNotFound, InputError, NothingFound, ObjectInvalid, ScanDoubtful
from orgseg_node.errors.unexpected import coded
from orgseg_node.inference.predictor import ModelIdentity, Predictor, ProgressCallback

SCANS: Final = "scans"
CASES: Final = "cases.csv"
CONTENT: Final = "commissioning.json"
_RESULT: Final = "result.json"
_ATTEMPTS: Final = "attempts"
_MOST_ATTEMPTS: Final = 2
_OF_THE_SCAN: Final = (InputError, ScanDoubtful, NothingFound, BodyNotFound, ObjectInvalid)
"""Errors that the same scan meets again."""

OnScan = Callable[[ClinicalCase, "ScanResult | None", str], None]
"""Called after each scan with its result, or with none and the reason why it is not finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the scans are contoured.

    Attributes
    ----------
    organs : the organ table
    protocol, protocol_name : the content of the structure set
    models : the models that contour
    method : description of the method of the networks
    scans, anatomy : what scans and organs are compared with
    automatic : whether clinical ROIs count that a program made and nobody approved
    """

    organs: OrganTable
    protocol: Protocol
    protocol_name: str
    models: tuple[ModelIdentity, ...]
    method: str
    scans: ScanRules = field(default_factory=ScanRules)
    anatomy: AnatomyRules = field(default_factory=AnatomyRules)
    automatic: bool = False


class Session:
    """A commissioning in a folder.

    Parameters
    ----------
    out : folder of the report, and of the contours of each scan
    settings : how the scans are contoured
    open_predictor : loads the networks, before the first scan that is not finished
    """

    def __init__(self, out: Path, settings: Settings, open_predictor: Callable[[], Predictor]) -> None:
        self._out = out
        self._settings = settings
        self._open_predictor = open_predictor
        self._predictor: Predictor | None = None

    def finished(self, case: ClinicalCase) -> ScanResult | None:
        """The result of a scan from an earlier run; None if it has none, or something has changed since."""
        try:
            document: Mapping[str, Any] = json.loads((self._folder(case) / _RESULT).read_bytes())
            return ScanResult.from_json(document) if document["key"] == self._key(case) else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def run(
        self, cases: Sequence[ClinicalCase], on_scan: OnScan, on_progress: ProgressCallback
    ) -> tuple[dict[str, ScanResult], dict[str, str]]:
        """The result of every scan by name, and why others are not finished.

        Parameters
        ----------
        cases : the scans
        on_scan : see `OnScan`
        on_progress : called with the fraction done of a scan and a text
        """
        make_folder(self._out)
        results, failed = {}, {}
        for case in cases:
            outcome = self.finished(case) or self._one(case, on_progress)
            if isinstance(outcome, ScanResult):
                results[case.name] = outcome
                on_scan(case, outcome, outcome.refused)
            else:
                failed[case.name] = outcome
                on_scan(case, None, outcome)
        return results, failed

    def _one(self, case: ClinicalCase, on_progress: ProgressCallback) -> ScanResult | str:
        """The result of a scan, which is stored; or why there is none, so that it is tried again."""
        folder = self._folder(case)
        try:
            make_folder(folder)
            attempts = folder / _ATTEMPTS
            key = self._key(case)
            count = _count(attempts, key)
            if count >= _MOST_ATTEMPTS:
                return f"The program ended {count} times in this scan; delete scans/{case.name} to try again."
            write_durably(attempts, f"{key} {count + 1}".encode())
            try:
                result = self._contour(case, folder, on_progress)
            except _OF_THE_SCAN as error:
                result = ScanResult(refused=f"{error.code}: {error.sentence}")
            document = {"key": key, **result.as_json}
            write_durably(folder / _RESULT, json.dumps(document, indent=1).encode())
            attempts.unlink()
        except Exception as error:  # noqa: BLE001  # whatever it is, it belongs to this scan
            (folder / _ATTEMPTS).unlink(missing_ok=True)
            known = coded(error)
            return f"{known.code}: {known.sentence}"
        return result

    def _contour(self, case: ClinicalCase, folder: Path, on_progress: ProgressCallback) -> ScanResult:
        """Contour a scan as the node does, and compare."""
        if self._predictor is None:
            self._predictor = self._open_predictor()
        begun, settings = time.perf_counter(), self._settings
        request = Request(
            series=case.series,
            out=folder,
            job_id=self._job_id(case),
            created=datetime.now().astimezone().replace(microsecond=0),
            organs=settings.organs,
            protocol=settings.protocol,
            requested=RequestedObjects(roles=(RTSTRUCT,), profile=settings.protocol.profile),
            scans=settings.scans,
            anatomy=settings.anatomy,
        )
        outcome = run(request, self._predictor, lambda _step, *done: on_progress(*done))
        clinical = Clinical(path=case.structures, approved=case.approved, automatic=settings.automatic)
        organs, not_used = compare_organs(
            case.series, clinical, outcome.rtstruct, outcome.report, settings.organs
        )
        return ScanResult(organs=organs, not_used=not_used, seconds=time.perf_counter() - begun)

    def _job_id(self, case: ClinicalCase) -> str:
        settings = self._settings
        result = ResultSettings(
            models=tuple(model.sha256 for model in settings.models),
            method=settings.method,
            protocol_sha256=settings.protocol.sha256,
        )
        return derive_job_id(case.series.series_instance_uid, case.series.content_sha256, result)

    def _key(self, case: ClinicalCase) -> str:
        """Whatever a result depends on."""
        settings = self._settings
        organs = hashlib.sha256(repr(sorted(settings.organs.organs.items())).encode()).hexdigest()
        structures = hashlib.sha256(case.structures.read_bytes()).hexdigest()
        whole = [
            FORMAT, __version__, self._job_id(case), structures, organs, settings.automatic,
            settings.scans.released,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(whole).encode()).hexdigest()

    def _folder(self, case: ClinicalCase) -> Path:
        return self._out / SCANS / case.name


def _count(path: Path, key: str) -> int:
    """How often the program ended during a scan with the same key."""
    try:
        known, count = path.read_text(encoding="ascii").split()
        return int(count) if known == key else 0
    except (OSError, ValueError):
        return 0


def report_content(
    settings: Settings,
    cases: Sequence[ClinicalCase],
    outcome: tuple[Mapping[str, ScanResult], Mapping[str, str]],
    unusable: Sequence[UnusableScan],
    created: datetime,
) -> dict[str, Any]:
    """The content of the report. Scans are named by hashes; there is no name or ID of a patient.

    Parameters
    ----------
    settings : how the scans were contoured
    cases : the scans
    outcome : results by name, and why others are not finished
    unusable : what cannot be used
    created : when the report is made
    """
    results, failed = outcome
    contoured = {name: result for name, result in results.items() if not result.refused}
    measured = {name: result for name, result in contoured.items() if result.organs}
    patients = {case.name: case.patient for case in cases}
    why = Counter((roi, reason) for result in contoured.values() for roi, reason in result.not_used.items())
    return {
        "format": FORMAT,
        "created": created.isoformat(),
        "program": __version__,
        "method": settings.method,
        "protocol": settings.protocol_name,
        "models": [
            {"name": one.name, "version": one.version, "sha256": one.sha256} for one in settings.models
        ],
        "scans": {
            "measured": len(measured),
            "patients": len({patients[name] for name in measured}),
            "unapproved": sum(not case.approved for case in cases if case.name in measured),
            "nothing_compared": sorted(contoured.keys() - measured.keys()),
            "refused": [
                {"scan": name, "why": one.refused} for name, one in sorted(results.items()) if one.refused
            ],
            "failed": [{"scan": name, "why": reason} for name, reason in sorted(failed.items())],
            "unusable": [{"scan": one.name, "why": one.why} for one in unusable],
        },
        "organs": organ_rows(measured, patients, settings.organs),
        "not_used": [
            {"roi": roi, "why": reason, "scans": count} for (roi, reason), count in sorted(why.items())
        ],
        "results": {name: one.as_json for name, one in sorted(results.items())},
    }


def write_report(
    out: Path, content: Mapping[str, Any], cases: Sequence[ClinicalCase], unusable: Sequence[UnusableScan]
) -> list[Path]:
    """Write the report as JSON, HTML and PDF, and the list of scans with their folders; the paths.

    Parameters
    ----------
    out : folder
    content : of the report
    cases, unusable : all scans; only ``cases.csv`` names their folders
    """
    listed = io.StringIO()
    writer = csv.writer(listed, lineterminator="\n")
    writer.writerow(("scan", "folder"))
    writer.writerows((case.name, str(case.folder)) for case in cases)
    writer.writerows((one.name, f"{one.folder}: {one.why}") for one in unusable)
    write_durably(out / CASES, listed.getvalue().encode(), mode=0o600)
    files = {
        "commissioning.html": render_html(content),
        "commissioning.pdf": render_pdf(content),
        CONTENT: (json.dumps(content, indent=1) + "\n").encode(),
    }
    for name, data in files.items():
        write_durably(out / name, data)
    return [out / name for name in (*files, CASES)]
