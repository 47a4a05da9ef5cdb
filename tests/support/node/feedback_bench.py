"""A delivered job of the phantom, and structure sets that a planning system might send back for it."""

from __future__ import annotations

import copy
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from orgseg_node.contouring.pipeline import Request, run
from orgseg_node.core.organs import OrganTable
from orgseg_node.dicom.reading.part10 import content_hash, split_part10
from orgseg_node.dicom.reading.series import CtSeries, read_series
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.feedback.child import answer_request
from orgseg_node.node.feedback.desk import FeedbackDesk
from orgseg_node.node.feedback.model import Feedback, OrganFeedback
from orgseg_node.node.feedback.rows import Arrived, FeedbackRows
from orgseg_node.node.store.data_folder import INBOX, JOBS
from orgseg_node.node.store.database import Database
from orgseg_node.node.store.model import (
    DeliveryState,
    Instance,
    Job,
    JobState,
    NewJob,
    OutputObject,
    SeriesState,
)
from orgseg_node.node.store.store import Store
from tests.support.ct.phantom import PhantomOptions, build_ct_series
from tests.support.models.threshold_predictor import ThresholdPredictor

Change = Callable[[Dataset], object]


class FeedbackBench:
    """A data folder with a delivered job.

    Parameters
    ----------
    folder : for the data
    organs : the organ table
    place : the database; SQLite in the data folder when None
    options : of the phantom
    """

    def __init__(
        self,
        folder: Path,
        organs: OrganTable,
        *,
        place: Any = None,
        options: PhantomOptions | None = None,
        **sections: Any,
    ) -> None:
        self.data = folder
        values = {
            "node": {"data_dir": folder},
            "receiver": {"accept_any_calling_ae": True, "min_free_mb": 0},
            "peers": [{"ae_title": "TPS", "feedback": True}, {"ae_title": "CT"}],
            "destinations": {"tps": {"ae_title": "TPS", "host": "127.0.0.1", "port": 104}},
            **sections,
        }
        self.config = NodeConfig.model_validate(values)
        self.organs = organs
        self.store = Store(folder if place is None else Database(place))
        self.rows = FeedbackRows(self.store.database)
        self.desk = FeedbackDesk(self.config, self.store, runner=run_here)
        made = self.store.jobs()
        if made:  # the folder is a copy of that of another bench
            self.job = made[0]
            self.series = read_series(self.data / INBOX / self.job.series_uid)
        else:
            self.series = self._receive(options)
            self.job = self.deliver()
        self.rtstruct = self.data / self.store.attempts.objects(self.job.job_id)[0].path

    def _receive(self, options: PhantomOptions | None) -> CtSeries:
        made = self.data / "made"
        build_ct_series(made, options)
        for path in sorted(made.iterdir()):
            header = pydicom.dcmread(path, stop_before_pixels=True)
            place = self.data / INBOX / header.SeriesInstanceUID / f"{header.SOPInstanceUID}.dcm"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
            self.store.accept(
                Instance(
                    sop_uid=header.SOPInstanceUID, series_uid=header.SeriesInstanceUID, sha256="a" * 64,
                    size=1, path=str(place.relative_to(self.data)), transfer_syntax="1.2.840.10008.1.2.1",
                    calling_ae="CT", received_at=datetime.now(UTC),
                )
            )  # fmt: skip
        return read_series(place.parent)

    def deliver(self, **new: Any) -> Job:
        """Contour the CT by thresholds, and note that the RTSTRUCT was delivered."""
        uid = self.series.series_instance_uid
        job_fields = {"bundles": ("threshold",), "slices": len(self.series.slices), **new}
        wanted = NewJob(series_uid=uid, content_sha256=self.series.content_sha256, **job_fields)
        assert self.store.judge(self.store.one_series(uid), SeriesState.READY, job=wanted)
        out = self.data / JOBS / wanted.job_id / "out"
        request = Request(
            series=self.series, out=out, job_id=wanted.job_id, created=datetime(2026, 1, 2, tzinfo=UTC),
            organs=self.organs,
        )  # fmt: skip
        outcome = run(request, ThresholdPredictor(organs=self.organs), lambda *_: None)
        for state in (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING):
            self.store.move(wanted.job_id, state, "")
        path = outcome.rtstruct
        written = OutputObject(
            role="RTSTRUCT",
            path=str(path.relative_to(self.data)),
            sop_uid=str(pydicom.dcmread(path).SOPInstanceUID),
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        self.store.attempts.keep_objects(wanted.job_id, [written])
        self.store.begin_sending(wanted.job_id, [(written, "tps")])
        (delivery,) = self.store.claim(wanted.job_id, "tps")
        self.store.record_delivery(
            delivery, DeliveryState.STORED, status=0, note="", next_at=datetime.now(UTC)
        )
        return self.store.job(wanted.job_id)

    def returned(self, *changes: Change) -> Dataset:
        """The delivered structure set as a planning system sends it back: approved, with a new UID."""
        dataset = pydicom.dcmread(self.rtstruct)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.SeriesInstanceUID = generate_uid()
        dataset.Manufacturer, dataset.ManufacturerModelName = "TPS Inc.", "Planner"
        dataset.ApprovalStatus, dataset.ReviewerName = "APPROVED", "Doe^Jane"
        dataset.ReviewDate, dataset.ReviewTime = "20260301", "101500"
        for change in changes:
            change(dataset)
        return dataset

    def arrive(self, dataset: Dataset, *, sender: str = "TPS") -> int | None:
        """Have a structure set arrive, as the inbox does; its number."""
        content = written(dataset)
        sha256 = content_hash(*split_part10(content))
        place = self.data / INBOX / str(dataset.SeriesInstanceUID) / f"{sha256[:16]}.dcm"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        path = str(place.relative_to(self.data))
        return self.rows.register(
            Arrived(sop_uid=str(dataset.SOPInstanceUID), sha256=sha256, path=path, sender=sender)
        )

    def come_back(self, *changes: Change) -> tuple[Feedback, dict[str, OrganFeedback]]:
        """Send a changed structure set back and measure it; its row, and its organs by ROI name."""
        number = self.arrive(self.returned(*changes))
        assert number is not None
        self.desk.work()
        return self.rows.one(number), {one.roi: one for one in self.rows.organs(number)}


def run_here(request: Mapping[str, Any], _folder: Path, **_limits: Any) -> dict[str, Any]:
    """Answer a request in this process, which starts none."""
    found: dict[str, Any] = json.loads(json.dumps(answer_request(request)))
    return found


def written(dataset: Dataset) -> bytes:
    """A dataset as a file."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def number_of(dataset: Dataset, name: str) -> int:
    """Number of the ROI with this name."""
    return next(int(roi.ROINumber) for roi in dataset.StructureSetROISequence if roi.ROIName == name)


def contours_of(dataset: Dataset, name: str) -> Iterable[Dataset]:
    """The contour items of an ROI."""
    number = number_of(dataset, name)
    for item in dataset.ROIContourSequence:
        if int(item.ReferencedROINumber) == number:
            yield from item.get("ContourSequence") or ()


def shifted(name: str, *, x_mm: float = 0.0, z_mm: float = 0.0) -> Change:
    """Move the contours of an ROI."""

    def change(dataset: Dataset) -> None:
        for contour in contours_of(dataset, name):
            numbers = [float(value) for value in contour.ContourData]
            numbers[0::3] = [round(value + x_mm, 2) for value in numbers[0::3]]
            numbers[2::3] = [round(value + z_mm, 2) for value in numbers[2::3]]
            contour.ContourData = numbers

    return change


def off_slices(name: str) -> Change:
    """Move the contours of an ROI off the slices."""
    return shifted(name, z_mm=1.3)


def renamed(name: str, new: str) -> Change:
    """Give an ROI another name."""

    def change(dataset: Dataset) -> None:
        for roi in dataset.StructureSetROISequence:
            if roi.ROIName == name:
                roi.ROIName = new

    return change


def deleted(name: str) -> Change:
    """Delete an ROI."""

    def change(dataset: Dataset) -> None:
        number = number_of(dataset, name)
        dataset.StructureSetROISequence = [
            roi for roi in dataset.StructureSetROISequence if int(roi.ROINumber) != number
        ]
        dataset.ROIContourSequence = [
            one for one in dataset.ROIContourSequence if int(one.ReferencedROINumber) != number
        ]

    return change


def copied(name: str, *new: str) -> Change:
    """Add copies of an ROI under other names."""

    def change(dataset: Dataset) -> None:
        number = number_of(dataset, name)
        roi = next(one for one in dataset.StructureSetROISequence if int(one.ROINumber) == number)
        drawn = next(one for one in dataset.ROIContourSequence if int(one.ReferencedROINumber) == number)
        if len(new) > 10:  # many copies have one contour each
            drawn = copy.deepcopy(drawn)
            drawn.ContourSequence = drawn.ContourSequence[:1]
        for count, other in enumerate(new, start=1):
            more, contours = copy.deepcopy(roi), copy.deepcopy(drawn)
            more.ROINumber = contours.ReferencedROINumber = 1000 + count
            more.ROIName = other
            dataset.StructureSetROISequence.append(more)
            dataset.ROIContourSequence.append(contours)

    return change


def emptied(*names: str) -> Change:
    """Delete the contours of ROIs and keep the ROIs, as a planning system does."""

    def change(dataset: Dataset) -> None:
        numbers = {number_of(dataset, name) for name in names}
        for item in dataset.ROIContourSequence:
            if int(item.ReferencedROINumber) in numbers:
                del item.ContourSequence

    return change


def each_roi(change: Callable[[str], Change]) -> Change:
    """Do the same to every ROI."""

    def changes(dataset: Dataset) -> None:
        for name in [str(roi.ROIName) for roi in dataset.StructureSetROISequence]:
            change(name)(dataset)

    return changes


def in_frame(frame_uid: str, *names: str) -> Change:
    """Put ROIs into a frame of reference; all of them if none is named."""

    def change(dataset: Dataset) -> None:
        for roi in dataset.StructureSetROISequence:
            if not names or roi.ROIName in names:
                roi.ReferencedFrameOfReferenceUID = frame_uid

    return change


def typed(name: str, kind: str) -> Change:
    """Give the contours of an ROI a geometric type."""

    def change(dataset: Dataset) -> None:
        for contour in contours_of(dataset, name):
            contour.ContourGeometricType = kind

    return change


def attributes(**values: Any) -> Change:
    """Set attributes."""

    def change(dataset: Dataset) -> None:
        for name, value in values.items():
            setattr(dataset, name, value)

    return change
