"""Reads RT Structure Sets of other systems: what was drawn, and what of it cannot be used.

Real structure sets break many rules of the standard. Each ROI is judged on its own: what is harmless is read
and reported as a finding, what is ambiguous makes this ROI unusable, never a neighbour or the whole object.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final, Protocol

import numpy as np
from pydicom.dataset import Dataset

from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.contour_union import UnitedContours, unite
from orgseg_node.core.geometry import FloatArray
from orgseg_node.core.rasterise import Contour
from orgseg_node.core.volume import Mask
from orgseg_node.dicom.decimal_commas import proves_decimal_comma, with_decimal_points
from orgseg_node.dicom.objects.contour_data import contour_words, points_of
from orgseg_node.dicom.objects.provenance import MANUFACTURER, MODEL_NAME
from orgseg_node.dicom.objects.rtstruct_reader import SlicedCt, SlicePlanes
from orgseg_node.dicom.reading.files import (
    optional_integer,
    text,
    texts,
    whole_text,
    without_pydicom_warnings,
)
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.errors import ObjectInvalid

NOT_EDITED: Final = "Contours of a model that nobody edited"
"""ROI Generation Description of contours that a person approved as a model drew them."""

_CLOSED: Final = "CLOSEDPLANAR"
_EXCLUSIVE: Final = "CLOSEDPLANARXOR"
_POINT: Final = "POINT"
_ON_SLICE: Final = 0.1  # of the distance to the next slice: a contour is in the plane of a slice
_NEAR_SLICE: Final = 0.25  # still nearer to this slice than to any other, which is reported
_FAR_SLICES: Final = 2  # a contour this far from the slice it refers to was moved or mirrored
_SAME_POINT_MM: Final = 1e-3
_LEAST_POINTS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClinicalRoi:
    """An ROI with contours.

    Attributes
    ----------
    name : as written in the file; ``(without a name) number 3`` for the third ROI if it has none
    frame_uid : Frame of Reference UID; empty if neither the ROI nor the structure set states one
    is_automatic : whether a program made it without a person (ROI Generation Algorithm AUTOMATIC)
    is_unedited : whether it says that it has the contours of a model that nobody edited
    contours : the items of its Contour Sequences
    fault : why it cannot be used at all; empty if nothing is known against it
    """

    name: str
    frame_uid: str
    is_automatic: bool
    contours: tuple[Dataset, ...]
    fault: str = ""
    is_unedited: bool = False

    @property
    def images(self) -> frozenset[str]:
        """SOP Instance UIDs of the images that its contours refer to."""
        with without_pydicom_warnings():
            return frozenset(uid for contour in self.contours for uid in _image_uids(contour))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DrawnRoi:
    """The voxels of an ROI.

    Attributes
    ----------
    mask : (K, J, I) bool on the slices of the CT
    findings : what is unusual about its contours
    """

    mask: Mask
    findings: tuple[Finding, ...]


def is_approved(dataset: Dataset) -> bool:
    """Whether a person has approved a structure set."""
    return text(dataset, "ApprovalStatus").upper() == "APPROVED"


def is_rejected(dataset: Dataset) -> bool:
    """Whether a person has rejected a structure set."""
    return text(dataset, "ApprovalStatus").upper() == "REJECTED"


def is_own(dataset: Dataset) -> bool:
    """Whether the node wrote a structure set."""
    names = {text(dataset, "Manufacturer"), text(dataset, "ManufacturerModelName")}
    return bool(names & {MANUFACTURER, MODEL_NAME})


def clinical_rois(dataset: Dataset) -> tuple[ClinicalRoi, ...]:
    """The ROIs of a structure set that have contours, in its order, with what is wrong with each.

    Contours that belong to no ROI are left out; those of an ROI in several items are put together.

    Raises
    ------
    ObjectInvalid
        If its sequences cannot be decoded.
    """
    with without_pydicom_warnings():
        return tuple(replace(roi, fault=roi.fault or _types_fault(roi)) for roi in _rois(dataset))


def _rois(dataset: Dataset) -> Iterator[ClinicalRoi]:
    contours: defaultdict[int, list[Dataset]] = defaultdict(list)
    for item in _items(dataset, "ROIContourSequence"):
        number = optional_integer(item, "ReferencedROINumber")
        if number is not None:
            contours[number] += _items(item, "ContourSequence")
    frame = _only_frame(dataset)
    listed = list(enumerate(_items(dataset, "StructureSetROISequence"), start=1))
    names = defaultdict[int | None, set[str]](set)
    for _, item in listed:
        names[optional_integer(item, "ROINumber")].add(whole_text(item, "ROIName"))
    seen: set[int] = set()
    for position, item in listed:
        number = optional_integer(item, "ROINumber")
        if number in seen and len(names[number]) == 1:
            continue  # the same ROI is listed again
        roi = ClinicalRoi(
            name=whole_text(item, "ROIName") or f"(without a name) number {position}",
            frame_uid=whole_text(item, "ReferencedFrameOfReferenceUID") or frame,
            is_automatic=text(item, "ROIGenerationAlgorithm").upper() == "AUTOMATIC",
            is_unedited=whole_text(item, "ROIGenerationDescription") == NOT_EDITED,
            contours=tuple(contours.get(number, ())) if number is not None else (),
        )
        if number is None:
            yield replace(roi, fault="it has no number, so its contours are not known")
            continue
        seen.add(number)
        if roi.contours:
            yield replace(roi, fault="another ROI has its number") if len(names[number]) > 1 else roi


def empty_rois(dataset: Dataset) -> tuple[str, ...]:
    """Names of the ROIs without contours, unless another one of this name has some. Raises ObjectInvalid."""
    drawn = {roi.name for roi in clinical_rois(dataset)}
    listed = {whole_text(item, "ROIName") for item in _items(dataset, "StructureSetROISequence")}
    return tuple(sorted(listed - drawn - {""}))


def stray_contours(dataset: Dataset) -> int:
    """Number of items with contours that belong to no ROI. Raises ObjectInvalid."""
    known = {optional_integer(roi, "ROINumber") for roi in _items(dataset, "StructureSetROISequence")} - {
        None
    }
    return sum(
        optional_integer(item, "ReferencedROINumber") not in known
        for item in _items(dataset, "ROIContourSequence")
        if _items(item, "ContourSequence")
    )


def read_roi(roi: ClinicalRoi, series: CtSeries, organ: str) -> DrawnRoi:
    """The voxels of an ROI on the slices of its CT.

    A contour belongs to the slice in whose plane it is, whatever image it refers to: some systems write
    references to images that do not exist. One to another slice of this CT is a finding. An ROI that states
    no frame of reference has that of the CT, if all its contours refer to images of it.

    Parameters
    ----------
    roi : without a fault
    series : the CT
    organ : key or name for the findings

    Raises
    ------
    ObjectInvalid
        If it has another frame of reference, if a contour is damaged or lies between slices, or if it
        encloses no voxel.
    """
    if roi.fault:
        raise ObjectInvalid(roi.fault)
    own = {image.sop_instance_uid for image in series.slices}
    is_without_frame = not roi.frame_uid and bool(roi.images) and roi.images <= own
    if roi.frame_uid != series.frame_of_reference_uid and not is_without_frame:
        raise ObjectInvalid(
            "its frame of reference is another one than that of the CT"
            if roi.frame_uid
            else "it has no frame of reference"
        )
    read = _read_contours(roi, series)
    read.odd["frameless"] = len(roi.contours) if is_without_frame else 0
    if len(set(read.far)) > len(roi.contours) / 2:  # some systems let all contours refer to one image
        raise ObjectInvalid("its contours refer to other slices than those in whose planes they lie")
    united = unite(read.closed, read.exclusive, series.geometry)
    if not united.mask.any():
        raise ObjectInvalid("its contours enclose no voxel of the CT")
    return DrawnRoi(mask=united.mask, findings=tuple(_findings(organ, read.odd, united)))


def roi_lines(roi: ClinicalRoi, series: SizedCt) -> tuple[Contour, ...]:
    """The closed contours of an ROI as `read_roi` reads them, to be drawn as lines.

    Parameters
    ----------
    roi : in the frame of reference of the CT, as `read_roi` has found
    series : the CT

    Raises
    ------
    ObjectInvalid
        If the ROI has a fault, or a contour is damaged or lies between slices.
    """
    if roi.fault:
        raise ObjectInvalid(roi.fault)
    read = _read_contours(roi, series)
    return (*read.closed, *read.exclusive)


def _read_contours(roi: ClinicalRoi, series: SizedCt) -> _Reading:
    with without_pydicom_warnings():
        contours = [(_type(item), contour_words(item), tuple(_image_uids(item))) for item in roi.contours]
    words = list(chain.from_iterable(numbers for _, numbers, _ in contours))
    read = _Reading(series, is_comma_proven=proves_decimal_comma(words))
    for kind, numbers, images in contours:
        read.add(kind, numbers, images)
    return read


class SizedCt(SlicedCt, Protocol):
    """A CT of which also the size of the slices is known."""

    @property
    def rows(self) -> int:
        """Rows of a slice."""

    @property
    def columns(self) -> int:
        """Columns of a slice."""


class _Reading:
    """The contours of an ROI as far as they are read, and how many are unusual, by kind."""

    def __init__(self, series: SizedCt, *, is_comma_proven: bool) -> None:
        self._is_comma_proven = is_comma_proven
        self._planes = SlicePlanes(series)
        self._size = np.array([series.columns, series.rows])
        uids = [image.sop_instance_uid for image in series.slices]
        self._slices = {uid: k for k, uid in enumerate(uids)} if len(set(uids)) == len(uids) else {}
        self.closed: list[Contour] = []
        self.exclusive: list[Contour] = []
        self.odd: Counter[str] = Counter()
        self.far: tuple[frozenset[int], ...] = ()

    def add(self, kind: str, words: list[str], images: Sequence[str]) -> None:
        """Read a contour from its type, its numbers and the images it refers to. Raises ObjectInvalid."""
        if kind == _POINT:
            self.odd["point"] += 1
            return
        points = self._points(words)
        if len(points) < _LEAST_POINTS:
            self.odd["short" if len(points) else "empty"] += 1
            return
        self.odd["untyped"] += not kind
        if self._planes.is_beyond(points):
            self.odd["beyond"] += 1
            return
        contour, off_plane_mm = self._planes.locate(points)
        share = off_plane_mm / self._planes.nearest_gap_mm(contour.k)
        if share > _NEAR_SLICE:
            raise ObjectInvalid(self._why_off_plane(images))
        self.odd["near"] += share > _ON_SLICE
        named = {self._slices[uid] for uid in images if uid in self._slices}
        self.odd["elsewhere"] += bool(named) and contour.k not in named
        if named and min(abs(contour.k - k) for k in named) > _FAR_SLICES:
            self.far += (frozenset(named),)
        self.odd["beside"] += bool((contour.points < -1).any() or (contour.points > self._size).any())
        (self.exclusive if kind == _EXCLUSIVE else self.closed).append(contour)

    def _why_off_plane(self, images: Sequence[str]) -> str:
        if self._slices and images and not self._slices.keys() & set(images):
            return "a contour is drawn on an image that is not in this CT: export all images again"
        return "a contour is not in the plane of a slice"

    def _points(self, words: list[str]) -> FloatArray:
        """(N, 3) points in LPS mm, of a contour that repeats all its points only once."""
        while words and not words[-1]:  # a backslash at the end
            words.pop()
        plain = with_decimal_points(words, is_comma_proven=self._is_comma_proven)
        self.odd["comma"] += plain != tuple(words)
        points = points_of(plain)
        half = len(points) // 2
        if half >= _LEAST_POINTS and len(points) == 2 * half:
            again = np.abs(points[:half] - points[half:]).max() < _SAME_POINT_MM
            self.odd["twice"] += bool(again)
            points = points[:half] if again else points
        return points


_SENTENCES: Final = {
    "point": ("POINT", "{n} of its contours are points and were left out"),
    "empty": ("EMPTY", "{n} of its contours have no points"),
    "short": ("SHORT", "{n} of its contours have one or two points and were left out"),
    "untyped": ("UNTYPED", "{n} of its contours state no type and were read as closed"),
    "beyond": (
        "BEYOND",
        "{n} of its contours lie beyond the first or last slice and were left out",
    ),
    "near": ("OFF_PLANE", "{n} of its contours lie beside the plane of a slice and were put on the nearest"),
    "elsewhere": (
        "OTHER_SLICE",
        "{n} of its contours refer to another slice than that in whose plane they lie; the plane counts",
    ),
    "frameless": ("NO_FRAME", "it states no frame of reference; {n} contours refer to images of this CT"),
    "beside": ("BESIDE", "{n} of its contours reach beyond the border of the images and were cut there"),
    "comma": ("DECIMAL_COMMA", "{n} of its contours have decimal commas"),
    "repeated": ("REPEATED", "{n} of its contours are there more than once and count once"),
    "nested": (
        "NESTED",
        "{n} of its contours lie inside others and are filled; they may be meant as holes",
    ),
    "overlapping": ("OVERLAP", "{n} pairs of its contours overlap in part; they were united"),
}
"""By kind of contour: the end of the finding's code, and its sentence."""


