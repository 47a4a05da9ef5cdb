"""Whether slices form one volume, how they lie in it, and what is odd about them.

The rules are those of the measured behaviour of scanners and of other readers: slices are ordered by their
place along the normal, never by Instance Number; nothing is averaged, dropped or moved. Where slices do not
lie on a regular grid, each keeps its own place, and a grid is made only for what needs one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.geometry import FloatArray, Grid, SliceStack, Vector
from orgseg_node.core.resample import grid_for
from orgseg_node.dicom.reading.limits import check_size
from orgseg_node.dicom.reading.slices import Orientation, Placed
from orgseg_node.errors import (
    DuplicateSlices,
    IrregularSpacing,
    NotAxial,
    SidewaysDrift,
    TiltedGantry,
    TooFewSlices,
)

ORIENTATION_TOLERANCE = 1e-4
MIN_SLICES = 3
DRIFT_MM = 0.1
SPACING_FRACTION, SPACING_MM = 0.02, 0.05
SAME_PLACE_MM = 0.05

MAX_GAP_MM = 20.0
"""A wider gap that is not the ordinary distance is refused: an organ of 2 cm could lie in it unseen."""

MAX_TILT_DEG = 35.0
"""Gantries tilt by up to 30 degrees."""

MAX_DRIFT_MM = 0.5
"""How far a slice may lie beside where a straight or evenly tilted stack puts it: half a usual pixel."""

_PLACE_FRACTION, _PLACE_MM = 0.05, 0.1
_JITTER_FRACTION = 0.1  # of the slice distance; slices that lie further off have changing distances
_NO_TILT_DEG = 0.2  # less comes from rounded directions, not from a gantry
_TRAVEL = 2  # times what slices lie beside it a tilt must shift them, or it is chance
_AS_WIDE_AGAIN = 1.5
_RUN = 3  # equal wide gaps in a row are another distance, not missing slices
_AXIAL_COSINE, _OBLIQUE_COSINE = 0.9, 0.9998  # 26 and 1 degrees


@dataclass(frozen=True, slots=True, kw_only=True)
class Stacked:
    """Slices in order, and where they are.

    Attributes
    ----------
    slices : along the normal, as ``k`` of the volume runs
    places : where each of them is
    grid : the regular grid a network sees; that of the slices themselves where they are regular
    is_regular : whether the slices lie on the grid
    findings : what should be known about how they lie
    """

    slices: tuple[Placed, ...]
    places: SliceStack
    grid: Grid
    is_regular: bool
    findings: tuple[Finding, ...]


def stack(slices: Sequence[Placed]) -> Stacked:
    """Put slices of one size, direction and frame of reference in order, or refuse them.

    Raises
    ------
    NotAxial, TooFewSlices, DuplicateSlices
        If they are no volume of axial slices.
    SidewaysDrift, TiltedGantry
        If they are shifted sideways in a way that is no gantry tilt, or by more than one.
    IrregularSpacing
        If a gap is wider than `MAX_GAP_MM` and not the ordinary one.
    TooLarge
        If they, or a grid for them, would have more voxels than any CT.
    """
    first = slices[0]
    if not is_axial(first):
        raise NotAxial
    if len(slices) < MIN_SLICES:
        raise TooFewSlices(f"It has {len(slices)}.")
    heights = along(first.image.orientation, slices)
    order = np.argsort(heights, kind="stable")
    ordered = tuple(slices[n] for n in order)
    same = int((np.diff(heights[order]) < SAME_PLACE_MM).sum())
    if same:
        raise DuplicateSlices(f"{same} of {len(slices)} images lie where another one lies.")
    shifts = _shifts(ordered, heights[order])
    spacings, is_even = _spacings(np.diff(heights[order]), heights[order])
    is_regular = is_even and not shifts
    check_size(len(ordered), first.rows, first.columns)
    places = _places(ordered)
    grid = regular_grid(ordered) if is_regular else grid_for(places)
    check_size(*grid.shape)
    findings = (*shifts, *spacings, *_findings(ordered, is_tilted=bool(shifts)))
    return Stacked(slices=ordered, places=places, grid=grid, is_regular=is_regular, findings=findings)


def is_axial(one: Placed) -> bool:
    """Whether a slice is within 26 degrees of the axial plane."""
    return bool(abs(axes(one.image.orientation)[0, 2]) >= _AXIAL_COSINE)


def along(orientation: Orientation, slices: Sequence[Placed]) -> FloatArray:
    """Place of each slice along the normal in mm (PS3.3, C.7.6.2.1.1)."""
    places: FloatArray = np.array([s.image.position_mm for s in slices]) @ axes(orientation)[0]
    return places


def sideways(orientation: Orientation, positions_mm: Sequence[Vector]) -> FloatArray:
    """(K, 2) place of each slice's first pixel along columns and rows in mm."""
    places: FloatArray = np.array(positions_mm) @ axes(orientation)[1:].T
    return places


