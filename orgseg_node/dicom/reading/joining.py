"""Joins images of one volume whose headers differ by rounding, and recognises two halves of one volume.

Scanners and archives round Pixel Spacing and Image Orientation (Patient) differently from image to image, or
leave out Patient Position in some. Such images are one volume. Images that alternate along the normal and
differ in anything else are no two volumes either: each would have half of the slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.geometry import FloatArray
from orgseg_node.dicom.reading.slices import PlacedSlice
from orgseg_node.dicom.reading.stacking import PARALLEL, SAME_POSITION_MM, normal_positions, slice_axes

_ROUNDED_FRACTION: Final = 1e-3  # of the pixel spacing
_ROUNDED_DIRECTION: Final = 6e-4  # of a component of a unit vector: three decimals
_CORNER_PIXELS: Final = 0.25  # how far the corner of the image may move
_ALTERNATE, _EVEN_FRACTION, _EVEN_SHARE = 2, 0.25, 0.8
_MOST: Final = 0.6  # of the shorter volume must be within the other one


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Images that may be slices of one volume.

    Attributes
    ----------
    slices : in any order; with the same pixel spacing and patient position
    rounded : attributes in which they differed before
    """

    slices: tuple[PlacedSlice, ...]
    rounded: tuple[str, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """A warning if the headers differed."""
        if not self.rounded:
            return ()
        message = (
            f"The slices differ in {' and '.join(self.rounded)} within rounding, or some lack it; "
            "they are one volume."
        )
        return (Finding(level=Level.WARNING, code="SERIES_HEADERS_ROUNDED", message=message),)


def join_within_rounding(groups: Sequence[Sequence[PlacedSlice]]) -> list[Group]:
    """Groups of images whose headers differ by more than rounding, the largest first.

    Images at the same positions are not joined: they are volumes of their own.

    Parameters
    ----------
    groups : images of exactly the same geometry, the largest group first
    """
    joined: list[list[Sequence[PlacedSlice]]] = []
    for group in groups:
        found = [one for one in joined if all(_is_rounding(other[0], group[0]) for other in one)]
        found = [one for one in found if not _share_positions([s for part in one for s in part], group)]
        if len(found) == 1:
            found[0].append(group)
        else:  # several: nothing decides to which it belongs
            joined.append([group])
    return sorted((_united(one) for one in joined), key=lambda one: -len(one.slices))


def difference(one: PlacedSlice, other: PlacedSlice) -> str:
    """The first attribute in which two images differ."""
    pairs = {
        "frame of reference": (one.frame_uid, other.frame_uid),
        "size": ((one.rows, one.columns), (other.rows, other.columns)),
        "patient position": (one.patient_position, other.patient_position),
        "pixel spacing": (one.pixel_spacing_mm, other.pixel_spacing_mm),
        "orientation": (one.image.orientation, other.image.orientation),
    }
    return next((name for name, (a, b) in pairs.items() if a != b), "stack")


def stack_id(one: PlacedSlice) -> str:
    """The stack of a frame, to which the writer of a multi-frame file assigns it (PS3.3, C.7.6.16.2.2.4)."""
    return one.discriminators.get("StackID", "") if one.image.frame is not None else ""


def alternate(members: Sequence[Sequence[PlacedSlice]]) -> bool:
    """Whether the slices of several volumes are in each other's gaps, and evenly spaced only together.

    Parameters
    ----------
    members : the slices of each volume, in any order
    """
    first = members[0][0]
    normal = slice_axes(first.image.orientation)[0]
    if any(abs(float(slice_axes(one[0].image.orientation)[0] @ normal)) < PARALLEL for one in members):
        return False
    heights = [np.sort(normal_positions(first.image.orientation, one)) for one in members]
    low, high = max(h[0] for h in heights), min(h[-1] for h in heights)
    together = np.sort(np.concatenate(heights))
    gaps = np.diff(together[(together >= low - 1e-6) & (together <= high + 1e-6)])
    if not gaps.size:
        return False
    usual = float(np.median(gaps))
    shortest = min(float(h[-1] - h[0]) for h in heights)
    if usual < SAME_POSITION_MM or high - low < max(_ALTERNATE * usual, _MOST * shortest):
        return False
    even = float(np.mean(np.abs(gaps - usual) <= _EVEN_FRACTION * usual))
    own = min(float(np.median(np.diff(h))) for h in heights if len(h) > 1)
    return even >= _EVEN_SHARE and own > usual * (1 + _EVEN_FRACTION)


def adjoin(one: Sequence[PlacedSlice], other: Sequence[PlacedSlice]) -> bool:
    """Whether a volume begins where another one ends.

    Parameters
    ----------
    one, other : the slices of two volumes, in any order
    """
    first = one[0]
    normal = slice_axes(first.image.orientation)[0]
    if abs(float(slice_axes(other[0].image.orientation)[0] @ normal)) < PARALLEL:
        return False
    a, b = (np.sort(normal_positions(first.image.orientation, slices)) for slices in (one, other))
    distance = max(float(np.median(np.diff(heights))) for heights in (a, b))
    between = max(a[0], b[0]) - min(a[-1], b[-1])
    return bool(-2 * distance < between < 2 * distance)


def _is_rounding(one: PlacedSlice, other: PlacedSlice) -> bool:
    if (one.frame_uid, one.rows, one.columns, stack_id(one)) != (
        other.frame_uid,
        other.rows,
        other.columns,
        stack_id(other),
    ):
        return False
    if one.patient_position and other.patient_position and one.patient_position != other.patient_position:
        return False
    spacing = np.array([one.pixel_spacing_mm, other.pixel_spacing_mm])
    scaled = np.abs(spacing[1] - spacing[0])
    turned = np.abs(np.subtract(one.image.orientation, other.image.orientation))
    if (scaled > _ROUNDED_FRACTION * spacing.min(axis=0)).any() or turned.max() > _ROUNDED_DIRECTION:
        return False
    size = np.array([one.rows, one.columns])
    along_row, along_column = (float(np.linalg.norm(part)) for part in (turned[:3], turned[3:]))
    moved = scaled @ size + (spacing[0] * size) @ np.array([along_column, along_row])
    return bool(moved <= _CORNER_PIXELS * spacing.min())


def _share_positions(one: Sequence[PlacedSlice], other: Sequence[PlacedSlice]) -> bool:
    """Whether most images of the smaller group are at the position of one of the larger."""
    orientation = one[0].image.orientation
    a, b = normal_positions(orientation, one), normal_positions(orientation, other)
    large, small = (a, b) if len(a) >= len(b) else (b, a)
    return 2 * int((_nearest(np.sort(large), small) < SAME_POSITION_MM).sum()) > len(small)


def _nearest(ordered: FloatArray, places: FloatArray) -> FloatArray:
    after = np.searchsorted(ordered, places).clip(1, max(1, len(ordered) - 1))
    after = np.minimum(after, len(ordered) - 1)
    nearest: FloatArray = np.minimum(
        np.abs(ordered[after] - places), np.abs(ordered[np.maximum(after - 1, 0)] - places)
    )
    return nearest


def _united(groups: Sequence[Sequence[PlacedSlice]]) -> Group:
    """One group with the pixel spacing of most slices, of the most digits among equally frequent ones."""
    if len(groups) == 1:
        return Group(slices=tuple(groups[0]))
    firsts = [group[0] for group in groups]
    rounded = {
        "pixel spacing": len({one.pixel_spacing_mm for one in firsts}),
        "patient position": len({one.patient_position for one in firsts}),
        "orientation": len({one.image.orientation for one in firsts}),
    }
    most = max(groups, key=lambda group: (len(group), len(repr(group[0].pixel_spacing_mm))))
    position = next((one.patient_position for one in firsts if one.patient_position), "")
    return Group(
        slices=tuple(
            replace(one, pixel_spacing_mm=most[0].pixel_spacing_mm, patient_position=position)
            for group in groups
            for one in group
        ),
        rounded=tuple(name for name, count in rounded.items() if count > 1),
    )
