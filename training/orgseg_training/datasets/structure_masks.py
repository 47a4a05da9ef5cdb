"""Contours of an RT Structure Set as voxels, by the node's own reader and rasteriser."""

from __future__ import annotations

from pydicom.dataset import Dataset

from orgseg_node.core.rasterise import rasterise
from orgseg_node.dicom.objects.rtstruct_reader import read_rtstruct
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_training.datasets.case import Mask


def masks_by_name(dataset: Dataset, series: CtSeries) -> dict[str, Mask]:
    """The voxels that the closed contours of each ROI enclose, on the slices of its CT as scanned.

    Parameters
    ----------
    dataset : RT Structure Set of any system
    series : the CT it was drawn on

    Returns
    -------
    (K, J, I) mask by ROI name; one without closed contours is empty

    Raises
    ------
    ObjectInvalid
        If it does not belong to the CT, is damaged, or two ROIs have one name.
    """
    contours = read_rtstruct(dataset, series)
    return {name: rasterise(found, series.geometry) for name, found in contours.items()}