def axes(orientation: Orientation) -> FloatArray:
    """(3, 3) exact unit vectors along which ``k``, ``j`` and ``i`` grow."""
    row = np.array(orientation[:3]) / np.linalg.norm(orientation[:3])
    normal = np.cross(row, orientation[3:])
    normal /= np.linalg.norm(normal)
    return np.array([normal, np.cross(normal, row), row])


def regular_grid(slices: Sequence[Placed]) -> Grid:
    """The grid of slices in order that lie on one."""
    first = slices[0]
    places = along(first.image.orientation, slices)
    k, j, i = ((float(x), float(y), float(z)) for x, y, z in axes(first.image.orientation))
    return Grid(
        shape=(len(slices), first.rows, first.columns),
        spacing_mm=(float(places[-1] - places[0]) / (len(slices) - 1), *first.pixel_spacing_mm),
        origin_mm=first.image.position_mm,
        axes=(k, j, i),
    )


def _places(slices: Sequence[Placed]) -> SliceStack:
    first = slices[0]
    return SliceStack(
        shape=(len(slices), first.rows, first.columns),
        positions_mm=np.array([s.image.position_mm for s in slices]),
        orientations=np.array([_directions(s.image.orientation) for s in slices]),
        pixel_spacing_mm=first.pixel_spacing_mm,
    )


def _directions(orientation: Orientation) -> FloatArray:
    """(2, 3) directions of row and column, as the header says where it says unit vectors, else made such."""
    pair = np.array(orientation).reshape(2, 3)
    off = np.abs(pair @ pair.T - np.eye(2)).max()
    return pair if off < ORIENTATION_TOLERANCE / 2 else axes(orientation)[[2, 1]]


def _shifts(ordered: Sequence[Placed], heights: FloatArray) -> tuple[Finding, ...]:
    """What is to be said of slices that are shifted sideways; nothing where they are straight."""
    places = sideways(ordered[0].image.orientation, [s.image.position_mm for s in ordered])
    offsets = places - places[0]
    drift = float(np.hypot(*offsets.T).max())
    if drift <= DRIFT_MM:
        return ()
    line = np.stack([heights - heights[0], np.ones_like(heights)], axis=1)
    slope, *_ = np.linalg.lstsq(line, offsets, rcond=None)
    beside = float(np.hypot(*(offsets - line @ slope).T).max())
    tilt = float(np.degrees(np.arctan(np.hypot(*slope[0]))))
    if beside > MAX_DRIFT_MM:
        raise SidewaysDrift(f"They lie up to {beside:.1f} mm beside a straight or evenly tilted stack.")
    if tilt > MAX_TILT_DEG:
        raise TiltedGantry(f"It would be {tilt:.0f} degrees.")
    travel = float(np.hypot(*slope[0])) * float(heights[-1] - heights[0])
    if tilt < _NO_TILT_DEG or travel < _TRAVEL * beside:
        message = f"Slices are shifted sideways by up to {drift:.2f} mm; each keeps its own place."
        return (_warning("SERIES_POSITION_JITTER", message, drift),)
    message = f"The gantry was tilted by {tilt:.1f} degrees; each slice keeps its own place."
    return (_warning("SERIES_GANTRY_TILT", message, tilt),)


