"""A CT series described for people, as a dictionary and as a table of slices; without patient data."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from orgseg_node.core.checks import Finding
from orgseg_node.core.geometry import FloatArray
from orgseg_node.dicom.reading.files import slice_thickness, uid_name, whole_text
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.dicom.reading.stacking import DRIFT_MM, MISSING_SLICES, SPACING_FRACTION, SPACING_MM

_TILT = "SERIES_GANTRY_TILT"


def describe(series: CtSeries) -> dict[str, Any]:
    """The geometry, equipment and findings of a series, as they are shown and printed as JSON."""
    header, geometry = series.header, series.geometry
    corners = geometry.to_lps([(0, 0, 0), tuple(n - 1 for n in geometry.shape)])
    gaps = np.diff(series.stack.heights_mm)
    return {
        "slices": len(series.slices),
        "rows": series.rows,
        "columns": series.columns,
        "pixel_spacing_mm": list(series.pixel_spacing_mm),
        "slice_spacing_mm": round(_ordinary(gaps) if not series.is_regular else series.grid.spacing_mm[0], 4),
        "narrowest_gap_mm": round(float(gaps.min()), 4),
        "widest_gap_mm": round(float(gaps.max()), 4),
        "missing_slices": int(_value(series.findings, MISSING_SLICES)),
        "tilt_deg": round(_value(series.findings, _TILT), 2),
        "is_regular": series.is_regular,
        "grid_shape": list(series.grid.shape),
        "grid_spacing_mm": [round(step, 4) for step in series.grid.spacing_mm],
        "slice_thickness_mm": whole_text(header, "SliceThickness")
        if slice_thickness(header) is not None
        else "",
        "first_slice_z_mm": round(float(series.slices[0].position_mm[2]), 3),
        "last_slice_z_mm": round(float(series.slices[-1].position_mm[2]), 3),
        "extent_mm": [[round(float(v), 2) for v in corner] for corner in corners],
        "orientation": list(series.orientation),
        "patient_position": series.patient_position,
        "transfer_syntaxes": sorted({uid_name(s.transfer_syntax_uid) for s in series.slices}),
        "manufacturer": whole_text(header, "Manufacturer"),
        "model": whole_text(header, "ManufacturerModelName"),
        "kvp": whole_text(header, "KVP"),
        "series_instance_uid": series.series_instance_uid,
        "part": series.part,
        "frame_of_reference_uid": series.frame_of_reference_uid,
        "findings": [{"level": str(f.level), "code": f.code, "message": f.message} for f in series.findings],
    }


def slice_table(series: CtSeries) -> list[dict[str, Any]]:
    """One row for each slice, in order along the normal.

    Returns
    -------
    for each slice: ``slice`` (from 1), ``instance`` and ``frame`` numbers, ``height_mm`` along the normal
    from the first slice on, ``gap_mm`` to the previous one, ``sideways_mm`` (along rows, along columns) from
    the first slice, ``slope`` and ``intercept`` of its HU, and ``notes`` about irregularities
    """
    stack = series.stack
    heights = stack.heights_mm - stack.heights_mm[0]
    gaps = np.diff(heights)
    _, column, row = (np.asarray(axis) for axis in stack.axes)
    offsets = stack.positions_mm - stack.positions_mm[0]
    shifts = np.stack([offsets @ row, offsets @ column], axis=1)
    notes = _notes(series, gaps, shifts)
    return [
        {
            "slice": k + 1,
            "instance": image.instance,
            "frame": image.frame,
            "height_mm": _rounded(heights[k]),
            "gap_mm": _rounded(gaps[k - 1]) if k else None,
            "sideways_mm": [_rounded(shift) for shift in shifts[k]],
            "slope": image.slope,
            "intercept": image.intercept,
            "notes": notes[k],
        }
        for k, image in enumerate(series.slices)
    ]


def _notes(series: CtSeries, gaps: FloatArray, shifts: FloatArray) -> list[list[str]]:
    """Irregularities of each slice: the gap before it, its in-plane position, its HU scale."""
    ordinary, notes = _ordinary(gaps), []
    scales = Counter((s.slope, s.intercept) for s in series.slices)
    usual = max(scales, key=scales.__getitem__)
    steps = np.diff(shifts, axis=0)
    step = np.median(steps / gaps[:, None], axis=0)  # the sideways step of a tilted gantry for each mm
    odd = np.hypot(*(steps - step * gaps[:, None]).T) > DRIFT_MM
    for k, image in enumerate(series.slices):
        here = []
        if k and abs(gaps[k - 1] - ordinary) > max(SPACING_FRACTION * ordinary, SPACING_MM):
            times = round(float(gaps[k - 1] / ordinary))
            is_multiple = times > 1 and abs(gaps[k - 1] - times * ordinary) < 0.1 * times * ordinary
            here.append(
                f"{times - 1} missing before" if is_multiple else f"gap is not the ordinary {ordinary:.2f} mm"
            )
        if k and odd[k - 1]:
            here.append("shifted sideways")
        if (image.slope, image.intercept) != usual:
            here.append("HU scale of its own")
        notes.append(here)
    return notes


def _ordinary(gaps: FloatArray) -> float:
    return float(np.sort(gaps)[(len(gaps) - 1) // 2])


def _rounded(value: float) -> float:
    return round(float(value), 3) + 0.0  # no minus zero


def _value(findings: tuple[Finding, ...], code: str) -> float:
    return next((f.value for f in findings if f.code == code and f.value is not None), 0.0)
