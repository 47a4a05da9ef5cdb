"""Checks whether slices form one volume, orders them, and reports irregularities.

Slices are ordered by their position along the normal, never by Instance Number; none is averaged, dropped or
moved. If they are not on a regular grid, each keeps its own position, and a grid is made only for the
network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.geometry import FloatArray, Grid, SliceStack, Vector
from orgseg_node.core.resample import grid_for
from orgseg_node.dicom.reading.files import has_leading_zero
from orgseg_node.dicom.reading.limits import check_size
from orgseg_node.dicom.reading.slices import CtSlice, Orientation, PlacedSlice, signed_or_not
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
MISSING_SLICES = "SERIES_MISSING_SLICES"
PARALLEL = 0.985  # cosine of 10 degrees: a localizer or reformat is turned by more
SAME_POSITION_MM = 0.05

MAX_GAP_MM = 20.0
"""A wider gap that is not the usual slice distance is refused: it could hide an organ of 2 cm."""

MAX_TILT_DEG = 35.0
"""Gantries tilt by up to 30 degrees."""

MAX_DRIFT_MM = 0.5
"""How far a slice may deviate in-plane from a straight or evenly tilted stack: half a usual pixel."""

_DEVIATION_FRACTION, _DEVIATION_MM = 0.05, 0.1
_JITTER_FRACTION = 0.1  # of the slice distance; with larger deviations the slice distance changes
_NO_TILT_DEG = 0.2  # smaller angles come from rounded orientations, not from a gantry
_TRAVEL = 2  # a tilt must shift the slices by this many times their deviation from it, or it is chance
_AS_WIDE_AGAIN = 1.5
_THICK = 0.75  # a slice with less than this fraction of the slice distance leaves gaps
_RUN = 3  # this many equal wide gaps in a row are another slice distance, not missing slices
_HIGHEST_TISSUE = 4000.0  # HU of dense bone and metal end below
_AXIAL_COSINE, _OBLIQUE_COSINE = 0.9, 0.9998  # 26 and 1 degrees


@dataclass(frozen=True, slots=True, kw_only=True)
class Stacked:
    """Ordered slices and their geometry.

    Attributes
    ----------
    slices : in order along the normal, as index ``k`` of the volume
    slice_stack : position and orientation of each slice
    grid : the regular grid that is given to a network; that of the slices themselves if they are regular
    is_regular : whether the slices are on the planes of the grid
    findings : irregularities of the geometry
    """

    slices: tuple[PlacedSlice, ...]
    slice_stack: SliceStack
    grid: Grid
    is_regular: bool
    findings: tuple[Finding, ...]


def stack(slices: Sequence[PlacedSlice]) -> Stacked:
    """Order slices of one size, orientation and frame of reference, or refuse them.

    Raises
    ------
    NotAxial, TooFewSlices, DuplicateSlices
        If they do not form a volume of axial slices.
    SidewaysDrift, TiltedGantry
        If they are shifted in-plane in a way that is no gantry tilt, or by more than one.
    IrregularSpacing
        If a gap is wider than `MAX_GAP_MM` and not the usual slice distance.
    TooLarge
        If they, or a grid for them, have more voxels than any CT.
    """
    first = slices[0]
    if not is_axial(first):
        raise NotAxial
    if len(slices) < MIN_SLICES:
        raise TooFewSlices(f"It has {len(slices)}.")
    heights = normal_positions(first.image.orientation, slices)
    order = np.argsort(heights, kind="stable")
    ordered = tuple(slices[n] for n in order)
    same = int((np.diff(heights[order]) < SAME_POSITION_MM).sum())
    if same:
        raise DuplicateSlices(f"{same} of {len(slices)} images are at the position of another one.")
    shifts = _shifts(ordered, heights[order])
    spacings, is_even = _spacings(np.diff(heights[order]), heights[order])
    thin = () if spacings else _thin_findings(ordered)
    is_regular = is_even and not shifts
    check_size(len(ordered), first.rows, first.columns)
    slice_stack = _slice_stack(ordered)
    grid = regular_grid(ordered) if is_regular else grid_for(slice_stack)
    check_size(*grid.shape)
    findings = (*shifts, *spacings, *thin, *_findings(ordered, is_tilted=bool(shifts)))
    return Stacked(
        slices=ordered, slice_stack=slice_stack, grid=grid, is_regular=is_regular, findings=findings
    )


def is_axial(one: PlacedSlice) -> bool:
    """Whether a slice is within 26 degrees of the axial plane."""
    return bool(abs(slice_axes(one.image.orientation)[0, 2]) >= _AXIAL_COSINE)


def normal_positions(orientation: Orientation, slices: Sequence[PlacedSlice]) -> FloatArray:
    """(K,) position of each slice along the normal in mm (PS3.3, C.7.6.2.1.1)."""
    places: FloatArray = np.array([s.image.position_mm for s in slices]) @ slice_axes(orientation)[0]
    return places


def in_plane_positions(orientation: Orientation, positions_mm: Sequence[Vector]) -> FloatArray:
    """(K, 2) position of the first pixel of each slice along columns and rows in mm."""
    places: FloatArray = np.array(positions_mm) @ slice_axes(orientation)[1:].T
    return places


def slice_axes(orientation: Orientation) -> FloatArray:
    """(3, 3) exact unit vectors along which ``k``, ``j`` and ``i`` grow."""
    row = np.array(orientation[:3]) / np.linalg.norm(orientation[:3])
    normal = np.cross(row, orientation[3:])
    normal /= np.linalg.norm(normal)
    return np.array([normal, np.cross(normal, row), row])


def regular_grid(slices: Sequence[PlacedSlice]) -> Grid:
    """The grid of ordered slices that are regular."""
    first = slices[0]
    places = normal_positions(first.image.orientation, slices)
    k, j, i = ((float(x), float(y), float(z)) for x, y, z in slice_axes(first.image.orientation))
    return Grid(
        shape=(len(slices), first.rows, first.columns),
        spacing_mm=(float(places[-1] - places[0]) / (len(slices) - 1), *first.pixel_spacing_mm),
        origin_mm=first.image.position_mm,
        axes=(k, j, i),
    )


def _slice_stack(slices: Sequence[PlacedSlice]) -> SliceStack:
    first = slices[0]
    return SliceStack(
        shape=(len(slices), first.rows, first.columns),
        positions_mm=np.array([s.image.position_mm for s in slices]),
        orientations=np.array([_directions(s.image.orientation) for s in slices]),
        pixel_spacing_mm=first.pixel_spacing_mm,
    )


def _directions(orientation: Orientation) -> FloatArray:
    """(2, 3) unit vectors of row and column direction: those of the header, or normalised if necessary."""
    pair = np.array(orientation).reshape(2, 3)
    off = np.abs(pair @ pair.T - np.eye(2)).max()
    return pair if off < ORIENTATION_TOLERANCE / 2 else slice_axes(orientation)[[2, 1]]


def _shifts(ordered: Sequence[PlacedSlice], heights: FloatArray) -> tuple[Finding, ...]:
    """Findings on slices that are shifted in-plane; none if they are straight."""
    places = in_plane_positions(ordered[0].image.orientation, [s.image.position_mm for s in ordered])
    offsets = places - places[0]
    drift = float(np.hypot(*offsets.T).max())
    if drift <= DRIFT_MM:
        return ()
    line = np.stack([heights - heights[0], np.ones_like(heights)], axis=1)
    slope, *_ = np.linalg.lstsq(line, offsets, rcond=None)
    deviation = float(np.hypot(*(offsets - line @ slope).T).max())
    tilt = float(np.degrees(np.arctan(np.hypot(*slope[0]))))
    if deviation > MAX_DRIFT_MM:
        raise SidewaysDrift(
            f"They deviate by up to {deviation:.1f} mm from a straight or evenly tilted stack."
        )
    if tilt > MAX_TILT_DEG:
        raise TiltedGantry(f"It would be {tilt:.0f} degrees.")
    travel = float(np.hypot(*slope[0])) * float(heights[-1] - heights[0])
    if tilt < _NO_TILT_DEG or travel < _TRAVEL * deviation:
        message = f"Slices are shifted sideways by up to {drift:.2f} mm; each keeps its own position."
        return (_warning("SERIES_POSITION_JITTER", message, drift),)
    message = f"The gantry was tilted by {tilt:.1f} degrees; each slice keeps its own position."
    return (_warning("SERIES_GANTRY_TILT", message, tilt),)


def _spacings(gaps: FloatArray, heights: FloatArray) -> tuple[tuple[Finding, ...], bool]:
    """Findings on the slice distances, and whether they are regular."""
    ordinary = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    widest = float(gaps.max())
    if widest > max(MAX_GAP_MM + SPACING_MM, _AS_WIDE_AGAIN * ordinary):
        raise IrregularSpacing(f"The widest is {widest:.1f} mm, the usual distance {ordinary:.2f} mm.")
    times = np.maximum(np.rint(gaps / ordinary), 1)
    off = np.abs(gaps - times * ordinary)
    wide = (times > 1) & (off <= _JITTER_FRACTION * ordinary * times)
    other_distance = _in_runs(times, wide)
    missing = wide & ~other_distance
    counted = np.concatenate([[0.0], np.cumsum(times)])
    spacing = float(heights[-1] - heights[0]) / counted[-1]
    deviation = float(np.abs(heights - heights[0] - spacing * counted).max())
    is_jitter = deviation <= _JITTER_FRACTION * spacing
    changes = other_distance | ((off > _JITTER_FRACTION * ordinary) & ~wide & (not is_jitter))
    found = []
    if missing.any():
        count, places = int((times[missing] - 1).sum()), int(missing.sum())
        at = int(np.argmax(np.where(missing, gaps, 0)))
        message = (
            f"Slices are missing, {count} in all; the widest of these gaps ({places}) has {gaps[at]:.1f} mm, "
            f"from position {heights[at]:.1f} to {heights[at + 1]:.1f} mm. The network gets interpolated "
            "values there."
        )
        found.append(_warning(MISSING_SLICES, message, float(count)))
    if changes.any():
        message = (
            f"The distance of slices changes, from {gaps.min():.2f} to {widest:.2f} mm; "
            "each slice keeps its own position."
        )
        found.append(_warning("SERIES_SPACING_CHANGES", message, widest))
    if found:
        return tuple(found), False
    # single gaps may be regular within the tolerance and still add up to a drift
    near = deviation <= max(_DEVIATION_FRACTION * spacing, _DEVIATION_MM)
    if near and (off <= max(SPACING_FRACTION * ordinary, SPACING_MM)).all():
        return (), True
    message = (
        f"Slices deviate by up to {deviation:.2f} mm from a regular distance; each keeps its own position."
    )
    return (_warning("SERIES_POSITION_JITTER", message, deviation),), False


def thickness_and_distance(slices: Sequence[PlacedSlice]) -> tuple[float, float] | None:
    """The usual thickness of slices in any order, and their usual distance, in mm.

    None if most headers do not state the thickness, or if there are not two slices.
    """
    thick = [one.thickness_mm for one in slices if one.thickness_mm is not None]
    if 2 * len(thick) < len(slices) or len(slices) < 2:
        return None
    heights = np.sort(normal_positions(slices[0].image.orientation, slices))
    return float(np.median(thick)), float(np.median(np.diff(heights)))


def leave_gaps(slices: Sequence[PlacedSlice], *, unknown: bool) -> bool:
    """Whether the slices of a volume are thinner than their distance.

    Parameters
    ----------
    slices : of the volume, in any order
    unknown : the answer if the headers do not state the thickness
    """
    measured = thickness_and_distance(slices)
    return unknown if measured is None else measured[0] < _THICK * measured[1]


def _thin_findings(ordered: Sequence[PlacedSlice]) -> tuple[Finding, ...]:
    """A finding on slices that are much thinner than their distance, as if others were missing."""
    measured = thickness_and_distance(ordered)
    if measured is None or not leave_gaps(ordered, unknown=False):
        return ()
    thickness, distance = measured
    message = (
        f"The slices are {thickness:.2f} mm thick and {distance:.2f} mm apart: nothing is known of what lies "
        "between them, and if this was not planned, others are missing."
    )
    return (_warning("SERIES_SLICES_LEAVE_GAPS", message, distance),)


def _in_runs(times: FloatArray, wide: np.typing.NDArray[np.bool_]) -> np.typing.NDArray[np.bool_]:
    """Which wide gaps belong to a sequence of at least `_RUN` equal ones."""
    found = np.zeros_like(wide)
    start = 0
    for n in range(1, len(times) + 1):
        if n == len(times) or times[n] != times[start]:
            found[start:n] = wide[start:n].all() and n - start >= _RUN
            start = n
    return found


def _warning(code: str, message: str, value: float | None = None) -> Finding:
    return Finding(level=Level.WARNING, code=code, message=message, value=value)


def _findings(ordered: Sequence[PlacedSlice], *, is_tilted: bool) -> tuple[Finding, ...]:
    first = ordered[0]
    found: list[Finding] = []

    def warn(code: str, message: str, value: float | None = None) -> None:
        found.append(_warning(code, message, value))

    if not is_tilted and abs(slice_axes(first.image.orientation)[0, 2]) < _OBLIQUE_COSINE:
        warn("SERIES_OBLIQUE", "The slices are not perpendicular to the patient's long axis.")
    if not is_tilted and any(abs(s.tilt_deg) > 0.5 for s in ordered):
        warn(
            "SERIES_TILT_TAG",
            "The header states a tilted gantry, the positions do not; the positions are used.",
            max(abs(s.tilt_deg) for s in ordered),
        )
    if any(s.uids_from_meta for s in ordered):
        warn(
            "SERIES_UID_FROM_FILE",
            "SOP UIDs are empty in the images; those of the file meta information are used.",
        )
    if not (first.study_uid and first.series_uid):
        warn(
            "SERIES_UID_STAND_IN",
            "The images have no Study or Series Instance UID, as after anonymisation; derived UIDs are used, "
            "so an archive cannot store the result with the images.",
        )
    uids = {
        uid for s in ordered for uid in (s.study_uid, s.series_uid, s.frame_uid, s.image.sop_instance_uid)
    }
    if any(map(has_leading_zero, uids)):
        warn(
            "SERIES_UID_LEADING_ZERO",
            "UIDs of the images have components with leading zeros, which DICOM forbids; objects refer to "
            "them as they are, and a strict archive may refuse these.",
        )
    if any(s.is_unspecified for s in ordered):
        warn(
            "SERIES_RESCALE_UNSPECIFIED",
            "Rescale Type is US (unspecified); the values are taken for Hounsfield units.",
        )
    paddings = [
        hu for s in ordered if (hu := padding_hu(s.image)) is not None and -900 < hu < _HIGHEST_TISSUE
    ]
    if paddings:
        warn("SERIES_PADDING_IN_TISSUE", "The padding value is within the HU range of tissue.", max(paddings))
    return (*found, *_number_findings(ordered))


def _number_findings(ordered: Sequence[PlacedSlice]) -> Iterator[Finding]:
    """Findings on numbers that are not written as DICOM requires."""
    commas = sorted({name for s in ordered for name in s.decimal_commas})
    if commas:
        message = (
            "Numbers are written with commas, which DICOM forbids; where they are used they are read as "
            f"decimal commas: {', '.join(commas)}."
        )
        yield _warning("SERIES_DECIMAL_COMMA", message)
    unreadable = sorted({name for s in ordered for name in s.unreadable})
    if unreadable:
        message = f"These cannot be read and are not needed: {', '.join(unreadable)}."
        yield _warning("SERIES_ATTRIBUTES_IGNORED", message)


def padding_hu(image: CtSlice) -> float | None:
    """Pixel Padding Value in HU, read as a stored value whatever its VR; None if there is none."""
    if image.padding is None:
        return None
    return signed_or_not(image.padding, image) * image.slope + image.intercept
