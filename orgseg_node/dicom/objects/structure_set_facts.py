"""What a structure set of another system is and refers to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage

from orgseg_node.dicom.objects.clinical_rtstruct import clinical_rois, is_approved, is_own
from orgseg_node.dicom.objects.contour_data import contour_words
from orgseg_node.dicom.reading.files import open_header, text, texts, whole_text, without_pydicom_warnings
from orgseg_node.errors import NotStructures

_MOST_IMAGES: Final = 20_000
_PERSONS: Final = ("ReviewerName", "OperatorsName")


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureSetFacts:
    """What a structure set says of itself; no contours.

    Attributes
    ----------
    sop_uid : its SOP Instance UID
    own : whether the node wrote it
    approved : whether a person approved it, or its label says so
    person : the reviewer, or the operator; empty if it names none
    written : date and time as digits; empty if it has none
    series, images : UIDs of the CT series and of the images that it refers to
    frames : Frame of Reference UIDs of its ROIs with contours
    predecessors : SOP Instance UIDs of structure sets that it says it comes from
    contours_sha256 : hash of names and contours of its ROIs
    rois : number of ROIs with contours
    """

    sop_uid: str
    own: bool
    approved: bool
    person: str
    written: str
    series: tuple[str, ...]
    images: tuple[str, ...]
    frames: tuple[str, ...]
    predecessors: tuple[str, ...]
    contours_sha256: str
    rois: int

    @property
    def as_json(self) -> dict[str, Any]:
        """The facts as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> StructureSetFacts:
        """The facts from JSON values."""
        tuples = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**{**values, **tuples})


def read_structure_set(path: Path) -> Dataset:
    """A structure set.

    Raises
    ------
    InputError
        If the file cannot be read, or is none.
    """
    dataset, _ = open_header(path)
    if text(dataset, "SOPClassUID") != RTStructureSetStorage:
        raise NotStructures
    return dataset


def structure_set_facts(dataset: Dataset, approved_label: str = "") -> StructureSetFacts:
    """What a structure set says of itself.

    Parameters
    ----------
    dataset : RT Structure Set
    approved_label : regular expression; one with such a label counts as approved. Empty for none

    Raises
    ------
    ObjectInvalid
        If its sequences cannot be decoded.
    """
    rois = clinical_rois(dataset)
    summed = hashlib.sha256()
    images: set[str] = set()
    for roi in sorted(rois, key=lambda one: one.name):
        images |= roi.images
        summed.update(roi.name.encode() + b"\0")
        for contour in roi.contours:
            summed.update("\\".join(contour_words(contour)).encode() + b"\0")
    label = whole_text(dataset, "StructureSetLabel")
    listed = set(_listed(dataset))
    images |= {image for _, image in listed if image}
    return StructureSetFacts(
        sop_uid=text(dataset, "SOPInstanceUID"),
        own=is_own(dataset),
        approved=is_approved(dataset) or bool(approved_label and re.search(approved_label, label)),
        person=next(filter(None, (whole_text(dataset, name).strip("^ ") for name in _PERSONS)), ""),
        written=_written(dataset),
        series=tuple(sorted({series for series, _ in listed if series})),
        images=tuple(sorted(images))[:_MOST_IMAGES],
        frames=tuple(sorted({roi.frame_uid for roi in rois if roi.frame_uid})),
        predecessors=tuple(sorted(set(_predecessors(dataset)))),
        contours_sha256=summed.hexdigest(),
        rois=len(rois),
    )


def _listed(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Each series that is listed with each of its images, and each series alone."""
    for frame in _items(dataset, "ReferencedFrameOfReferenceSequence"):
        for study in _items(frame, "RTReferencedStudySequence"):
            for series in _items(study, "RTReferencedSeriesSequence"):
                uid = text(series, "SeriesInstanceUID")
                yield uid, ""
                for image in _items(series, "ContourImageSequence"):
                    yield from ((uid, one) for one in texts(image, "ReferencedSOPInstanceUID"))


def _predecessors(dataset: Dataset) -> Iterator[str]:
    """What it says that it was made from (PS3.3 C.8.8.5: Predecessor Structure Set Sequence)."""
    for keyword in ("PredecessorStructureSetSequence", "ReferencedInstanceSequence"):
        for item in _items(dataset, keyword):
            yield from texts(item, "ReferencedSOPInstanceUID")


def _written(dataset: Dataset) -> str:
    """The first date that it states, with the time that belongs to it: 14 digits and fractions."""
    for kind in ("Approval", "Review", "StructureSet", "InstanceCreation"):
        date = re.sub(r"\D", "", text(dataset, f"{kind}Date"))
        if len(date) == 8:
            time = re.sub(r"[^\d.]", "", text(dataset, f"{kind}Time"))
            return date + time.ljust(6, "0")[:13]
    return ""


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    with without_pydicom_warnings():
        try:
            return list(dataset.get(keyword) or ())
        except Exception:  # noqa: BLE001  # what cannot be decoded refers to nothing
            return []
