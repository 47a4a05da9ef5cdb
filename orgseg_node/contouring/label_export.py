"""Exporting a label map: on a regular grid, and as NIfTI."""

from __future__ import annotations

import gzip

import nibabel
import numpy as np

from orgseg_node.core.geometry import Grid
from orgseg_node.core.resample import to_slices
from orgseg_node.core.volume import LabelMap, Mask
from orgseg_node.dicom.reading.series import CtSeries

_LABEL_INTENT = 1002  # NIFTI_INTENT_LABEL: viewers draw outlines of label maps only when it is set


def on_grid(label_map: LabelMap, grid: Grid) -> LabelMap:
    """A label map on a regular grid; each voxel gets the label of the nearest slice and pixel.

    Parameters
    ----------
    label_map : on the grid already, or on slices with the rows and columns of the grid
    grid : the regular grid
    """
    place = label_map.grid
    if isinstance(place, Grid):
        return label_map
    labels = np.zeros(grid.shape, dtype=np.uint8)
    first = grid.to_index(place.to_lps([(k, 0, 0) for k in range(place.shape[0])]))
    for k in range(grid.shape[0]):
        nearest = int(np.abs(first[:, 0] - k).argmin())
        top, left = (round(float(v)) for v in first[nearest, 1:])
        here = labels[k, max(top, 0) : top + place.shape[1], max(left, 0) : left + place.shape[2]]
        part = label_map.labels[nearest, max(-top, 0) :, max(-left, 0) :]
        here[...] = part[: here.shape[0], : here.shape[1]]
    return LabelMap(grid=grid, labels=labels, organs=label_map.organs)


def mask_on_grid(mask: Mask, series: CtSeries) -> Mask:
    """The voxels of an ROI on the regular grid of its CT.

    Parameters
    ----------
    mask : (K, J, I) bool on the slices as they were scanned
    series : the CT
    """
    if series.is_regular:
        return mask
    labels = LabelMap(grid=series.geometry, labels=mask.astype(np.uint8), organs={})
    return on_grid(labels, series.grid).labels > 0


def mask_on_slices(mask: Mask, series: CtSeries) -> Mask:
    """A mask on the regular grid of a CT, on its slices as they were scanned.

    Parameters
    ----------
    mask : (K, J, I) bool on the grid
    series : the CT
    """
    if series.is_regular:
        return mask
    labels = LabelMap(grid=series.grid, labels=mask.astype(np.uint8), organs={})
    return to_slices(labels, series.stack).labels > 0


def label_nifti(label_map: LabelMap) -> bytes:
    """The label map as gzip-compressed NIfTI (uint8, RAS affine); the same labels give the same bytes.

    Raises
    ------
    TypeError
        If the label map is not on a regular grid; NIfTI has no other geometry.
    """
    if not isinstance(label_map.grid, Grid):
        raise TypeError("NIfTI holds regular grids only.")
    # nibabel writes in Fortran order: the transposed view is written without a copy
    image = nibabel.Nifti1Image(label_map.labels.transpose(2, 1, 0), label_map.grid.ras_affine)
    image.set_data_dtype(np.uint8)
    image.header.set_intent(_LABEL_INTENT, name="organs")
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)