def _findings(organ: str, odd: Counter[str], united: UnitedContours) -> Iterator[Finding]:
    counts = odd + Counter(
        repeated=united.repeated + odd["twice"], nested=united.nested, overlapping=united.overlapping
    )
    for kind, (code, sentence) in _SENTENCES.items():
        if counts[kind]:
            yield Finding(
                level=Level.INFO if kind == "short" else Level.WARNING,
                code=f"ROI_CONTOURS_{code}",
                message=f"{organ}: {sentence.format(n=counts[kind])}.",
                organ=organ,
                value=float(counts[kind]),
            )


def _types_fault(roi: ClinicalRoi) -> str:
    """Why an ROI with contours that enclose nothing cannot be used; points beside closed ones do no harm."""
    types = {_type(contour): whole_text(contour, "ContourGeometricType") for contour in roi.contours}
    closed = types.keys() & {"", _CLOSED, _EXCLUSIVE}
    others = sorted(types[kind] for kind in types.keys() - closed - ({_POINT} if closed else set()))
    return f"its contours are not closed but {', '.join(others)}" if others else ""


def _type(contour: Dataset) -> str:
    """Contour Geometric Type in capitals, without blanks and underscores, which some systems misplace."""
    return re.sub(r"[\W_]", "", whole_text(contour, "ContourGeometricType").upper())


def _image_uids(contour: Dataset) -> Iterable[str]:
    for image in _items(contour, "ContourImageSequence"):
        yield from texts(image, "ReferencedSOPInstanceUID")


def _only_frame(dataset: Dataset) -> str:
    """The frame of reference that a structure set states as a whole; empty if it states none or several."""
    items = _items(dataset, "ReferencedFrameOfReferenceSequence")
    frames = {whole_text(item, "FrameOfReferenceUID") for item in (dataset, *items)} - {""}
    return frames.pop() if len(frames) == 1 else ""


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence. Raises ObjectInvalid if they cannot be decoded."""
    try:
        with without_pydicom_warnings():
            return list(dataset.get(keyword) or ())
    except Exception as error:  # pydicom raises many things for damaged bytes
        raise ObjectInvalid(f"{keyword} cannot be decoded.") from error
