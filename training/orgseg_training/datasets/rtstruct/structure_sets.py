"""RT Structure Sets in a folder of DICOM, and the CT series on which each was drawn.

The contours decide: they refer to images (Contour Image Sequence), whatever series the structure set lists.
Only if they refer to none that is here, the listed series count, and only if none is listed the frame of
reference of the same patient.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from orgseg_node.dicom.objects.clinical_rtstruct import (
    ClinicalRoi,
    clinical_rois,
    is_approved,
    is_own,
    is_rejected,
)
from orgseg_node.dicom.objects.contour_data import contour_words
from orgseg_node.dicom.reading.files import open_header, texts, whole_text, without_pydicom_warnings
from orgseg_node.dicom.reading.series import CtSeries, Inventory, Reason
from orgseg_node.errors import OrgsegError
from orgseg_training.errors import scan_error

_RTSTRUCT: Final = "1.2.840.10008.5.1.4.1.1.481.3"  # RT Structure Set Storage, PS3.4 B.5
_DATE_DIGITS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureSet:
    """A structure set and what it refers to.

    Attributes
    ----------
    path : its file
    uid : SOP Instance UID
    label : Structure Set Label
    written : Structure Set Date and Time, or those of the series or of the instance, as ``YYYYMMDDHHMMSS``;
        empty if it states no date
    patient : Patient ID
    listed_together : UIDs of the series that it lists, for each frame of reference
    images : SOP Instance UIDs of the images that its contours refer to
    frames : UIDs of its frames of reference
    approved : whether a person approved it
    automatic : whether a program made all of it and nobody approved it
    rejected : whether a person rejected it
    """

    path: Path
    uid: str
    label: str
    written: str
    patient: str
    listed_together: tuple[frozenset[str], ...]
    images: frozenset[str]
    frames: frozenset[str]
    approved: bool
    automatic: bool
    rejected: bool = False

    @property
    def listed(self) -> frozenset[str]:
        """UIDs of all series that it lists."""
        return frozenset().union(*self.listed_together)

    def rivals(self, series_uid: str) -> int:
        """Number of series that it lists together with this one, in the same frame of reference."""
        return max((len(uids) - 1 for uids in self.listed_together if series_uid in uids), default=0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Link:
    """A structure set of a CT.

    Attributes
    ----------
    structures : the structure set
    images : SOP Instance UIDs of the other CTs on which it was drawn too
    by_images : whether its contours refer to images of this CT
    by_frame : whether only frame of reference and patient connect them
    rivals : number of series that it may belong to as well, here or not, without saying to which
    """

    structures: StructureSet
    images: frozenset[str]
    by_images: bool
    by_frame: bool
    rivals: int = 0


def find_structure_sets(inventory: Inventory) -> tuple[list[StructureSet], list[tuple[Path, OrgsegError]]]:
    """The structure sets among the files that are no CT, and files that cannot be read, with the reason."""
    found: list[StructureSet] = []
    damaged: list[tuple[Path, OrgsegError]] = []
    for item in inventory.aside:
        if item.reason is not Reason.OTHER_OBJECT:
            continue
        try:
            dataset, _ = open_header(item.path)
            if whole_text(dataset, "SOPClassUID") == _RTSTRUCT:
                found.append(_structure_set(item.path, dataset))
        except Exception as error:  # noqa: BLE001  # one odd object must not hide the others
            damaged.append((item.path, scan_error(error)))
    return found, damaged


def is_untrusted(roi: ClinicalRoi, dataset: Dataset) -> bool:
    """Whether a program made an ROI and nobody approved its structure set."""
    return not is_approved(dataset) and (roi.is_automatic or is_own(dataset))


def links_of(
    structure_sets: Iterable[StructureSet], series: Sequence[CtSeries], *, any_export: bool = False
) -> tuple[dict[int, list[Link]], list[StructureSet]]:
    """The structure sets of each CT, by its place in the sequence, and those that belong to none.

    Parameters
    ----------
    structure_sets : all that were found
    series : all CT series and parts of series that can be used
    any_export : whether a structure set that refers only to a series that is not here belongs to the CT of
        the same patient in its frame of reference: another export of that series
    """
    uids = [frozenset(image.sop_instance_uid for image in one.slices) for one in series]
    links: defaultdict[int, list[Link]] = defaultdict(list)
    alone = []
    for one in structure_sets:
        drawn = [n for n, known in enumerate(uids) if known & one.images]
        listed = [] if drawn else _stated(one, series)
        in_frame = [] if drawn or listed or not any_export else places_in_frame(one, series)
        places = drawn or listed or in_frame
        if not places:
            alone.append(one)
        for n in places:
            link = Link(
                structures=one,
                images=frozenset().union(*(uids[m] - uids[n] for m in drawn if m != n)),
                by_images=bool(drawn),
                by_frame=bool(in_frame) or (not drawn and not one.listed),
                rivals=0 if drawn else max(len(places) - 1, one.rivals(series[n].series_instance_uid)),
            )
            links[n].append(link)
    return links, alone


def _structure_set(path: Path, dataset: Dataset) -> StructureSet:
    with without_pydicom_warnings():
        rois = clinical_rois(dataset)
        frames = list(dataset.get("ReferencedFrameOfReferenceSequence") or [])
        listed_together = tuple(
            frozenset(
                uid
                for study in frame.get("RTReferencedStudySequence") or []
                for series in study.get("RTReferencedSeriesSequence") or []
                for uid in texts(series, "SeriesInstanceUID")
            )
            for frame in frames
        )
        stated = {whole_text(item, "FrameOfReferenceUID") for item in (dataset, *frames)}
    return StructureSet(
        path=path,
        uid=whole_text(dataset, "SOPInstanceUID"),
        label=whole_text(dataset, "StructureSetLabel"),
        written=_written(dataset),
        patient=whole_text(dataset, "PatientID"),
        listed_together=listed_together,
        images=frozenset().union(*(roi.images for roi in rois)),
        frames=frozenset({*stated, *(roi.frame_uid for roi in rois)} - {""}),
        approved=is_approved(dataset),
        automatic=bool(rois) and all(is_untrusted(roi, dataset) for roi in rois),
        rejected=is_rejected(dataset),
    )


def contours_hash(one: StructureSet) -> str:
    """Hash of the names and contours of all ROIs of a structure set. Raises InputError."""
    dataset, _ = open_header(one.path)
    summed = hashlib.sha256()
    with without_pydicom_warnings():
        for roi in sorted(clinical_rois(dataset), key=lambda roi: roi.name):
            summed.update(roi.name.encode())
            for contour in roi.contours:
                summed.update("\\".join(contour_words(contour)).encode() + b"\0")
    return summed.hexdigest()


def _written(dataset: Dataset) -> str:
    """The first date that it states, with the time that belongs to it."""
    for kind in ("StructureSet", "Series", "InstanceCreation", "Study"):
        date = (texts(dataset, f"{kind}Date") or ("",))[0].strip()
        if len(date) == _DATE_DIGITS and date.isdecimal():
            time = (texts(dataset, f"{kind}Time") or ("",))[0].strip().partition(".")[0]
            return date + (time if time.isdecimal() else "").ljust(6, "0")
    return ""


def _stated(one: StructureSet, series: Sequence[CtSeries]) -> list[int]:
    """Places of the series that a structure set lists, or if it lists none, of those in its frame."""
    if one.listed:
        return [n for n, known in enumerate(series) if known.series_instance_uid in one.listed]
    return places_in_frame(one, series)


def places_in_frame(one: StructureSet, series: Sequence[CtSeries]) -> list[int]:
    """Places of the series of the same patient in the frame of reference of a structure set."""
    return [
        n
        for n, known in enumerate(series)
        if known.frame_of_reference_uid in one.frames and _is_of(one.patient, known)
    ]


def _is_of(patient: str, series: CtSeries) -> bool:
    return bool(patient) and patient == whole_text(series.header, "PatientID")
