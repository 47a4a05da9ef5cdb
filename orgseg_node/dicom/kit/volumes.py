"""The true volumes of the kit's structures, and the volumes that common errors of systems would give."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Final

import numpy as np
from scipy import ndimage

from orgseg_node.core.geometry import FloatArray
from orgseg_node.core.volume import LabelMap, Mask

_HEADINGS: Final = {
    "name": "structure",
    "voxels": "voxels",
    "voxel_ml": "true, by voxels (ml)",
    "polygon_ml": "true, by polygons (ml)",
    "filled_ml": "if holes are filled (ml)",
    "bridged_ml": "if empty slices are filled (ml)",
    "capless_ml": "if end slices count half (ml)",
    "contours": "contours",
    "most_points": "most points",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Volumes:
    """The true volumes of a structure, and those that other interpretations give.

    Attributes
    ----------
    name : ROI name
    voxels : number of voxels
    voxel_ml : voxels times the volume of one
    polygon_ml : area of the polygons in the file without holes, times the slice distance
    filled_ml : by voxels, with every hole filled
    bridged_ml : by voxels, with empty slices in the middle filled from both neighbours
    capless_ml : by voxels, if the structure begins and ends at the plane of its end slices
    contours, most_points : number of contours in the file with keyholes, and points of the longest
    """

    name: str
    voxels: int
    voxel_ml: float
    polygon_ml: float
    filled_ml: float
    bridged_ml: float
    capless_ml: float
    contours: int
    most_points: int


def volumes_of(label: int, label_map: LabelMap, polygons_mm: Sequence[FloatArray]) -> Volumes:
    """Volumes of one structure of the kit.

    Parameters
    ----------
    label : of the structure
    label_map : on a regular grid
    polygons_mm : (N, 2) points in mm of each of its contours in the file with keyholes, in the plane of the
        slice
    """
    mask = label_map.mask(label)
    voxel_ml = float(label_map.grid.slice_ml[0])
    row_mm, column_mm = label_map.grid.pixel_spacing_mm
    slice_mm = voxel_ml * 1000 / (row_mm * column_mm)
    counts = mask.sum(axis=(1, 2))
    ends = counts[np.flatnonzero(counts)[[0, -1]]].sum()
    return Volumes(
        name=label_map.organs[label].name,
        voxels=int(mask.sum()),
        voxel_ml=float(mask.sum() * voxel_ml),
        polygon_ml=sum(map(area, polygons_mm)) * slice_mm / 1000,
        filled_ml=float(_filled(mask).sum() * voxel_ml),
        bridged_ml=float(_bridged(mask).sum() * voxel_ml),
        capless_ml=float((counts.sum() - ends / 2) * voxel_ml),
        contours=len(polygons_mm),
        most_points=max(map(len, polygons_mm)),
    )


def area(points: FloatArray) -> float:
    """Area of one polygon in the square of its unit, without the holes of a keyhole."""
    x, y = points.T
    return abs(0.5 * float(x @ np.roll(y, -1) - np.roll(x, -1) @ y))


def as_csv(rows: Sequence[Volumes]) -> str:
    """The table for a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADINGS.values())
    for row in rows:
        writer.writerow(_cells(row))
    return text.getvalue()


def as_markdown(rows: Sequence[Volumes]) -> str:
    """The table for a person."""
    lines = ["| " + " | ".join(_HEADINGS.values()) + " |", "|---" + "|---:" * (len(_HEADINGS) - 1) + "|"]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cells(row: Volumes) -> list[str]:
    values = [getattr(row, each.name) for each in fields(row)]
    return [f"{value:.3f}" if isinstance(value, float) else str(value) for value in values]


def _filled(mask: Mask) -> Mask:
    filled: Mask = np.array([ndimage.binary_fill_holes(plane) for plane in mask], dtype=np.bool_)
    return filled


def _bridged(mask: Mask) -> Mask:
    """Empty slices between others become the intersection of their neighbours."""
    bridged = mask.copy()
    full = np.flatnonzero(mask.any(axis=(1, 2)))
    for below, above in pairwise(full):
        bridged[below + 1 : above] = mask[below] & mask[above]
    return bridged
