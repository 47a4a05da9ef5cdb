"""The pipeline from a CT series to proven objects.

The networks work on a regular grid. Their result is resampled to the slices as they were scanned; there the
protocol is applied and the contours are traced. RTSTRUCT.dcm and SEG.dcm are written only after they were
encoded, checked, read back from the encoded bytes and found equal to the label map. RTSTRUCT.dcm is written
last: if it exists, all other files exist. Montage and label map are made meanwhile in another process.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from orgseg_node import __version__
from orgseg_node.contouring.anatomy_check import AnatomyRules, FoundBy, organ_judge
from orgseg_node.contouring.background import BackgroundProcess
from orgseg_node.contouring.cohort_check import check_cohort
from orgseg_node.contouring.label_export import label_nifti, mask_on_slices, on_grid
from orgseg_node.contouring.object_roles import PDF, PDF_ALONE, RTSTRUCT, SEG
from orgseg_node.contouring.objects import (
    OPTIONAL,
    RequestedObjects,
    Result,
    file_name,
    make_objects,
    prove_objects,
    trace_contours,
    wrap_page,
)
from orgseg_node.contouring.preload import PreloadedSeries
from orgseg_node.contouring.protocol import Protocol
from orgseg_node.contouring.report import ReportContent, build_report, render_report
from orgseg_node.contouring.report_pdf import render_report_pdf
from orgseg_node.contouring.revision.found_result import FoundResult, keep_found
from orgseg_node.contouring.revision.kept_result import keep
from orgseg_node.contouring.scan_check import ScanRules, check_scan, predict_part
from orgseg_node.contouring.structures import apply_protocol
from orgseg_node.core.body import find_body
from orgseg_node.core.checks import Finding, Level, worst_level
from orgseg_node.core.montage import Scene, montage
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.resample import to_slices
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.objects.provenance import ModelVersion, Provenance
from orgseg_node.dicom.patient_age import age_years
from orgseg_node.dicom.reading.reader import read_volume
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.durable import make_folder, write_durably
from orgseg_node.errors import StorageError
from orgseg_node.inference.predictor import Prediction, Predictor, ProgressCallback, describe_guidance

LABELS, MONTAGE, REPORT = "labels.nii.gz", "montage.png", "report.json"


class Step(StrEnum):
    """The steps of the pipeline in order; the value is the text that a person reads."""

    READ = "reading the series"
    BODY = "finding the body"
    SEGMENT = "segmenting"
    CONTOUR = "contouring"
    ENCODE = "writing the objects"
    PROVE = "proving the objects"
    REVIEW = "drawing the montage"
    SAVE = "saving"


StepCallback = Callable[[Step, float, str], None]
"""Is called with the step, the fraction of the whole work that is done (0 to 1) and a text for a person."""

_ENDS = {  # fraction of the work that is done when a step ends
    Step.READ: 0.06,
    Step.BODY: 0.10,
    Step.SEGMENT: 0.86,
    Step.CONTOUR: 0.88,
    Step.ENCODE: 0.91,
    Step.PROVE: 0.95,
    Step.REVIEW: 0.99,
    Step.SAVE: 1.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A CT to contour, and how.

    Attributes
    ----------
    series : the CT
    out : folder for the files; created if necessary
    job_id : number of the job, see `contouring.identity`; the UIDs of the objects derive from it
    created : date and time written into the objects, aware of its time zone
    organs : the organ table
    protocol : the content of the structure set
    requested : which objects are made
    remark : additional text in the objects, in ASCII
    scans : what the scan is compared with before the network runs
    anatomy : what the organs are compared with
    keep : whether the result is kept exactly, and what the networks found, see `contouring.revision`
    """

    series: CtSeries
    out: Path
    job_id: str
    created: datetime
    organs: OrganTable
    protocol: Protocol = field(default_factory=Protocol)
    requested: RequestedObjects = field(default_factory=RequestedObjects)
    remark: str = ""
    scans: ScanRules = field(default_factory=ScanRules)
    anatomy: AnatomyRules = field(default_factory=AnatomyRules)
    keep: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of the pipeline.

    Attributes
    ----------
    report : content of report.json
    objects : paths of the DICOM objects, by role
    labels, montage, report_path : paths of the other files
    findings : everything a person should know
    """

    report: Mapping[str, Any]
    objects: Mapping[str, Path]
    labels: Path
    montage: Path
    report_path: Path
    findings: tuple[Finding, ...]

    @property
    def rtstruct(self) -> Path:
        """Path of the RT Structure Set."""
        return self.objects[RTSTRUCT]

    @property
    def seg(self) -> Path:
        """Path of the Segmentation."""
        return self.objects[SEG]

    @property
    def held(self) -> bool:
        """Whether a finding has level error, so that nothing is sent without a person's decision."""
        return worst_level(self.findings) is Level.ERROR


