"""Images and delivered contours of the cases that are being looked at.

The contours are read from the bytes of the RT Structure Set that was delivered, which must have the hash that
was recorded when it was proven; the label map is never used. A contour belongs to the slice in whose plane it
lies, and is given in pixels of that slice.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from orgseg_node.contouring.object_roles import RTSTRUCT, kind_of
from orgseg_node.dicom.objects.contour_data import contour_points
from orgseg_node.dicom.objects.rtstruct_reader import SlicePlanes
from orgseg_node.dicom.reading.files import whole_text, without_pydicom_warnings
from orgseg_node.dicom.reading.pixels import PixelReader
from orgseg_node.dicom.reading.reader import read_shown_plane
from orgseg_node.dicom.reading.series import survey
from orgseg_node.dicom.slice_table import SliceTable, slice_table, table_of
from orgseg_node.errors import NoSeries, ObjectInvalid, ResultDeleted, ResultMissing
from orgseg_node.node.store.data_folder import JOBS, SLICES
from orgseg_node.node.store.model import Job, OutputObject
from orgseg_node.node.store.store import Store

_MOST_OPEN: Final = 4
_AT_ONCE: Final = 2
_LARGEST_TABLE: Final = 50_000_000
_GREY: Final = (160, 160, 160)
MOST_IN_BLOCK: Final = 16
"""So many slices are sent at most in one answer."""


class HasContours(Protocol):
    """Whatever is drawn as closed lines."""

    @property
    def slices(self) -> tuple[int, ...]:
        """Index of the slice of each contour."""

    @property
    def contours(self) -> tuple[NDArray[np.float64], ...]:
        """Points (column, row) of each contour in pixels of its slice."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DrawnOrgan:
    """One ROI as it was delivered.

    Attributes
    ----------
    number : ROI Number
    name : ROI Name
    color : ROI Display Color, 0 to 255
    slices : index of the slice of each contour
    contours : (N, 2) points (column, row) in pixels of its slice; a pixel's centre has whole numbers
    """

    number: int
    name: str
    color: tuple[int, int, int]
    slices: tuple[int, ...]
    contours: tuple[NDArray[np.float64], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OpenCase:
    """A case that is being looked at.

    Attributes
    ----------
    series : the slices of its CT
    organs : of the delivered RT Structure Set; empty if the job has none
    sha256 : hash of the bytes of the RT Structure Set; empty if the job has none
    """

    series: SliceTable
    organs: tuple[DrawnOrgan, ...]
    sha256: str

    def description(self) -> dict[str, Any]:
        """Everything that the viewer needs besides pixels and points."""
        series = self.series
        axes = np.asarray(series.orientation, dtype=np.float64).reshape(2, 3)
        return {
            "slices": len(series.slices),
            "rows": series.rows,
            "columns": series.columns,
            "spacing": [float(series.pixel_spacing_mm[0]), float(series.pixel_spacing_mm[1])],
            "heights": [round(float(height), 4) for height in series.heights_mm],
            "axes": [axes[0].tolist(), axes[1].tolist(), np.cross(axes[0], axes[1]).tolist()],
            "organs": [
                {"number": organ.number, "name": organ.name, "color": list(organ.color), **lines_of(organ)}
                for organ in self.organs
            ],
            "sha256": self.sha256,
        }

    def points(self) -> bytes:
        """The points of all contours in the order of the description: pairs of float32, little-endian."""
        return points_of(self.organs)


def lines_of(organ: HasContours) -> dict[str, list[int]]:
    """The slice and the number of points of each contour."""
    return {"slices": list(organ.slices), "counts": [len(points) for points in organ.contours]}


def points_of(organs: Iterable[HasContours]) -> bytes:
    """The points of all contours: pairs of float32, little-endian."""
    every = [points for organ in organs for points in organ.contours]
    return np.concatenate(every).astype("<f4").tobytes() if every else b""


class OpenCases:
    """The cases that were looked at last; only headers and contours are kept, pixels are read each time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        self._open: OrderedDict[tuple[str, int, str, str], OpenCase] = OrderedDict()

    def open(self, store: Store, data_dir: Path, job: Job, role: str = RTSTRUCT) -> OpenCase:
        """The case of a job.

        Parameters
        ----------
        store : the node's database
        data_dir : the node's data folder
        job : the job
        role : of the RT Structure Set that is drawn

        Raises
        ------
        ResultDeleted
            If its files were deleted.
        ObjectInvalid
            If the RT Structure Set is not the one that was proven, or cannot be read.
        NoSeries
            If its images are not here.
        """
        if job.purged_at is not None:
            raise ResultDeleted
        written = next((one for one in store.attempts.objects(job.job_id) if one.role == role), None)
        if written is None and role != RTSTRUCT:
            raise ResultMissing(f"The job has no {kind_of(role)} of this kind.")
        key = (job.job_id, job.run, role, written.sha256 if written else "")
        with self._lock:
            found = self._open.get(key)
            if found is not None:
                self._open.move_to_end(key)
        if found is None:
            with self._turns:
                found = _read(store, data_dir, job, written)
            with self._lock:
                self._open[key] = found
                while len(self._open) > _MOST_OPEN:
                    self._open.popitem(last=False)
        return found

    def planes(self, case: OpenCase, first: int, count: int = 1) -> bytes:
        """The pixels of neighbouring slices in HU: int16, little-endian, row by row.

        Parameters
        ----------
        case : an open case
        first : index of the first slice
        count : how many

        Raises
        ------
        ResultMissing
            If there are no such slices, or too many at once.
        UndecodablePixels
            If one cannot be decoded.
        """
        if not (first >= 0 and 1 <= count <= MOST_IN_BLOCK and first + count <= len(case.series.slices)):
            raise ResultMissing("There are no such slices.")
        shape, reader = (case.series.rows, case.series.columns), PixelReader()
        found = []
        for image in case.series.slices[first : first + count]:
            with self._turns:
                found.append(read_shown_plane(reader, image, shape).astype("<i2", copy=False).tobytes())
        return b"".join(found)


def _read(store: Store, data_dir: Path, job: Job, written: OutputObject | None) -> OpenCase:
    dataset = None if written is None else _delivered(data_dir / written.path, written.sha256)
    series = _recorded(store, data_dir, job) or _surveyed(store, data_dir, job, dataset)
    organs = () if dataset is None else tuple(_organs(dataset, series))
    return OpenCase(series=series, organs=organs, sha256=written.sha256 if written else "")


def _recorded(store: Store, data_dir: Path, job: Job) -> SliceTable | None:
    """The slices as they were when the job was contoured; None if they were not recorded, or moved away."""
    path = data_dir / JOBS / job.job_id / SLICES
    paths = {one.sop_uid: data_dir / one.path for one in store.instances_of(job.series_uid)}
    try:
        if path.stat().st_size > _LARGEST_TABLE:
            return None
        return slice_table(path.read_text(encoding="utf-8"), paths)
    except (OSError, ValueError, ResultMissing):
        return None


def _surveyed(store: Store, data_dir: Path, job: Job, dataset: Dataset | None) -> SliceTable:
    """The slices from the headers of the images."""
    wanted = set() if dataset is None else _referenced(dataset)
    # only images that were contoured: what came later was not looked at in a process of its own yet
    images = [one for one in store.instances_of(job.series_uid) if not wanted or one.sop_uid in wanted]
    inventory = survey(data_dir / one.path for one in images)
    fitting = [one for one in inventory.accepted if wanted <= {s.sop_instance_uid for s in one.slices}]
    if not fitting:
        raise NoSeries("The images of the case are not here, or cannot be read any more.")
    return table_of(min(fitting, key=lambda one: (len(one.slices) != job.slices, len(one.slices))))


def _delivered(path: Path, sha256: str) -> Dataset:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ResultDeleted from None
    if sha256 and hashlib.sha256(content).hexdigest() != sha256:
        raise ObjectInvalid("The RT Structure Set on the disk is not the one that was proven.")
    with without_pydicom_warnings():
        return pydicom.dcmread(BytesIO(content))


def _referenced(dataset: Dataset) -> set[str]:
    """The images of the CT that was contoured, also those without a contour."""
    contours = (
        c for roi in dataset.get("ROIContourSequence") or [] for c in roi.get("ContourSequence") or []
    )
    series = (
        one
        for frame in dataset.get("ReferencedFrameOfReferenceSequence") or []
        for study in frame.get("RTReferencedStudySequence") or []
        for one in study.get("RTReferencedSeriesSequence") or []
    )
    return {
        str(image.ReferencedSOPInstanceUID)
        for one in (*contours, *series)
        for image in one.get("ContourImageSequence") or []
    }


def _organs(dataset: Dataset, series: SliceTable) -> Sequence[DrawnOrgan]:
    planes = SlicePlanes(series)
    names = {int(roi.ROINumber): whole_text(roi, "ROIName") for roi in dataset.StructureSetROISequence}
    found = []
    for roi in dataset.get("ROIContourSequence") or []:
        number = int(roi.ReferencedROINumber)
        located = [planes.locate(contour_points(item)[0])[0] for item in roi.get("ContourSequence") or []]
        found.append(
            DrawnOrgan(
                number=number,
                name=names.get(number, str(number)),
                color=_color(roi),
                slices=tuple(contour.k for contour in located),
                contours=tuple(contour.points for contour in located),
            )
        )
    return found


def _color(roi: Dataset) -> tuple[int, int, int]:
    values = [min(255, max(0, int(value))) for value in roi.get("ROIDisplayColor") or ()]
    return (values[0], values[1], values[2]) if len(values) == 3 else _GREY
