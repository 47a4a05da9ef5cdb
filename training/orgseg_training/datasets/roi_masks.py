"""Contours of an RTSTRUCT as masks on the CT, by the node's own reader and rasteriser."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from orgseg_node.core.rasterise import Contour, rasterise
from orgseg_node.core.resample import resample_hu_to_grid
from orgseg_node.core.volume import Mask
from orgseg_node.dicom.objects.rtstruct_reader import read_rtstruct
from orgseg_node.dicom.reading.files import texts, without_pydicom_warnings
from orgseg_node.dicom.reading.reader import read_volume
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.errors import ObjectInvalid
from orgseg_node.inference.orientation import reorientation_to
from orgseg_training.datasets.adapter_base import make_contents
from orgseg_training.datasets.case import Contents
from orgseg_training.datasets.organ_names import OrganNames
from orgseg_training.errors import CaseRejected

_CLOSED: Final = {"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"}
_INSIDE: Final = 1000.0  # between slices a mask is interpolated like a CT, with a threshold at half of this


def drawn_rois(dataset: Dataset, names: OrganNames) -> tuple[dict[str, int], tuple[str, ...]]:
    """The ROI of each organ, and the names that mean no organ.

    Parameters
    ----------
    dataset : RT Structure Set
    names : organs by name

    Returns
    -------
    ROI number by key of the organ table, for ROIs with contours; names of the other ROIs with contours

    Raises
    ------
    CaseRejected
        If two ROIs with contours mean one organ, or the object is damaged.
    """
    rois: dict[str, int] = {}
    unused = []
    try:
        filled = {
            int(item.ReferencedROINumber)
            for item in dataset.get("ROIContourSequence") or []
            if any(c.get("ContourGeometricType") in _CLOSED for c in item.get("ContourSequence") or [])
        }
        named = [
            (int(item.ROINumber), " ".join(texts(item, "ROIName")))
            for item in dataset.get("StructureSetROISequence") or []
        ]
    except (AttributeError, TypeError, ValueError) as error:
        raise CaseRejected("The RTSTRUCT has ROIs without number.") from error
    for number, name in named:
        if number not in filled:
            continue
        organ = names.organ(name)
        if organ is None:
            unused.append(name)
        elif organ in rois:
            raise CaseRejected(f"Two ROIs of the RTSTRUCT mean {organ}.")
        else:
            rois[organ] = number
    return rois, tuple(sorted(unused))


def read_contents(key: str, series: CtSeries, path: Path, rois: Mapping[str, int]) -> Contents:
    """The voxels of a CT and of some ROIs, reoriented so that k, j, i increase with z, y, x in LPS.

    Parameters
    ----------
    key : identifier of the scan
    series : the CT
    path : of the RTSTRUCT
    rois : ROI number by key of the organ table

    Raises
    ------
    CaseRejected
        If contours have another frame of reference, are on no slice, or enclose no voxel.
    AnatomyContradicted
        If organs are at impossible positions.
    InputError
        If the CT cannot be read.
    """
    with without_pydicom_warnings():
        dataset = dcmread(path)
    try:
        contours = read_rtstruct(_reduced(dataset, rois), series)
    except ObjectInvalid as error:
        raise CaseRejected(f"{key}: {error.detail}") from error
    masks = {organ: _mask(contours[organ], series) for organ in sorted(rois)}
    empty = sorted(organ for organ, mask in masks.items() if not mask.any())
    if empty:
        raise CaseRejected(f"{key}: the contours of {', '.join(empty)} enclose no voxel of the CT.")
    volume = read_volume(series)
    reorientation = reorientation_to(volume.grid)
    return make_contents(
        key,
        reorientation.apply_to_volume(volume),
        {organ: reorientation.apply(mask) for organ, mask in masks.items()},
    )


def _reduced(dataset: Dataset, rois: Mapping[str, int]) -> Dataset:
    """A structure set of these ROIs only, named by organ, so that errors in other ROIs do not matter."""
    organs = {number: organ for organ, number in rois.items()}
    kept = Dataset()
    kept.StructureSetROISequence = [r for r in dataset.StructureSetROISequence if int(r.ROINumber) in organs]
    kept.ROIContourSequence = [r for r in dataset.ROIContourSequence if int(r.ReferencedROINumber) in organs]
    for roi in kept.StructureSetROISequence:
        roi.ROIName = organs[int(roi.ROINumber)]
    return kept


def _mask(contours: tuple[Contour, ...], series: CtSeries) -> Mask:
    mask = rasterise(contours, series.geometry)
    if series.is_regular:
        return mask
    values = resample_hu_to_grid(mask.astype(np.float32) * np.float32(_INSIDE), series.stack, series.grid)
    inside: Mask = values > _INSIDE / 2
    return inside