def run(
    request: Request,
    predictor: Predictor,
    on_progress: StepCallback,
    preloaded: PreloadedSeries | None = None,
) -> Outcome:
    """Contour one CT series, prove the objects and write them.

    Parameters
    ----------
    request : the CT and the settings
    predictor : finds the organs
    on_progress : called with the step, the fraction of all that is done (0 to 1) and a text
    preloaded : volume and body of the series, if they are known already

    Raises
    ------
    InputError
        If the series cannot be read.
    ConfigError
        If the protocol names an organ that is not in the organ table.
    BodyNotFound, BundleError, NothingFound
        If there is no patient, the model fails, or no organ is found.
    ScanDoubtful
        If the scan shows another region than the model was trained on, or contradicts its header.
    ObjectInvalid, ProofFailed
        If an object breaks its rules or, after read-back, differs from the label map; nothing is written.
    DiskFull, StorageError
        If the folder cannot be written; it has no RTSTRUCT.dcm then.
    """
    series, requested, timer = request.series, request.requested, _StepTimer(on_progress=on_progress)
    with timer.step(Step.READ):
        volume = preloaded.volume if preloaded else read_volume(series)
    with timer.step(Step.BODY):
        body = preloaded.body if preloaded else find_body(volume)
        scan = check_scan(volume, body, predictor.models, request.scans)
        age = age_years(series.header)
        cohort = check_cohort((volume, body), scan, predictor.models, request.anatomy, age)
    with timer.step(Step.SEGMENT):
        prediction = predict_part(predictor, scan, (volume, body), timer.within(Step.SEGMENT))
    with timer.step(Step.CONTOUR):
        found, found_by = _on_slices(prediction.label_map, series), FoundBy.of(prediction)
        patient = mask_on_slices(body.mask, series)
        judge = organ_judge(request.anatomy, (volume, body), found_by, age)
        applied = apply_protocol(request.protocol, found, patient, request.organs, judge)
        structures = trace_contours(applied, requested)
    checked = (*scan.findings, *cohort.findings)
    findings = (*series.findings, *body.findings, *checked, *prediction.findings, *applied.findings)
    result = Result(
        series=series,
        applied=applied,
        findings=(*findings, *applied.judgement.findings),
        provenance=_provenance(request, prediction),
    )
    scene = Scene.of(volume, on_grid(applied.label_map, series.grid), structures[RTSTRUCT], body.mask)
    scene = replace(scene, marks=applied.judgement.grades)
    before = FoundResult(label_map=found, found_by=found_by, not_searched=prediction.not_searched)
    drawing = BackgroundProcess(lambda: draw(scene) | _kept(request, result, before))
    with timer.step(Step.ENCODE):
        objects = make_objects(result, requested, structures)
    with timer.step(Step.PROVE):
        prove_objects(result, requested, objects)
    with timer.step(Step.REVIEW):
        files = drawing.files()
    content = ReportContent(
        result=result,
        prediction=prediction,
        cohort=cohort,
        structures=structures[RTSTRUCT],
        protocol=request.protocol,
        created=request.created,
        sha256=hashes_of(files | {file_name(role): content for role, content in objects.items()}),
        timings_s=timer.timings_s,
    )
    with timer.step(Step.SAVE):
        report = build_report(content)
        pages = [role for role in (PDF, PDF_ALONE) if role in requested.roles]
        page = render_report_pdf(report, files[MONTAGE]) if pages else b""
        for role in pages:
            objects[role] = wrap_page(page, result, objects, role)
            report["sha256"] |= hashes_of({file_name(role): objects[role]})
        save_result(request.out, files | {REPORT: render_report(report)}, objects)
    return _outcome(request.out, report, result.findings, objects)


