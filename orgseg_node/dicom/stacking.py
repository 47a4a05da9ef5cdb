"""Whether the slices of a series form one regular volume, and if not, what is wrong with them.

The rules are those of the measured behaviour of scanners and of other readers: slices are ordered by their
place along the normal, never by Instance Number; nothing is averaged, dropped, moved or interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.geometry import FloatArray, Grid
from orgseg_node.dicom.slices import Orientation, Placed
from orgseg_node.errors import (
    DuplicateSlices,
    InvalidAttribute,
    IrregularSpacing,
    MissingSlices,
    MixedGeometry,
    NonSquarePixels,
    NotAxial,
    SeveralPatients,
    TiltedGantry,
    TooFewSlices,
)

ORIENTATION_TOLERANCE = 1e-4
MIN_SLICES = 3
DRIFT_MM = 0.1
SPACING_FRACTION, SPACING_MM = 0.02, 0.05
_PLACE_FRACTION, _PLACE_MM = 0.05, 0.1
_SAME_PLACE_MM = 0.05
_SQUARE = 1e-3
_AXIAL_COSINE, _OBLIQUE_COSINE = 0.9, 0.9998  # 26 and 1 degrees


def stack(slices: Sequence[Placed]) -> tuple[tuple[Placed, ...], tuple[Finding, ...]]:
    """Put the slices of one series in order, or refuse them.

    Returns
    -------
    the slices along the normal, as ``k`` of the volume runs, and what should be known about them

    Raises
    ------
    InputError
        The class that names what is wrong; see the errors of this module's imports.
    """
    _same_series(slices)
    first = slices[0]
    _axial(first)
    if len(slices) < MIN_SLICES:
        raise TooFewSlices(f"It has {len(slices)}.")
    places = along(first.orientation, slices)
    order = np.argsort(places, kind="stable")
    ordered = tuple(slices[n] for n in order)
    places = places[order]
    _no_duplicates(ordered, places)
    _no_tilt(ordered)
    _no_gaps(np.diff(places))
    _on_grid(places)
    return ordered, _findings(ordered)


def along(orientation: Orientation, slices: Sequence[Placed]) -> FloatArray:
    """Place of each slice along the normal in mm (PS3.3, C.7.6.2.1.1)."""
    places: FloatArray = np.array([s.image.position_mm for s in slices]) @ axes(orientation)[0]
    return places


def axes(orientation: Orientation) -> FloatArray:
    """(3, 3) exact unit vectors along which ``k``, ``j`` and ``i`` grow."""
    row = np.array(orientation[:3]) / np.linalg.norm(orientation[:3])
    normal = np.cross(row, orientation[3:])
    normal /= np.linalg.norm(normal)
    return np.array([normal, np.cross(normal, row), row])


def regular_grid(slices: Sequence[Placed]) -> Grid:
    """The grid of slices that `stack` put in order."""
    first = slices[0]
    places = along(first.orientation, slices)
    k, j, i = ((float(x), float(y), float(z)) for x, y, z in axes(first.orientation))
    return Grid(
        shape=(len(slices), first.rows, first.columns),
        spacing_mm=(float(places[-1] - places[0]) / (len(slices) - 1), *first.pixel_spacing_mm),
        origin_mm=first.image.position_mm,
        axes=(k, j, i),
    )


def _same_series(slices: Sequence[Placed]) -> None:
    first = slices[0]
    if len({s.patient for s in slices}) > 1:
        raise SeveralPatients("They share one series.")
    if len({s.study_uid for s in slices}) > 1:
        raise InvalidAttribute("The slices of one series name different studies.")
    groups = {(s.frame_uid, s.rows, s.columns) for s in slices}
    if len(groups) > 1:
        raise MixedGeometry("Frame of reference or size differ.")
    spread = np.ptp([s.orientation for s in slices], axis=0).max()
    if spread > ORIENTATION_TOLERANCE:
        raise MixedGeometry("Orientations differ.")
    if np.ptp([s.pixel_spacing_mm for s in slices], axis=0).max() > ORIENTATION_TOLERANCE:
        raise MixedGeometry("Pixel spacings differ.")
    if len({s.patient_position for s in slices}) > 1:
        raise MixedGeometry("Patient positions differ.")
    row_mm, column_mm = first.pixel_spacing_mm
    if abs(row_mm - column_mm) > _SQUARE * min(row_mm, column_mm):
        raise NonSquarePixels(f"They measure {row_mm:g} x {column_mm:g} mm.")


def _axial(first: Placed) -> None:
    if abs(axes(first.orientation)[0, 2]) < _AXIAL_COSINE:
        raise NotAxial


def _no_duplicates(ordered: Sequence[Placed], places: FloatArray) -> None:
    same = int((np.diff(places) < _SAME_PLACE_MM).sum())
    if same:
        raise DuplicateSlices(f"{same} of {len(places)} slices lie where another one lies.")
    if len({s.image.sop_instance_uid for s in ordered}) < len(ordered):
        raise DuplicateSlices("Slices at different positions carry the same SOP Instance UID.")


def _no_tilt(ordered: Sequence[Placed]) -> None:
    positions = np.array([s.image.position_mm for s in ordered])
    _, column, row = axes(ordered[0].orientation)
    offsets = positions - positions[0]
    drift = float(np.hypot(offsets @ column, offsets @ row).max())
    if drift > DRIFT_MM:
        raise TiltedGantry(f"They are shifted sideways by up to {drift:.1f} mm.")


def _no_gaps(gaps: FloatArray) -> None:
    ordinary = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    allowed = max(SPACING_FRACTION * ordinary, SPACING_MM)
    times = np.rint(gaps / ordinary)
    off = np.abs(gaps - times * ordinary)
    wide = times > 1
    if (off > allowed * np.maximum(times, 1)).any() or (times < 1).any() or 2 * wide.sum() > len(gaps):
        raise IrregularSpacing(f"It lies between {gaps.min():.2f} and {gaps.max():.2f} mm.")
    if wide.any():
        raise MissingSlices(f"{int((times - 1).sum())} missing in {int(wide.sum())} gaps.")


def _on_grid(places: FloatArray) -> None:
    # gaps may all be regular within tolerance and still add up to a drift
    spacing = (places[-1] - places[0]) / (len(places) - 1)
    off = float(np.abs(places - places[0] - spacing * np.arange(len(places))).max())
    if off > max(_PLACE_FRACTION * spacing, _PLACE_MM):
        raise IrregularSpacing(f"Slices lie up to {off:.2f} mm from where a regular distance puts them.")


def _findings(ordered: Sequence[Placed]) -> tuple[Finding, ...]:
    first = ordered[0]
    found: list[Finding] = []

    def warn(code: str, message: str, value: float | None = None) -> None:
        found.append(Finding(level=Level.WARNING, code=code, message=message, value=value))

    if abs(axes(first.orientation)[0, 2]) < _OBLIQUE_COSINE:
        warn("SERIES_OBLIQUE", "The slices are not perpendicular to the patient's long axis.")
    if any(abs(s.tilt_deg) > 0.5 for s in ordered):
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
