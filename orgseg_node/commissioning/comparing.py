"""Compares the structure set that the node made of a scan with the clinical one, organ by organ.

Both are read from their files by the same rules, as for contours that come back: what is measured is what
would have been delivered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from orgseg_node.commissioning.results import OrganResult
from orgseg_node.contouring.label_export import mask_on_grid
from orgseg_node.core.geometry import Grid
from orgseg_node.core.metrics import Comparison, Status, compare, touches_edge
from orgseg_node.core.naming.dictionary import name_dictionary
from orgseg_node.core.naming.matching import match_names
from orgseg_node.core.organs import Organ, OrganTable
from orgseg_node.core.volume import Mask
from orgseg_node.dicom.objects.clinical_rtstruct import ClinicalRoi, clinical_rois, read_roi
from orgseg_node.dicom.objects.structure_set_facts import read_structure_set
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.errors import ObjectInvalid

_AUTOMATIC = "a program made it and nobody approved it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clinical:
    """The clinical contours of a scan.

    Attributes
    ----------
    path : file of the structure set
    approved : whether a person approved it
    automatic : whether ROIs count that a program made, in a structure set that nobody approved
    """

    path: Path
    approved: bool
    automatic: bool


def compare_organs(
    series: CtSeries, clinical: Clinical, made: Path, report: Mapping[str, Any], organs: OrganTable
) -> tuple[dict[str, OrganResult], dict[str, str]]:
    """The results by organ, and why clinical ROIs were not compared, by name.

    Parameters
    ----------
    series : the CT
    clinical : the reference
    made : structure set that the node made
    report : report.json of the node
    organs : the organ table

    Raises
    ------
    InputError, ObjectInvalid
        If a structure set cannot be read.
    """
    drawn = clinical_rois(read_structure_set(clinical.path))
    ours = {roi.name: roi for roi in clinical_rois(read_structure_set(made))}
    looked_for = {str(row["name"]): row for row in report["organs"]}
    names = match_names(
        {name: str(row["key"]) for name, row in looked_for.items()},
        [roi.name for roi in drawn],
        name_dictionary(organs),
    )
    results: dict[str, OrganResult] = {}
    why = {
        roi.name: "several ROIs stand for one organ"
        if index in names.unclear
        else f"{names.meant[index]} is no organ of the models"
        if index in names.meant
        else "its name means no organ for certain"
        for index, roi in enumerate(drawn)
        if index not in set(names.pairs.values())
    }
    for name, index in names.pairs.items():
        roi, row = drawn[index], looked_for[name]
        key = str(row["key"])
        if roi.is_automatic and not clinical.approved and not clinical.automatic:
            why[roi.name] = _AUTOMATIC
            continue
        try:
            reference = mask_on_grid(read_roi(roi, series, key).mask, series)
            prediction = _prediction(ours.get(name), series, key, reference)
        except ObjectInvalid as error:
            why[roi.name] = error.detail
            continue
        found = compare_organ(reference, prediction, series.grid, organs[key])
        results[key] = OrganResult(comparison=found, left_out=bool(row["left_out"]))
    return results, why


def compare_organ(reference: Mask, prediction: Mask, grid: Grid, organ: Organ) -> Comparison:
    """Compare an organ on the slices on which a person would have drawn it.

    Parameters
    ----------
    reference, prediction : (K, J, I) bool
    grid : of the scan
    organ : of the organ table
    """
    known = known_slices(reference, organ, from_feet=grid.axes[0][2] >= 0)
    found = compare(reference[known], prediction[known], grid.spacing_mm, organ.tolerance_mm)
    if found.status is Status.CROPPED_BY_FOV and not touches_edge(reference):
        return replace(found, status=Status.OK)  # only the slices that are compared end there, not the scan
    return found


def _prediction(roi: ClinicalRoi | None, series: CtSeries, key: str, reference: Mask) -> Mask:
    """The voxels of an organ that the node delivered; none if it did not."""
    if roi is None:
        return np.zeros_like(reference)
    return mask_on_grid(read_roi(roi, series, key).mask, series)


def known_slices(reference: Mask, organ: Organ, *, from_feet: bool) -> slice:
    """The slices on which a person would have drawn the organ.

    Where people stop drawing an organ before it ends (``open_end`` of the organ table), nothing is known of
    the slices beyond.

    Parameters
    ----------
    reference : (K, J, I) bool
    organ : of the organ table
    from_feet : whether the slices are in order from feet to head, and not from head to feet
    """
    there = np.flatnonzero(reference.any(axis=(1, 2)))
    open_ends = {"both": {"head", "feet"}}.get(organ.open_end, {organ.open_end})
    first, last = ("feet", "head") if from_feet else ("head", "feet")
    begin = int(there[0]) if there.size and first in open_ends else 0
    end = int(there[-1]) + 1 if there.size and last in open_ends else len(reference)
    return slice(begin, end)