@dataclass(frozen=True, slots=True, kw_only=True)
class _StepTimer:
    """Times the steps and reports the progress of the whole work."""

    on_progress: StepCallback
    timings_s: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def step(self, step: Step) -> Iterator[None]:
        """Run one step."""
        self.on_progress(step, self._start(step), step.value)
        begun = time.perf_counter()
        yield
        self.timings_s[step.name.lower()] = round(time.perf_counter() - begun, 3)
        self.on_progress(step, _ENDS[step], step.value)

    def within(self, step: Step) -> ProgressCallback:
        """A callback for the progress of one step, which is reported as progress of the whole work."""
        start, end = self._start(step), _ENDS[step]

        def report(fraction: float, text: str) -> None:
            done = start + (end - start) * min(max(fraction, 0.0), 1.0)
            self.on_progress(step, done, f"{step.value}: {text}")

        return report

    @staticmethod
    def _start(step: Step) -> float:
        order = list(Step)
        return 0.0 if step is order[0] else _ENDS[order[order.index(step) - 1]]


def draw(scene: Scene) -> dict[str, bytes]:
    """The label map and the montage as files, by name."""
    return {LABELS: label_nifti(scene.label_map), MONTAGE: montage(scene)}


def _kept(request: Request, result: Result, before: FoundResult) -> dict[str, bytes]:
    return keep(result) | keep_found(before) if request.keep else {}


def _on_slices(label_map: LabelMap, series: CtSeries) -> LabelMap:
    """Labels on the slices as they were scanned."""
    return label_map if series.is_regular else to_slices(label_map, series.stack)


def _provenance(request: Request, prediction: Prediction) -> Provenance:
    return Provenance(
        job_id=request.job_id,
        created=request.created,
        models=tuple(
            ModelVersion(name=model.name, version=model.version, sha256=model.sha256)
            for model in prediction.models
        ),
        software_version=__version__,
        remark=request.remark,
        guidance=describe_guidance(prediction.guided),
    )


def hashes_of(files: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 of each file, by name."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def save_result(out: Path, files: Mapping[str, bytes], objects: Mapping[str, bytes]) -> None:
    """Remove old objects, then write the files, each completely or not at all, the RT Structure Set last.

    Parameters
    ----------
    out : the folder
    files : contents by name
    objects : contents of the part 10 files by role
    """
    make_folder(out)
    try:
        for role in (RTSTRUCT, *OPTIONAL):
            (out / file_name(role)).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"An old object cannot be removed: {error.strerror}.") from error
    for name, content in files.items():
        write_durably(out / name, content)
    for role in sorted(objects, key=lambda each: each == RTSTRUCT):
        write_durably(out / file_name(role), objects[role])


def _outcome(
    out: Path, report: Mapping[str, Any], findings: tuple[Finding, ...], objects: Mapping[str, bytes]
) -> Outcome:
    return Outcome(
        report=report,
        objects={role: out / file_name(role) for role in objects},
        labels=out / LABELS,
        montage=out / MONTAGE,
        report_path=out / REPORT,
        findings=findings,
    )
