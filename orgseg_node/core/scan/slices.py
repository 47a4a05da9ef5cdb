"""What is measured on each slice of a scan, to find out which part of the body it shows.

The measures are symmetric from left to right; what distinguishes the sides is in `sides`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.core.geometry import FloatArray
from orgseg_node.core.scan.grid import FloatImage, ScanGrid
from orgseg_node.core.volume import Mask

MEASURES: Final = (
    "section",
    "width",
    "depth",
    "filling",
    "air",
    "aerated",
    "fat",
    "soft",
    "bone",
    "dense_bone",
    "bone_depth",
    "bone_spread",
    "bone_front",
    "bone_back",
    "bone_at_skin",
    "air_depth",
    "air_spread",
    "middle_hu",
    "front_width",
    "back_width",
)
"""The measures in the order of the columns.

section : logarithm of the area in cm2
width, depth : extent from left to right and from front to back in cm
filling : area divided by width times depth
air, aerated, fat, soft, bone, dense_bone : fractions of the area, square roots
bone_depth, air_depth : mean place from the front (-0.5) to the back (0.5) of the section, 0 without any
bone_spread, air_spread : mean distance from the middle line, divided by the width
bone_front, bone_back : fraction of the bone in the front and in the back third
bone_at_skin : fraction of a band of some 15 mm under the skin that is bone, square root
middle_hu : mean HU in the middle of the section, divided by 100
front_width, back_width : width of the front and of the back quarter, divided by the width
"""

_AIR_HU: Final = -800.0
_AERATED_HU: Final = -400.0
_FAT_HU: Final = (-200.0, -25.0)
_BONE_HU: Final = 200.0
_DENSE_HU: Final = 600.0
_SKIN_MM: Final = 15.0
_EDGE_MM: Final = 6.0  # blocks nearer to the skin are mixed with air and with what lies on the skin
_FEW: Final = 8.0
"""Mean places of bone and air are computed as if so many more blocks lay in the middle of the section, so
that a few blocks hardly move them. A slice with fewer blocks of the patient is not measured."""


def slice_measures(scan: ScanGrid) -> FloatArray:
    """(K, M) the measures of each slice, in the order of `MEASURES`; NaN in a slice without a patient."""
    rows = np.full((scan.hu.shape[0], len(MEASURES)), np.nan)
    skin, edge = near_skin(scan, _SKIN_MM), near_skin(scan, _EDGE_MM)
    for k, (hu, inside) in enumerate(zip(scan.hu, scan.inside, strict=True)):
        if inside.sum() >= _FEW:
            rows[k] = _of_slice(hu, inside, (skin[k], edge[k]), scan.spacing_mm)
    return rows


def turned(rows: FloatArray, *, z: bool, y: bool) -> FloatArray:
    """The measures of the same scan with axes that run the other way.

    Parameters
    ----------
    rows : (K, M) of `slice_measures`
    z, y : whether head and feet, front and back are exchanged
    """
    result = rows[::-1].copy() if z else rows.copy()
    if y:
        for one, other in (("bone_front", "bone_back"), ("front_width", "back_width")):
            columns = [MEASURES.index(one), MEASURES.index(other)]
            result[:, columns] = result[:, columns[::-1]]
        for name in ("bone_depth", "air_depth"):
            result[:, MEASURES.index(name)] *= -1.0
    return result


def _of_slice(
    hu: FloatImage, inside: Mask, outer: tuple[Mask, Mask], spacing_mm: tuple[float, float, float]
) -> list[float]:
    _, row_mm, column_mm = spacing_mm
    y, x = np.nonzero(inside)
    values = hu[inside]
    area = float(values.size)
    (low_y, high_y), (low_x, high_x) = _extent(inside.sum(axis=1)), _extent(inside.sum(axis=0))
    depth, width = high_y - low_y, high_x - low_x
    v = (y - (low_y + high_y) / 2) / depth
    u = np.abs(x - (low_x + high_x) / 2) / width
    skin, edge = (part[inside] for part in outer)
    aerated, bone = (values < _AERATED_HU) & ~edge, values > _BONE_HU
    fat = (values > _FAT_HU[0]) & (values < _FAT_HU[1]) & ~edge
    soft = (values >= _FAT_HU[1]) & ~bone & ~edge
    middle = (v / 0.25) ** 2 + (u / 0.25) ** 2 < 1

    def root_fraction(part: NDArray[np.bool_]) -> float:
        """Square root of the fraction of the section."""
        return float(np.sqrt(part.sum() / area))

    return [
        float(np.log(area * row_mm * column_mm / 100.0)),
        width * column_mm / 10.0,
        depth * row_mm / 10.0,
        area / (width * depth),
        root_fraction((values < _AIR_HU) & ~edge),
        root_fraction(aerated),
        root_fraction(fat),
        root_fraction(soft),
        root_fraction(bone),
        root_fraction(values > _DENSE_HU),
        float(v[bone].sum() / (bone.sum() + _FEW)),
        float(u[bone].sum() / (bone.sum() + _FEW)),
        float((bone & (v < -1 / 6)).sum() / (bone.sum() + _FEW)),
        float((bone & (v > 1 / 6)).sum() / (bone.sum() + _FEW)),
        float(np.sqrt((bone & skin).sum() / max(skin.sum(), 1))),
        float(v[aerated].sum() / (aerated.sum() + _FEW)),
        float(u[aerated].sum() / (aerated.sum() + _FEW)),
        float(np.clip(values[middle], -500, 500).mean() / 100.0) if middle.any() else 0.0,
        _width_of(inside[: _row(low_y, high_y, -0.25)]) / width,
        _width_of(inside[_row(low_y, high_y, 0.25) :]) / width,
    ]


def _extent(counts: NDArray[Any]) -> tuple[float, float]:
    """From the first to the last place, without the outermost percent: a finger or a tube does not count."""
    few = 0.01 * counts.sum()
    first, last = (int(np.searchsorted(np.cumsum(side), few)) for side in (counts, counts[::-1]))
    return first - 0.5, counts.size - 1 - last + 0.5


def _row(low: float, high: float, place: float) -> int:
    """The first row behind a place from -0.5 (front) to 0.5 (back)."""
    return max(0, round((low + high) / 2 + place * (high - low) + 0.5))


def _width_of(rows: Mask) -> float:
    counts = rows.sum(axis=0)
    if counts.sum() < 2:
        return 0.0
    low, high = _extent(counts)
    return high - low


def near_skin(scan: ScanGrid, depth_mm: float) -> Mask:
    """(K, J, I) bool, the outermost part of each section of the patient."""
    inner = np.pad(scan.inside, ((0, 0), (1, 1), (1, 1))).view(np.uint8)
    for axis, mm in zip((1, 2), scan.spacing_mm[1:], strict=True):
        inner = ndimage.minimum_filter1d(
            inner, 2 * max(1, round(depth_mm / mm)) + 1, axis=axis, mode="nearest"
        )
    return scan.inside & ~inner[:, 1:-1, 1:-1].view(np.bool_)
