"""Measures each organ of a structure set that came back against the bytes that were delivered.

Both structure sets are read by the same rules (`dicom.objects.clinical_rtstruct`) on the same slices, so that
contours that came back as they were give the same voxels. The structure set that came back is the reference.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydicom.dataset import Dataset
from scipy.ndimage import distance_transform_edt

from orgseg_node.contouring.label_export import mask_on_grid
from orgseg_node.core.geometry import Box, Vector
from orgseg_node.core.metrics import compare, edited_slices, surface_distances
from orgseg_node.core.naming.dictionary import NameDictionary, name_dictionary
from orgseg_node.core.naming.matching import MatchedNames, match_names
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import Mask
from orgseg_node.dicom.objects.clinical_rtstruct import ClinicalRoi, clinical_rois, read_roi
from orgseg_node.dicom.objects.structure_set_facts import read_structure_set
from orgseg_node.dicom.reading.files import optional_integer, text, whole_text, without_pydicom_warnings
from orgseg_node.dicom.reading.series import CtSeries, survey
from orgseg_node.errors import InputError, ObjectInvalid, OrgsegError, StorageError
from orgseg_node.node.feedback.model import FeedbackState, Measures, OrganFeedback, OrganOutcome

NEAR_TARGET_MM: Final = 10.0
"""So far from the target a surface counts as near it."""

_TOLERANCE_MM: Final = 2.0
_TARGETS: Final = ("PTV", "CTV", "GTV")
_TARGET_NAME: Final = re.compile(r"^(PTV|CTV|GTV)", re.IGNORECASE)
_DIGITS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What is compared.

    Attributes
    ----------
    returned : file of the structure set that came back
    delivered, delivered_sha256 : file that was delivered, and its hash
    images : files of the CT
    content_sha256 : hash of the CT's content when it was contoured
    report : report.json of the job
    """

    returned: Path
    delivered: Path
    delivered_sha256: str
    images: tuple[Path, ...]
    content_sha256: str
    report: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The outcome of a comparison; the state is None if organs were measured.

    Attributes
    ----------
    state, note : why nothing could be compared
    organs : each ROI of either structure set
    """

    state: FeedbackState | None = None
    note: str = ""
    organs: tuple[OrganFeedback, ...] = ()

    @property
    def as_json(self) -> dict[str, Any]:
        """The outcome as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Measured:
        """The outcome from JSON values."""
        state = FeedbackState(values["state"]) if values["state"] else None
        organs = tuple(OrganFeedback(**organ) for organ in values["organs"])
        return cls(state=state, note=values["note"], organs=organs)


def measure(comparison: Comparison, organs: OrganTable) -> Measured:
    """Compare a structure set that came back with what was delivered.

    Parameters
    ----------
    comparison : the files
    organs : the organ table

    Raises
    ------
    InputError
        If the structure set that came back cannot be read.
    """
    returned = read_structure_set(comparison.returned)
    try:
        delivered = clinical_rois(_delivered(comparison))
        series = _series(comparison)
        report = _report(comparison.report)
    except OrgsegError as error:
        return Measured(state=FeedbackState.ORIGINAL_UNREADABLE, note=error.sentence)
    ids = {_patient(returned), _patient(series.header)} - {""}
    if len(ids) > 1:
        return Measured(state=FeedbackState.OTHER_PATIENT)
    rois = clinical_rois(returned)
    if not rois:
        return Measured(state=FeedbackState.EMPTY)
    if all(_is_elsewhere(roi, series) for roi in rois):
        return Measured(state=FeedbackState.OTHER_FRAME)
    work = _Work(series, returned, rois, name_dictionary(organs))
    rows = tuple(work.rows(delivered, report))
    outcomes = {row.outcome for row in rows}
    if outcomes & {OrganOutcome.EDITED, OrganOutcome.UNCHANGED}:
        return Measured(organs=rows)
    is_matched = OrganOutcome.UNUSABLE in outcomes
    return Measured(
        state=FeedbackState.UNUSABLE if is_matched else FeedbackState.NOTHING_MATCHED, organs=rows
    )


