"""The assessment of the node: pixels, positions, contours in the written RTSTRUCT, and the network's grid.

The reference is never the node's own geometry: planes and HU come from the zoo's writer, contours are read
with pydicom alone and filled with matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.path import Path as Polygon
from pydicom import dcmread
from pydicom.dataset import Dataset

from benchmarks.series_zoo.assessment import Assessment, Outcome, displacement_mm
from orgseg_node.core.contours import trace
from orgseg_node.core.geometry import VoxelGeometry
from orgseg_node.core.organs import Organ
from orgseg_node.core.resample import to_slices
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.objects.provenance import ModelVersion, Provenance
from orgseg_node.dicom.objects.rtstruct import prove, write_rtstruct
from orgseg_node.dicom.reading.reader import PADDING_HU, read_slices, read_volume
from orgseg_node.dicom.reading.series import CtSeries, choose, files_in, survey
from orgseg_node.errors import InputError, OrgsegError, SeveralSeries
from tests.support.ct.zoo import Floats, Key, Mask, Plane, Stack

PLANE_MM = 0.01  # largest distance of a contour from the plane of its slice
POSITION_MM = 0.01  # rounded directions are not exactly perpendicular, and either may be the wrong one
NETWORK_MM = 0.5  # error of the field by interpolation between slices
MAX_OUTSIDE = 0.1  # voxels by which a slice may extend beyond the network's grid
NETWORK_DICE = 0.95  # of the organ through the network's grid and back

_SEVERAL = {SeveralSeries.code, "INPUT_SEVERAL_PARTS"}
_PROVENANCE = Provenance(
    job_id="zoo",
    created=datetime(2026, 1, 1, tzinfo=UTC),
    models=(ModelVersion(name="zoo", version="1", sha256="0" * 64),),
)


class _WrongResult(Exception):
    """The node's result differs from the true series."""

    def __init__(self, note: str, error_mm: float = np.inf) -> None:
        self.note, self.error_mm = note, error_mm
        super().__init__(note)


def assess_node(folder: Path, stacks: Sequence[Stack], label: Organ) -> Assessment:
    """Read a folder as the node does and check the position of every pixel and contour.

    Parameters
    ----------
    folder : the series
    stacks : the true slices of each series or phase
    label : any organ of the table, as which the zoo's organ is contoured

    Returns
    -------
    exact, parts, refused with its code, or wrong with a note
    """
    try:
        return _assess_folder(folder, stacks, label)
    except OrgsegError as error:  # such as a proof that failed: nothing would be sent
        return Assessment(outcome=Outcome.REFUSED, code=error.code, note=error.detail)
    except Exception as error:  # noqa: BLE001  # an error without a code is an outcome of its own
        return Assessment(outcome=Outcome.CRASHED, code=type(error).__name__, note=str(error))


def _assess_folder(folder: Path, stacks: Sequence[Stack], label: Organ) -> Assessment:
    inventory = survey(files_in(folder))
    try:
        chosen, code = [choose(inventory)], ""
    except InputError as error:
        if error.code not in _SEVERAL:
            return Assessment(outcome=Outcome.REFUSED, code=error.code)
        chosen, code = list(inventory.accepted), error.code
    worst, left = 0.0, list(stacks)
    try:
        for series in chosen:
            stack = _stack_of(series, left)
            worst = max(worst, _assess(series, stack, label))
            left.remove(stack)
    except _WrongResult as wrong:
        return Assessment(outcome=Outcome.WRONG, error_mm=wrong.error_mm, note=wrong.note)
    if left:
        return Assessment(outcome=Outcome.INCOMPLETE, code=f"{len(left)} of {len(stacks)} series not read")
    return Assessment(outcome=Outcome.PARTS if code else Outcome.EXACT, code=code, error_mm=worst)


def _keys(series: CtSeries) -> list[Key]:
    return [(one.sop_instance_uid, one.frame) for one in series.slices]


def _stack_of(series: CtSeries, stacks: Sequence[Stack]) -> Stack:
    for stack in stacks:
        if all(stack.plane(key) is not None for key in _keys(series)):
            return stack
    raise _WrongResult("slices of different stacks are mixed, or of none")


def _assess(series: CtSeries, stack: Stack, label: Organ) -> float:
    """The largest displacement in mm, at most `POSITION_MM`; raises if anything is wrong."""
    planes = [plane for plane in map(stack.plane, _keys(series)) if plane is not None]
    if len({id(plane) for plane in planes}) != len(planes):
        raise _WrongResult("one plane is read twice")
    if len(planes) != len(stack.planes):
        raise _WrongResult(f"{len(stack.planes) - len(planes)} slices are left out")
    hu = read_slices(series)
    if hu.shape != (len(planes), *planes[0].hu.shape):
        raise _WrongResult(f"the volume has the shape {hu.shape}")
    worst = 0.0
    for k, plane in enumerate(planes):
        claimed = _points(series.stack, k)
        apart = float(np.linalg.norm(claimed - plane.points_mm, axis=-1).max())
        if apart > POSITION_MM:
            raise _WrongResult(f"pixels of slice {k} are displaced", apart)
        moved = displacement_mm(hu[k], claimed, stack, 0.5 * stack.quantum_hu + 1e-3)
        if not np.allclose(hu[k], plane.hu, rtol=1e-6, atol=1e-3):
            raise _WrongResult(f"HU of slice {k} are not those of the file", moved)
        worst = max(worst, apart, moved)
    _assess_contours(series, stack, planes, label)
    _assess_network(series, stack, planes, label)
    return worst