def _spacings(gaps: FloatArray, heights: FloatArray) -> tuple[tuple[Finding, ...], bool]:
    """What is to be said of the distances of slices, and whether they are regular."""
    ordinary = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    widest = float(gaps.max())
    if widest > max(MAX_GAP_MM + SPACING_MM, _AS_WIDE_AGAIN * ordinary):
        raise IrregularSpacing(f"The widest is {widest:.1f} mm, the ordinary one {ordinary:.2f} mm.")
    times = np.maximum(np.rint(gaps / ordinary), 1)
    off = np.abs(gaps - times * ordinary)
    wide = (times > 1) & (off <= _JITTER_FRACTION * ordinary * times)
    other_distance = _in_runs(times, wide)
    missing = wide & ~other_distance
    counted = np.concatenate([[0.0], np.cumsum(times)])
    spacing = float(heights[-1] - heights[0]) / counted[-1]
    beside = float(np.abs(heights - heights[0] - spacing * counted).max())
    is_jitter = beside <= _JITTER_FRACTION * spacing
    changes = other_distance | ((off > _JITTER_FRACTION * ordinary) & ~wide & (not is_jitter))
    found = []
    if missing.any():
        count, places = int((times[missing] - 1).sum()), int(missing.sum())
        message = (
            f"Slices are missing, {count} in all; the widest of these gaps ({places}) has "
            f"{gaps[missing].max():.1f} mm. What the network sees there is interpolated."
        )
        found.append(_warning("SERIES_MISSING_SLICES", message, float(count)))
    if changes.any():
        message = (
            f"The distance of slices changes, from {gaps.min():.2f} to {widest:.2f} mm; "
            "each slice keeps its own place."
        )
        found.append(_warning("SERIES_SPACING_CHANGES", message, widest))
    if found:
        return tuple(found), False
    # gaps may all be regular within tolerance and still add up to a drift
    near = beside <= max(_PLACE_FRACTION * spacing, _PLACE_MM)
    if near and (off <= max(SPACING_FRACTION * ordinary, SPACING_MM)).all():
        return (), True
    message = (
        f"Slices lie up to {beside:.2f} mm from where a regular distance puts them; each keeps its own place."
    )
    return (_warning("SERIES_POSITION_JITTER", message, beside),), False


def _in_runs(times: FloatArray, wide: np.typing.NDArray[np.bool_]) -> np.typing.NDArray[np.bool_]:
    """Which wide gaps stand in a row of at least `_RUN` equal ones."""
    found = np.zeros_like(wide)
    start = 0
    for n in range(1, len(times) + 1):
        if n == len(times) or times[n] != times[start]:
            found[start:n] = wide[start:n].all() and n - start >= _RUN
            start = n
    return found


def _warning(code: str, message: str, value: float | None = None) -> Finding:
    return Finding(level=Level.WARNING, code=code, message=message, value=value)


def _findings(ordered: Sequence[Placed], *, is_tilted: bool) -> tuple[Finding, ...]:
    first = ordered[0]
    found: list[Finding] = []

    def warn(code: str, message: str, value: float | None = None) -> None:
        found.append(_warning(code, message, value))

    if not is_tilted and abs(axes(first.image.orientation)[0, 2]) < _OBLIQUE_COSINE:
        warn("SERIES_OBLIQUE", "The slices are not perpendicular to the patient's long axis.")
    if not is_tilted and any(abs(s.tilt_deg) > 0.5 for s in ordered):
        warn(
            "SERIES_TILT_TAG",
            "The header tells of a tilted gantry, the positions do not; the positions are used.",
            max(abs(s.tilt_deg) for s in ordered),
        )
    if any(s.uids_from_meta for s in ordered):
        warn(
            "SERIES_UID_FROM_FILE",
            "SOP UIDs are empty in the images; those of the file meta header are used.",
        )
    if not (first.study_uid and first.series_uid):
        warn(
            "SERIES_UID_STAND_IN",
            "The images carry no Study or Series Instance UID, as after anonymisation; derived ones stand "
            "in, so an archive cannot file the result beside the images.",
        )
    paddings = [
        s.image.padding * s.image.slope + s.image.intercept for s in ordered if s.image.padding is not None
    ]
    if paddings and max(paddings) > -900:
        warn("SERIES_PADDING_IN_TISSUE", "The padding value lies among the HU of tissue.", max(paddings))
    return tuple(found)
