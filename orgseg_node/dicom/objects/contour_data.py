"""Contour Data (3006,0050): points in LPS mm as decimal strings, converted without an object for each number.

A point (i, j) of slice k is at ``IPP_k + i PixelSpacing[1] IOP_k[0:3] + j PixelSpacing[0] IOP_k[3:6]``
(PS3.3 C.7.6.2.1.1), with the position and the orientation of that slice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.valuerep import format_number_as_ds

from orgseg_node.core.contours import Contour
from orgseg_node.core.geometry import FloatArray
from orgseg_node.core.loops import SLACK
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.errors import ObjectInvalid

CONTOUR_DATA = Tag("ContourData")

_DS = 16  # characters in a Decimal String (PS3.5 6.2)
_FLAT_MM = 0.005  # a slice whose z changes less than this from corner to corner is axial
_DECIMALS = 2  # 0.01 mm


def contour_text(contour: Contour, series: CtSeries, decimals: int = _DECIMALS) -> str:
    """The Contour Data of a contour as text.

    On an axial slice, z is the text of the slice's own Image Position (Patient).

    Parameters
    ----------
    contour : in index coordinates
    series : the CT; position and orientation are those of its slice ``contour.k``
    decimals : digits after the point on axial slices, one more on others; more if pixels are so small that
        rounding could move a voxel across the contour

    Returns
    -------
    decimal strings of at most 16 characters, joined by backslashes
    """
    ct_slice = series.slices[contour.k]
    spacing = np.asarray(series.pixel_spacing_mm)
    axes = np.asarray(ct_slice.orientation).reshape(2, 3)
    points = np.asarray(ct_slice.position_mm) + (contour.points * spacing[::-1]) @ axes
    height, width = spacing * (series.rows, series.columns)
    is_axial = abs(axes[0, 2]) * width + abs(axes[1, 2]) * height < _FLAT_MM
    decimals = _enough(decimals if is_axial else decimals + 1, float(spacing.min()))
    if not is_axial:
        return _joined(points, f"%.{decimals}f\\%.{decimals}f\\%.{decimals}f", decimals)
    z = ct_slice.position_ds[2]
    z = z if len(z) <= _DS else format_number_as_ds(ct_slice.position_mm[2])
    return _joined(points[:, :2], f"%.{decimals}f\\%.{decimals}f\\{z}", decimals)


def contour_points(item: Dataset) -> tuple[FloatArray, int]:
    """The points of an item of the Contour Sequence.

    Parameters
    ----------
    item : with Contour Data as text, as numbers, or as read and not yet decoded

    Returns
    -------
    (N, 3) float64 LPS mm, and the number of characters of the longest number

    Raises
    ------
    ObjectInvalid
        If Contour Data is missing or damaged.
    """
    words = contour_words(item) or [""]
    return points_of(words), max(map(len, words))


def contour_words(item: Dataset) -> list[str]:
    """The numbers of Contour Data as text, without blanks around them; none if there are no data."""
    value = (item.get_item(CONTOUR_DATA).value if CONTOUR_DATA in item else None) or b""
    if isinstance(value, bytes):
        words = value.decode("ascii", "replace").split("\\")
    else:
        words = value.split("\\") if isinstance(value, str) else [str(number) for number in value]
    stripped = [word.strip(" \0") for word in words]
    return stripped if any(stripped) else []


def points_of(words: Sequence[str]) -> FloatArray:
    """(N, 3) points in LPS mm from numbers as text. Raises ObjectInvalid if they are no points."""
    try:
        numbers = np.array([float(word) for word in words])
    except ValueError:
        raise ObjectInvalid("Contour Data contains a value that is not a number.") from None
    if numbers.size % 3 or not np.isfinite(numbers).all():
        raise ObjectInvalid("Contour Data does not contain x, y and z of each point.")
    points: FloatArray = numbers.reshape(-1, 3)
    return points


def contour_bytes(item: Dataset) -> int:
    """Size of Contour Data as it is stored in bytes, 0 if there is none."""
    value = (item.get_item(CONTOUR_DATA).value if CONTOUR_DATA in item else None) or b""
    if isinstance(value, (bytes, str)):
        return len(value)
    return sum(len(str(number)) + 1 for number in value) - 1


def _joined(values: FloatArray, pattern: str, decimals: int) -> str:
    rounded: Sequence[float] = (np.round(values, decimals) + 0.0).ravel().tolist()  # + 0.0: no "-0.00"
    return "\\".join([pattern] * len(values)) % tuple(rounded)


def _enough(decimals: int, pixel_mm: float) -> int:
    while 0.5 * 10.0**-decimals * 3**0.5 >= SLACK * pixel_mm:
        decimals += 1
    return decimals
