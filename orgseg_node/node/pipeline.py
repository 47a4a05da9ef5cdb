"""From a CT series to proven objects: the whole story on one page.

Nothing is written under the name RTSTRUCT.dcm or SEG.dcm that was not encoded, read back from its own bytes
and found equal to the label map. RTSTRUCT.dcm is written last: where it is, everything else is.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from orgseg_node import __version__
from orgseg_node.core.body import find_body
from orgseg_node.core.checks import Finding, Level, check_labels, worst_level
from orgseg_node.core.contours import StructureSet, trace
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.provenance import ModelLine, Provenance
from orgseg_node.dicom.reader import read_volume
from orgseg_node.dicom.rtstruct import prove, write_rtstruct
from orgseg_node.dicom.seg import prove_seg, write_seg
from orgseg_node.dicom.series import CtSeries
from orgseg_node.errors import NothingFound, StorageError
from orgseg_node.inference.predictor import ModelIdentity, Prediction, Predictor, Progress
from orgseg_node.node.landing import make_folder, write_durably
from orgseg_node.node.report import Facts, build_report, render_report
from orgseg_node.node.review import Scene, label_nifti, montage

RTSTRUCT, SEG, LABELS, MONTAGE, REPORT = (
    "RTSTRUCT.dcm",
    "SEG.dcm",
    "labels.nii.gz",
    "montage.png",
    "report.json",
)


class Step(StrEnum):
    """What the pipeline is doing, in order; the value is what a person reads."""

    READ = "reading the series"
    BODY = "finding the body"
    SEGMENT = "segmenting"
    CONTOUR = "contouring"
    ENCODE = "writing the objects"
    PROVE = "proving the objects"
    REVIEW = "drawing the montage"
    SAVE = "saving"


_ENDS = {  # part of the whole work that is done when a step ends
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
    """What to contour, and where to.

    Attributes
    ----------
    series : the CT
    out : folder for the files; made if it is not there
    job_id : the UIDs of the objects derive from it; the same id gives the same UIDs
    created : date and time written into the objects, aware of its time zone
    """

    series: CtSeries
    out: Path
    job_id: str
    created: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came out.

    Attributes
    ----------
    report : what report.json holds
    rtstruct, seg, labels, montage, report_path : the files
    findings : everything a person should know
    """

    report: Mapping[str, Any]
    rtstruct: Path
    seg: Path
    labels: Path
    montage: Path
    report_path: Path
    findings: tuple[Finding, ...]

    @property
    def held(self) -> bool:
        """Whether a finding is so grave that the objects must not be sent without a person's decision."""
        return worst_level(self.findings) is Level.ERROR


def run(request: Request, predictor: Predictor, progress: Progress) -> Outcome:
    """Contour one CT series and write what comes out, proven.

    Raises
    ------
    InputError
        If the series cannot be read.
    BodyNotFound, BundleError, NothingFound
        If there is no patient, the model fails, or no organ is found.
    ProofFailed
        If a written object, read back, is not the label map; nothing is written then.
    DiskFull, StorageError
        If the folder cannot be written; an RTSTRUCT.dcm is not there then.
    """
    series, clock = request.series, _Clock(progress=progress)
    with clock.step(Step.READ):
        volume = read_volume(series)
    with clock.step(Step.BODY):
        body = find_body(volume)
    with clock.step(Step.SEGMENT):
        prediction = predictor.predict(volume, body, clock.within(Step.SEGMENT))
    label_map = prediction.label_map
    with clock.step(Step.CONTOUR):
        structures = _found(trace(label_map))
        findings = (*series.findings, *body.findings, *prediction.findings, *check_labels(label_map))
    with clock.step(Step.ENCODE):
        provenance = _provenance(request, prediction)
        rtstruct = _encode(write_rtstruct(structures, series, provenance))
        seg = _encode(write_seg(label_map, series, provenance))
    with clock.step(Step.PROVE):
        _prove(rtstruct, seg, label_map, series)
    with clock.step(Step.REVIEW):
        scene = Scene(volume=volume, label_map=label_map, structures=structures)
        files = {LABELS: label_nifti(label_map), MONTAGE: montage(scene), SEG: seg, RTSTRUCT: rtstruct}
    facts = Facts(
        series=series,
        prediction=prediction,
        structures=structures,
        findings=findings,
        job_id=request.job_id,
        created=request.created,
        sha256={name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        timings_s=clock.timings_s,
    )
    with clock.step(Step.SAVE):
        report = build_report(facts)
        _save(request.out, files | {REPORT: render_report(report)})
    return _outcome(request.out, report, findings)


def job_id_of(series: CtSeries, models: tuple[ModelIdentity, ...], method: str) -> str:
    """A job's name that follows from what goes in: series, models, method and the version of this program.

    The same input gives the same name, so the objects of a second run carry the UIDs of the first.
    """
    lines = [f"orgseg_node {__version__}", series.series_instance_uid, series.content_sha256, method]
    lines += [f"model {model.sha256}" for model in models]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clock:
    """Times the steps and tells how far the whole is."""

    progress: Progress
    timings_s: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def step(self, step: Step) -> Iterator[None]:
        """Run one step."""
        self.progress(self._start(step), step.value)
        begun = time.perf_counter()
        yield
        self.timings_s[step.name.lower()] = round(time.perf_counter() - begun, 3)
        self.progress(_ENDS[step], step.value)

    def within(self, step: Step) -> Progress:
        """The progress of one step, as part of the whole."""
        start, end = self._start(step), _ENDS[step]

        def tell(part: float, text: str) -> None:
            self.progress(start + (end - start) * min(max(part, 0.0), 1.0), f"{step.value}: {text}")

        return tell

    @staticmethod
    def _start(step: Step) -> float:
        order = list(Step)
        return 0.0 if step is order[0] else _ENDS[order[order.index(step) - 1]]


def _found(structures: StructureSet) -> StructureSet:
    if not structures.structures:
        raise NothingFound
    return structures


def _provenance(request: Request, prediction: Prediction) -> Provenance:
    return Provenance(
        job_id=request.job_id,
        created=request.created,
        models=tuple(
            ModelLine(name=model.name, version=model.version, sha256=model.sha256)
            for model in prediction.models
        ),
        software_version=__version__,
    )


def _encode(dataset: Dataset) -> bytes:
    """The bytes of a part 10 file; these very bytes are proven and then written."""
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _prove(rtstruct: bytes, seg: bytes, label_map: LabelMap, series: CtSeries) -> None:
    """Read both objects back from their bytes; each must be the label map, voxel for voxel."""
    prove(pydicom.dcmread(io.BytesIO(rtstruct)), label_map, series)
    prove_seg(pydicom.dcmread(io.BytesIO(seg)), label_map, series)


def _save(out: Path, files: Mapping[str, bytes]) -> None:
    """Write the files, each whole or not at all; an old RTSTRUCT goes first and the new one comes last."""
    make_folder(out)
    try:
        (out / RTSTRUCT).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"The old {RTSTRUCT} cannot be removed: {error.strerror}.") from error
    for name in (LABELS, MONTAGE, SEG, REPORT, RTSTRUCT):
        write_durably(out / name, files[name])


def _outcome(out: Path, report: Mapping[str, Any], findings: tuple[Finding, ...]) -> Outcome:
    return Outcome(
        report=report,
        rtstruct=out / RTSTRUCT,
        seg=out / SEG,
        labels=out / LABELS,
        montage=out / MONTAGE,
        report_path=out / REPORT,
        findings=findings,
    )
