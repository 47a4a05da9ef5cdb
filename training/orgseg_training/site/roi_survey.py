"""The ROIs of an archive by name: in how many patients, how large, and where they lie."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from orgseg_node.core.geometry import FloatArray
from orgseg_node.dicom.objects.clinical_rtstruct import clinical_rois, empty_rois
from orgseg_node.dicom.objects.contour_data import contour_points
from orgseg_node.dicom.reading.files import (
    open_header,
    optional_integer,
    text,
    whole_text,
    without_pydicom_warnings,
)
from orgseg_node.errors import OrgsegError
from orgseg_training.datasets.rtstruct.structure_sets import StructureSet

MIDDLE_MM: Final = 8.0
"""Centres nearer than this to the middle of the patient are on neither side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRoi:
    """One ROI with contours.

    Attributes
    ----------
    name : as written in the file
    patient : Patient ID
    type : RT ROI Interpreted Type
    volume_ml : from the areas of its contours, without regard to holes
    left_mm : how far its centre lies to the left of the middle of the patient; None if it has no readable
        contours
    """

    name: str
    patient: str
    type: str
    volume_ml: float
    left_mm: float | None


@dataclass(slots=True, kw_only=True)
class NameSurvey:
    """All ROIs of a name.

    Attributes
    ----------
    name : of the ROIs
    rois : with contours
    empty : number of ROIs without contours
    """

    name: str
    rois: list[SeenRoi] = field(default_factory=list)
    empty: int = 0

    @property
    def patients(self) -> int:
        """Number of patients with contours of this name."""
        return len({roi.patient for roi in self.rois})

    @property
    def volume_ml(self) -> float:
        """The median volume."""
        return float(np.median([roi.volume_ml for roi in self.rois])) if self.rois else 0.0

    @property
    def types(self) -> frozenset[str]:
        """Interpreted types of the ROIs."""
        return frozenset(roi.type for roi in self.rois)

    def on_side(self) -> dict[str, int]:
        """Number of ROIs whose centre lies to the left, to the right and in the middle."""
        counts = {"left": 0, "right": 0, "middle": 0}
        for roi in self.rois:
            if roi.left_mm is not None:
                side = "middle" if abs(roi.left_mm) < MIDDLE_MM else "left" if roi.left_mm > 0 else "right"
                counts[side] += 1
        return counts

    @property
    def place(self) -> str:
        """Where the ROIs lie, in words."""
        seen = {side: count for side, count in self.on_side().items() if count}
        if len(seen) == 1:
            return next(iter(seen))
        return ", ".join(f"{side} in {count}" for side, count in seen.items())


def survey_names(structure_sets: Iterable[StructureSet]) -> list[NameSurvey]:
    """All ROI names, those of most patients first."""
    found: dict[str, NameSurvey] = {}
    for one in structure_sets:
        for name, roi in _rois_of(one):
            survey = found.setdefault(name, NameSurvey(name=name))
            if roi is None:
                survey.empty += 1
            else:
                survey.rois.append(roi)
    return sorted(found.values(), key=lambda one: (-one.patients, one.name.casefold()))


def _rois_of(one: StructureSet) -> Iterator[tuple[str, SeenRoi | None]]:
    """Name and contours of every ROI of a structure set."""
    dataset, _ = open_header(one.path)
    with without_pydicom_warnings():
        types = _types(dataset)
        drawn = list(clinical_rois(dataset))
        measured = [_measured(roi.contours) for roi in drawn]
        empty = empty_rois(dataset)
    external = [
        centre for roi, (_, centre) in zip(drawn, measured, strict=True) if types.get(roi.name) == "EXTERNAL"
    ]
    centres = external or [centre for _, centre in measured]
    known = [centre for centre in centres if centre is not None]
    middle = float(np.mean(known)) if known else 0.0
    for roi, (volume, centre) in zip(drawn, measured, strict=True):
        yield (
            roi.name,
            SeenRoi(
                name=roi.name,
                patient=one.patient,
                type=types.get(roi.name, ""),
                volume_ml=volume,
                left_mm=None if centre is None else centre - middle,
            ),
        )
    yield from ((name, None) for name in empty)


def _types(dataset: Dataset) -> dict[str, str]:
    """The interpreted type by ROI name; none if their list is damaged, which costs nothing else."""
    try:
        return dict(_read_types(dataset))
    except Exception:  # noqa: BLE001  # pydicom raises many things for damaged bytes
        return {}


def _read_types(dataset: Dataset) -> Iterator[tuple[str, str]]:
    names = {
        optional_integer(item, "ROINumber"): whole_text(item, "ROIName")
        for item in dataset.get("StructureSetROISequence") or ()
    }
    observations = dataset.get("RTROIObservationsSequence") or ()
    numbered = ((optional_integer(item, "ReferencedROINumber"), item) for item in observations)
    for number, item in numbered:
        if number in names:
            yield names[number], text(item, "RTROIInterpretedType").upper()


def _measured(contours: Iterable[Dataset]) -> tuple[float, float | None]:
    """Volume in ml, and x in mm of the centre, from the areas of contours in parallel planes."""
    areas: defaultdict[float, float] = defaultdict(float)
    moment = 0.0
    for item in contours:
        try:
            points, _ = contour_points(item)
        except OrgsegError:
            continue
        if len(points) < 3:
            continue
        area = abs(_signed_area(points))
        areas[round(float(points[0, 2]), 1)] += area
        moment += area * float(points[:, 0].mean())
    total = sum(areas.values())
    if total <= 0:
        return 0.0, None
    gaps = sorted(second - first for first, second in pairwise(sorted(areas)))
    distance = gaps[len(gaps) // 2] if gaps else 0.0
    return total * distance / 1000, moment / total


def _signed_area(points: FloatArray) -> float:
    x, y = points[:, 0], points[:, 1]
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
