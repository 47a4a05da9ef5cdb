"""The rules of contours in an RT Structure Set (PS3.3 C.8.8.6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from pydicom.dataset import Dataset

from orgseg_node.core.contours import Holes
from orgseg_node.core.geometry import FloatArray
from orgseg_node.dicom.objects.contour_data import contour_bytes, contour_points
from orgseg_node.dicom.reading.files import whole_text
from orgseg_node.dicom.tps.tps_profile import TpsProfile
from orgseg_node.errors import ObjectInvalid

ImageKeys = set[tuple[str, int]]
"""SOP Instance UIDs with frame numbers, 0 for a single-frame image."""

_PLANAR_MM = 0.01  # how far a point may be off the plane of its contour
_AREA_MM2 = 1e-6  # a contour with less area is a line


def image_keys(image: Dataset) -> ImageKeys:
    """The image or frames that an item of a Contour Image Sequence refers to."""
    frames = image.get("ReferencedFrameNumber")
    uid = whole_text(image, "ReferencedSOPInstanceUID")
    if frames is None:
        return {(uid, 0)}
    return {(uid, int(frame)) for frame in (frames if image["ReferencedFrameNumber"].VM > 1 else [frames])}


def broken_contours(contours: Sequence[Dataset], listed: ImageKeys, profile: TpsProfile) -> Iterator[str]:
    """One sentence for each rule that the contours of one ROI break, or limit that they exceed.

    Parameters
    ----------
    contours : the items of the ROI's Contour Sequence
    listed : the images that the structure set references
    profile : the planning system
    """
    kinds = {whole_text(contour, "ContourGeometricType") for contour in contours}
    allowed = {"CLOSED_PLANAR"} | ({"CLOSEDPLANAR_XOR"} if profile.holes is Holes.XOR else set())
    if kinds - allowed:
        yield f"contours of a type that {profile.name} may not accept"
    if len(kinds) > 1:
        yield "CLOSEDPLANAR_XOR contours together with contours of another type"
    for number, contour in enumerate(contours, start=1):
        images = contour.get("ContourImageSequence") or []
        if len(images) != 1 or not image_keys(images[0]) <= listed:
            yield f"contour {number} does not refer to one image that is listed"
        try:
            points, longest = contour_points(contour)
        except ObjectInvalid as error:
            yield f"contour {number}: {error.detail}"
            continue
        if contour.get("NumberOfContourPoints") != len(points):
            yield f"contour {number}: NumberOfContourPoints is wrong"
        yield from _beyond_limits(number, contour, points, longest, profile)


def _beyond_limits(
    number: int, contour: Dataset, points: FloatArray, longest: int, profile: TpsProfile
) -> Iterator[str]:
    if longest > profile.max_ds:
        yield f"contour {number} has a number of {longest} characters, more than {profile.max_ds}"
    size = contour_bytes(contour)
    if size > profile.max_contour_bytes:
        yield f"contour {number} has {size} bytes, more than {profile.max_contour_bytes}"
    if not profile.min_points <= len(points) <= profile.max_points:
        yield f"contour {number} has {len(points)} points, not {profile.min_points} to {profile.max_points}"
    elif _is_line(points):
        yield f"contour {number} encloses nothing"
    elif _off_plane_mm(points) > _PLANAR_MM:
        yield f"contour {number} is not planar"


def _normal(points: FloatArray) -> FloatArray:
    """Twice the area that the polygon encloses, as a vector along its normal (Newell's method)."""
    centred = points - points[0]
    normal: FloatArray = np.cross(centred, np.roll(centred, -1, axis=0)).sum(axis=0)
    return normal


def _is_line(points: FloatArray) -> bool:
    return bool(np.linalg.norm(_normal(points)) < 2 * _AREA_MM2)


def _off_plane_mm(points: FloatArray) -> float:
    if np.ptp(points[:, 2]) == 0:
        return 0.0  # axial, as most are
    normal = _normal(points)
    heights = (points - points.mean(axis=0)) @ (normal / np.linalg.norm(normal))
    return float(np.abs(heights).max())