def _points(geometry: VoxelGeometry, k: int) -> Floats:
    """(J, I, 3) positions of the pixels of a slice according to the node, LPS mm."""
    _, rows, columns = geometry.shape
    j, i = (axis.ravel() for axis in np.indices((rows, columns)))
    return geometry.to_lps(np.stack([np.full(j.size, k), j, i], axis=1)).reshape(rows, columns, 3)


def _assess_contours(series: CtSeries, stack: Stack, planes: Sequence[Plane], label: Organ) -> None:
    """Write the organ as RTSTRUCT, read it with pydicom alone, and compare each contour with its image."""
    drawn = np.array([stack.organ(plane.points_mm) for plane in planes])
    label_map = LabelMap(grid=series.geometry, labels=drawn.astype(np.uint8), organs={1: label})
    dataset = write_rtstruct(trace(label_map), series, _PROVENANCE)
    prove(dataset, label_map, series)
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    if stack.patient_name not in buffer.getvalue():
        raise _WrongResult("the patient's name is not preserved")
    buffer.seek(0)
    found = {id(plane): np.zeros(plane.hu.shape, dtype=np.bool_) for plane in planes}
    for contour in dcmread(buffer).ROIContourSequence[0].ContourSequence:
        plane, points = _located(contour, stack)
        offset = points - plane.position_mm
        off_plane = float(np.abs(offset @ np.cross(plane.row, plane.column)).max())
        if off_plane > PLANE_MM:
            raise _WrongResult("a contour is not in the plane of its slice", off_plane)
        found[id(plane)] ^= _filled(offset, plane)
    for plane, truth in zip(planes, drawn, strict=True):
        different = int((found[id(plane)] ^ truth).sum())
        if different:
            raise _WrongResult(f"{different} pixels of the organ differ", max(plane.spacing_mm))


def _located(contour: Dataset, stack: Stack) -> tuple[Plane, Floats]:
    image = contour.ContourImageSequence[0]
    frame = image.get("ReferencedFrameNumber")
    plane = stack.plane((str(image.ReferencedSOPInstanceUID), None if frame is None else int(frame)))
    if plane is None:
        raise _WrongResult("a contour refers to an image that does not exist")
    return plane, np.array(contour.ContourData, dtype=np.float64).reshape(-1, 3)


def _filled(offset: Floats, plane: Plane) -> Mask:
    """The pixels whose centres a contour encloses."""
    height, width = plane.spacing_mm
    corners = np.stack([offset @ plane.row / width, offset @ plane.column / height], axis=1)
    mask = np.zeros(plane.hu.shape, dtype=np.bool_)
    low = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 1, mask.shape[::-1])
    i, j = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
    inside = Polygon(np.vstack([corners, corners[:1]])).contains_points(
        np.stack([i.ravel(), j.ravel()], axis=1)
    )
    mask[low[1] : high[1], low[0] : high[0]] = inside.reshape(i.shape)
    return mask


def _assess_network(series: CtSeries, stack: Stack, planes: Sequence[Plane], label: Organ) -> None:
    """The network's volume has the right geometry, and its labels return to the slices correctly."""
    volume = read_volume(series)
    if series.is_regular:
        if not np.array_equal(volume.hu, read_slices(series)):
            raise _WrongResult("the network's HU differ from those of the slices")
        return
    corners = np.concatenate(
        [plane.points_mm[:: plane.hu.shape[0] - 1, :: plane.hu.shape[1] - 1] for plane in planes]
    )
    indices = series.grid.to_index(corners.reshape(-1, 3))
    outside = np.maximum(-indices, indices - (np.asarray(series.grid.shape) - 1)).max()
    if outside > MAX_OUTSIDE:
        raise _WrongResult(f"slices reach {outside:.1f} voxels beyond the network's grid")
    labels = np.zeros(volume.hu.shape, dtype=np.uint8)
    errors = []
    for k, hu in enumerate(volume.hu):
        points = _points(series.grid, k)
        labels[k] = stack.organ(points)
        shown = hu != PADDING_HU
        if stack.field is not None and shown.any():
            field = stack.field
            errors.append(np.abs(hu - field.hu(points))[shown] / field.slope(points)[shown])
    # interpolated between slices and mixed with air at the border, so the upper quartile is checked
    typical = float(np.quantile(np.concatenate(errors), 0.75)) if errors else 0.0
    if typical > NETWORK_MM:
        raise _WrongResult("the network's grid is displaced", typical)
    found = to_slices(LabelMap(grid=series.grid, labels=labels, organs={1: label}), series.stack).labels == 1
    truth = np.array([stack.organ(plane.points_mm) for plane in planes])
    dice = 2 * float((found & truth).sum()) / float(found.sum() + truth.sum())
    if dice < NETWORK_DICE:
        raise _WrongResult(
            f"the network's organ on the slices has a Dice of {dice:.3f}", max(planes[0].spacing_mm)
        )
