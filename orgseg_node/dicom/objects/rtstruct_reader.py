"""Reads RT Structure Sets, and proves that a written one equals the computed label map.

Only the dataset is used, nothing from writing. The slice of a contour is determined from its coordinates; its
references are checked in the proof.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Protocol

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from orgseg_node.core.geometry import FloatArray
from orgseg_node.core.rasterise import Contour, IndexArray, crossings, label_crossings, mask_crossings
from orgseg_node.core.regions import Region
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.objects.contour_data import contour_points
from orgseg_node.dicom.objects.contour_rules import ImageKeys, image_keys
from orgseg_node.dicom.reading.files import whole_text
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.dicom.reading.slices import CtSlice
from orgseg_node.dicom.tps.tps_names import names_for
from orgseg_node.dicom.tps.tps_profile import GENERIC, EmptyRois, TpsProfile
from orgseg_node.errors import ObjectInvalid, ProofFailed

_CLOSED = {"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"}  # PS3.3 C.8.8.6.3; the other types enclose no area
_DS = 16
_OFF_PLANE = 0.1  # of the slice distance: how far contours of other systems may be off their slice
_PROOF_OFF_PLANE_MM = 0.01
_SAME_POSITION_MM = 0.01


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Outline:
    """A contour as read: its slice and points, its references, and its longest number."""

    contour: Contour
    off_plane_mm: float
    images: ImageKeys
    longest_number: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Roi:
    name: str
    outlines: tuple[_Outline, ...]


class SlicedCt(Protocol):
    """Whatever says where its slices are: a CT series, or the table of its slices."""

    @property
    def slices(self) -> tuple[CtSlice, ...]:
        """In order along the normal."""

    @property
    def pixel_spacing_mm(self) -> tuple[float, float]:
        """Row spacing, column spacing."""


class SlicePlanes:
    """The planes of the slices, to convert points in LPS mm to slice, row and column.

    Parameters
    ----------
    series : the CT
    """

    def __init__(self, series: SlicedCt) -> None:
        self._places = np.array([ct_slice.position_mm for ct_slice in series.slices])
        axes = np.array([ct_slice.orientation for ct_slice in series.slices]).reshape(-1, 2, 3)
        self._normals = np.cross(axes[:, 0], axes[:, 1])
        # Solved, not projected: correct also where the axes of a real header are not quite perpendicular.
        self._to_index = np.linalg.pinv(axes) / np.asarray(series.pixel_spacing_mm)[::-1]
        self._heights = self._places @ self._normals.mean(axis=0)
        self._gaps = np.abs(np.diff(self._heights))
        self.gap_mm = float(np.median(self._gaps))

    def nearest_gap_mm(self, k: int) -> float:
        """Distance of a slice from the nearer of its neighbours."""
        return float(self._gaps[max(0, k - 1) : k + 1].min())

    def is_beyond(self, points_mm: FloatArray) -> bool:
        """Whether (N, 3) points in LPS mm lie more than half a distance beyond the first or last slice."""
        height = float((points_mm @ self._normals.mean(axis=0)).mean())
        low, high = sorted((self._heights[0], self._heights[-1]))
        return bool(height < low - self._gaps[0] / 2 or height > high + self._gaps[-1] / 2)

    def locate(self, points_mm: FloatArray) -> tuple[Contour, float]:
        """A contour from (N, 3) points in LPS mm, and their largest distance from its slice in mm."""
        centre = points_mm.mean(axis=0)
        k = int(np.argmin(np.abs(np.einsum("kd,kd->k", centre - self._places, self._normals))))
        offsets = points_mm - self._places[k]
        contour = Contour(k=k, points=offsets @ self._to_index[k])
        return contour, float(np.abs(offsets @ self._normals[k]).max())


def read_rtstruct(dataset: Dataset, series: CtSeries) -> dict[str, tuple[Contour, ...]]:
    """The closed contours of an RT Structure Set in index coordinates of its CT.

    For structure sets of the node; see `dicom.objects.clinical_rtstruct` for those of other systems. Points
    and open contours are left out. A contour is assigned to the slice in whose plane it is, whatever
    it refers to: some systems write references to images that do not exist.

    Parameters
    ----------
    dataset : RT Structure Set
    series : the CT

    Returns
    -------
    contours by ROI name; holes follow the even-odd rule of `core.rasterise`

    Raises
    ------
    ObjectInvalid
        If it is no structure set in the frame of reference of this CT, two ROIs have one name, contour data
        are damaged, or a contour is further than a tenth of the slice distance from every slice.
    """
    found: dict[str, tuple[Contour, ...]] = {}
    planes = SlicePlanes(series)
    tolerance = _OFF_PLANE * planes.gap_mm
    for roi in _rois(dataset, series, planes):
        if roi.name in found:
            raise ObjectInvalid("Two ROIs have the same name.")
        if any(outline.off_plane_mm > tolerance for outline in roi.outlines):
            raise ObjectInvalid("A contour is not in the plane of a slice.")
        found[roi.name] = tuple(outline.contour for outline in roi.outlines)
    return found


def prove(
    dataset: Dataset,
    label_map: LabelMap,
    series: CtSeries,
    regions: Sequence[Region] = (),
    profile: TpsProfile = GENERIC,
) -> None:
    """Prove that an RT Structure Set, saved and read again, equals the label map in every voxel.

    The contours of each organ and region are rasterised at the pixel centres and compared. They must also be
    in the plane of the slice that they refer to, have at least three distinct points and at most 16
    characters per number. For every kind of holes, a voxel is inside if it is inside an odd number of
    contours.

    Parameters
    ----------
    dataset : the result of `write_rtstruct`
    label_map : the expected organs, on the slices of the CT
    series : the CT of both
    regions : the expected regions
    profile : the planning system of the dataset, which determines names and empty ROIs

    Raises
    ------
    ProofFailed
        With the names of the organs that differ, are missing or should not be there.
    """
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    check_same_grid(label_map, series)
    try:
        rois = list(_rois(dcmread(buffer), series, SlicePlanes(series)))
    except ObjectInvalid as error:
        raise ProofFailed(error.detail) from error
    wanted = _wanted(label_map, regions, profile)
    names = [roi.name for roi in rois]
    wrong = (wanted.keys() ^ set(names)) | {name for name in names if names.count(name) > 1}
    for roi in rois:
        contours = [outline.contour for outline in roi.outlines]
        is_same = np.array_equal(crossings(contours, label_map.grid.shape), wanted.get(roi.name, ()))
        if not (is_same and all(_is_sound(outline, series) for outline in roi.outlines)):
            wrong.add(roi.name)
    if wrong:
        raise ProofFailed(f"RTSTRUCT differs in: {', '.join(sorted(wrong))}.")


def _wanted(label_map: LabelMap, regions: Sequence[Region], profile: TpsProfile) -> dict[str, IndexArray]:
    """The expected crossings (see `core.rasterise.crossings`) of each ROI, by its expected name."""
    organs = [*label_map.organs.values(), *(region.organ for region in regions)]
    try:
        names = names_for(sorted(organs, key=lambda organ: organ.key), profile)
    except ObjectInvalid as error:
        raise ProofFailed(error.detail) from error
    nothing = np.empty(0, dtype=np.int64)
    keeps_empty = profile.empty_rois is EmptyRois.KEEP
    flips = {names[organ.key]: nothing for organ in organs} if keeps_empty else {}
    for label, voxels in label_crossings(label_map.labels).items():
        organ = label_map.organs.get(label)
        flips[names[organ.key] if organ else f"label {label}"] = voxels
    for region in regions:
        voxels = mask_crossings(region.mask, region.box.start, label_map.grid.shape)
        if voxels.size:
            flips[names[region.organ.key]] = voxels
    return flips


def check_same_grid(label_map: LabelMap, series: CtSeries) -> None:
    """Refuse a label map that is not on the voxels of the CT, slice by slice.

    Raises
    ------
    ProofFailed
        If the shapes differ or a corner of a slice is more than 0.01 mm away.
    """
    ours, theirs = label_map.grid, series.geometry
    if ours.shape != theirs.shape:
        raise ProofFailed("The label map is not on the voxels of the CT.")
    count_k, count_j, count_i = theirs.shape
    places = np.meshgrid(np.arange(count_k), (0, count_j - 1), (0, count_i - 1), indexing="ij")
    corners = np.stack(places, axis=-1).reshape(-1, 3)
    if np.linalg.norm(ours.to_lps(corners) - theirs.to_lps(corners), axis=1).max() > _SAME_POSITION_MM:
        raise ProofFailed("The label map is not on the voxels of the CT.")


def _is_sound(outline: _Outline, series: CtSeries) -> bool:
    contour = outline.contour
    ct_slice = series.slices[contour.k]
    return (
        outline.off_plane_mm <= _PROOF_OFF_PLANE_MM
        and outline.images == {(ct_slice.sop_instance_uid, ct_slice.frame or 0)}
        and outline.longest_number <= _DS
        and len(np.unique(contour.points, axis=0)) >= 3
    )


def _rois(dataset: Dataset, series: CtSeries, planes: SlicePlanes) -> Iterator[_Roi]:
    names: dict[int, str] = {}
    for roi in dataset.get("StructureSetROISequence") or []:
        if roi.get("ReferencedFrameOfReferenceUID") != series.frame_of_reference_uid:
            raise ObjectInvalid("An ROI is in another frame of reference than the CT.")
        names[_number(roi, "ROINumber")] = whole_text(roi, "ROIName")
    if not names:
        raise ObjectInvalid("There is no ROI, or this is not an RT Structure Set.")
    for roi_contour in dataset.get("ROIContourSequence") or []:
        number = _number(roi_contour, "ReferencedROINumber")
        if number not in names:
            raise ObjectInvalid("Contours refer to an ROI that does not exist, or twice to the same ROI.")
        outlines = tuple(
            _outline(item, planes)
            for item in roi_contour.get("ContourSequence") or []
            if item.get("ContourGeometricType") in _CLOSED
        )
        yield _Roi(name=names.pop(number), outlines=outlines)
    for name in names.values():
        yield _Roi(name=name, outlines=())


def _number(item: Dataset, keyword: str) -> int:
    try:
        return int(item[keyword].value)
    except (KeyError, TypeError, ValueError):
        raise ObjectInvalid(f"{keyword} is missing or not a number.") from None


def _outline(item: Dataset, planes: SlicePlanes) -> _Outline:
    points, longest = contour_points(item)
    contour, off_plane_mm = planes.locate(points)
    images = item.get("ContourImageSequence") or []
    keys: ImageKeys = set().union(*(image_keys(image) for image in images))
    return _Outline(contour=contour, off_plane_mm=off_plane_mm, images=keys, longest_number=longest)