class _Work:
    """The comparison of two structure sets on one CT."""

    def __init__(
        self, series: CtSeries, returned: Dataset, rois: Sequence[ClinicalRoi], dictionary: NameDictionary
    ) -> None:
        self._series = series
        self._rois = rois
        self._dictionary = dictionary
        self._near = self._near_target(returned)

    def rows(self, delivered: Sequence[ClinicalRoi], report: Mapping[str, Any]) -> Iterator[OrganFeedback]:
        """A row for each ROI of either structure set."""
        known = {str(organ["name"]): str(organ["key"]) for organ in report.get("organs", ())}
        names = match_names(
            {roi.name: known.get(roi.name, "") for roi in delivered},
            [roi.name for roi in self._rois],
            self._dictionary,
        )
        model = ", ".join(
            f"{one['name']} {one['version']} {one['sha256'][:8]}" for one in report.get("models", ())
        )
        used = set(names.pairs.values())
        for roi in delivered:
            yield self._row(roi, names, model)
        for index, roi in enumerate(self._rois):
            if index not in used:
                yield self._unpaired(index, roi, names, model)

    def _row(self, roi: ClinicalRoi, names: MatchedNames, model: str) -> OrganFeedback:
        """One organ that was delivered."""
        organ, index = names.organs[roi.name], names.pairs.get(roi.name)
        row = OrganFeedback(
            number=0, position=0, roi=roi.name, organ=organ, model=model, outcome=OrganOutcome.DELETED
        )
        if index is None:
            if roi.name in names.several:
                note = "Several ROIs that came back stand for it."
                return replace(row, outcome=OrganOutcome.UNUSABLE, note=note)
            return row
        row = replace(row, roi=self._rois[index].name)
        try:
            after = self._mask(self._rois[index], organ)
            before = self._mask(roi, organ)
        except ObjectInvalid as error:
            return replace(row, outcome=OrganOutcome.UNUSABLE, note=error.detail)
        measures, edited = self._measures(before, after)
        outcome = OrganOutcome.EDITED if edited else OrganOutcome.UNCHANGED
        return replace(row, outcome=outcome, **asdict(measures))

    def _unpaired(self, index: int, roi: ClinicalRoi, names: MatchedNames, model: str) -> OrganFeedback:
        """One ROI that came back and is no organ that was delivered."""
        organ = names.meant.get(index, "")
        outcome = OrganOutcome.ADDED if organ else OrganOutcome.UNMATCHED
        note = "Several ROIs stand for one organ." if index in names.unclear else ""
        return OrganFeedback(
            number=0, position=0, roi=roi.name, organ=organ, outcome=outcome, note=note, model=model
        )

    def _measures(self, before: Mask, after: Mask) -> tuple[Measures, bool]:
        """The measures of an organ, and whether it was edited."""
        box = Box.around(before | after, margin=(1, 1, 1))
        before, after = before[box.slices], after[box.slices]
        spacing_mm = self._spacing_mm
        found = compare(after, before, spacing_mm, _TOLERANCE_MM)
        edits = edited_slices(before, after)
        near = math.nan
        if self._near is not None:
            within = self._near[box.slices]
            near = surface_distances(after, before, spacing_mm, within=within).surface_dice(_TOLERANCE_MM)
        measures = Measures(
            dice=_plain(found.dsc),
            surface_dice_2mm=_plain(found.sdsc_2mm),
            hd95_mm=_plain(found.hd95_mm),
            mean_distance_mm=_plain(found.msd_mm),
            added_path_mm=_plain(found.apl_mm),
            delivered_ml=_plain(found.prediction_ml),
            approved_ml=_plain(found.reference_ml),
            slices_edited=_plain(edits.share),
            near_target_dice=_plain(near),
        )
        return measures, edits.edited > 0

    @property
    def _spacing_mm(self) -> Vector:
        return self._series.grid.spacing_mm

    def _mask(self, roi: ClinicalRoi, organ: str) -> Mask:
        """The voxels of an ROI, on a regular grid. Raises ObjectInvalid."""
        return mask_on_grid(read_roi(roi, self._series, organ).mask, self._series)

    def _near_target(self, returned: Dataset) -> Mask | None:
        """The voxels near the target, if one is drawn that can be read."""
        for name in _target_names(returned, self._rois):
            masks = []
            for roi in self._rois:
                if roi.name in name:
                    try:
                        masks.append(self._mask(roi, roi.name))
                    except ObjectInvalid:
                        continue
            if masks:
                target = np.logical_or.reduce(masks)
                return _grown(target, self._spacing_mm, NEAR_TARGET_MM)
        return None


def _grown(mask: Mask, spacing_mm: Vector, by_mm: float) -> Mask:
    """A mask and all voxels whose centres are within a distance of it."""
    margin = tuple(math.ceil(by_mm / step) for step in spacing_mm)
    box = Box.around(mask, margin=(margin[0], margin[1], margin[2]))
    grown = np.zeros_like(mask)
    grown[box.slices] = distance_transform_edt(~mask[box.slices], sampling=spacing_mm) <= by_mm
    return grown


def _target_names(dataset: Dataset, rois: Sequence[ClinicalRoi]) -> list[set[str]]:
    """Names of the ROIs that are targets: PTVs, then CTVs, then GTVs, by their type or their name."""
    numbers: dict[int, str] = {}
    with without_pydicom_warnings():
        for item in dataset.get("StructureSetROISequence") or ():
            number = optional_integer(item, "ROINumber")
            if number is not None:
                numbers[number] = whole_text(item, "ROIName")
        typed: dict[str, set[str]] = {kind: set() for kind in _TARGETS}
        for item in dataset.get("RTROIObservationsSequence") or ():
            kind = text(item, "RTROIInterpretedType").upper()
            number = optional_integer(item, "ReferencedROINumber")
            if kind in typed and number in numbers:
                typed[kind].add(numbers[number])
    for roi in rois:
        if found := _TARGET_NAME.match(roi.name):
            typed[found[1].upper()].add(roi.name)
    return [typed[kind] for kind in _TARGETS if typed[kind]]


def _is_elsewhere(roi: ClinicalRoi, series: CtSeries) -> bool:
    """Whether an ROI is in another frame of reference than the CT."""
    return bool(roi.frame_uid) and roi.frame_uid != series.frame_of_reference_uid


def _delivered(comparison: Comparison) -> Dataset:
    """The structure set that was delivered. Raises StorageError if the file is another one."""
    try:
        content = comparison.delivered.read_bytes()
    except OSError as error:
        raise StorageError(f"The delivered structure set cannot be read: {error.strerror}.") from error
    if hashlib.sha256(content).hexdigest() != comparison.delivered_sha256:
        raise StorageError("The delivered structure set is not the file that was sent.")
    return read_structure_set(comparison.delivered)


def _series(comparison: Comparison) -> CtSeries:
    """The CT as it was contoured. Raises InputError."""
    inventory = survey(list(comparison.images))
    for one in inventory.accepted:
        if one.has_content(comparison.content_sha256):
            return one
    raise InputError("The files of the CT are not those that were contoured.")


def _report(path: Path) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StorageError(f"The report of the job cannot be read: {type(error).__name__}.") from error
    return found


def _patient(dataset: Dataset) -> str:
    return whole_text(dataset, "PatientID").strip()


def _plain(value: float) -> float:
    """A measure as it is stored: rounded, and -1 if it is not defined."""
    return round(value, _DIGITS) if math.isfinite(value) else -1.0


def reading_note(error: Exception) -> str:
    """Why a file could not be compared, without text of it."""
    return error.sentence if isinstance(error, OrgsegError) else f"{type(error).__name__}."
