"""Separates phases and acquisitions at the same positions by the attributes in their headers.

A split is accepted only if every slice has the attribute, and all parts are stacks without gaps and without
two slices at one position. Splits into stacks with the same positions are preferred; parts of unequal length,
such as the passes of a scan that overlap, are accepted if a specific attribute separates them. So nothing is
guessed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations, pairwise

import numpy as np

from orgseg_node.core.geometry import FloatArray
from orgseg_node.dicom.reading.joining import alternate
from orgseg_node.dicom.reading.slices import DISCRIMINATING_ATTRIBUTES, PlacedSlice
from orgseg_node.dicom.reading.stacking import (
    MIN_SLICES,
    SAME_POSITION_MM,
    in_plane_positions,
    leave_gaps,
    normal_positions,
)
from orgseg_node.errors import DuplicateSlices

_NAMES = {
    "TemporalPositionIdentifier": "temporal position",
    "TemporalPositionIndex": "temporal position",
    "NominalPercentageOfRespiratoryPhase": "respiratory phase",
    "NominalPercentageOfCardiacPhase": "cardiac phase",
    "AcquisitionNumber": "acquisition",
    "FrameAcquisitionNumber": "acquisition",
    "StackID": "stack",
    "KVP": "tube voltage",
    "ConvolutionKernel": "kernel",
    "ImageType": "image type",
    "TriggerTime": "trigger time",
    "SeriesDescription": "description",
    "ImageComments": "comment",
    "ContentTime": "time of the image",
    "SOPInstanceUID": "file",
    "SidewaysPlace": "field of view",
}
_SHOWN = {"temporal position", "respiratory phase", "cardiac phase", "acquisition"}
_RUNS = (
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "AcquisitionNumber",
    "FrameAcquisitionNumber",
    "AcquisitionTime",
    "AcquisitionDateTime",
    "NominalPercentageOfRespiratoryPhase",
    "NominalPercentageOfCardiacPhase",
    "SeriesDescription",
    "ImageComments",
)
_ALSO_HALVES = (*_RUNS, "KVP", "ConvolutionKernel")
_OVERLAP = 2  # slice distances by which two acquisitions of one volume may overlap
_WIDEST_STEP = 1.5  # of the usual slice distance of a part: a wider one is a missing slice
_PERCENT = re.compile(r"(?<!\d)(\d{1,2}|100)(?:\.\d+)?\s*%")
_KEYS = (*DISCRIMINATING_ATTRIBUTES, "SOPInstanceUID", "SidewaysPlace")


def phases(slices: Sequence[PlacedSlice]) -> Mapping[str, tuple[PlacedSlice, ...]]:
    """The parts, by name, of slices that share orientation, size and frame of reference.

    Returns
    -------
    all slices under an empty name if no two are at the same position

    Raises
    ------
    DuplicateSlices
        If some are, and no attribute splits all slices into stacks.
    """
    heights = normal_positions(slices[0].image.orientation, slices)
    same = int((np.diff(np.sort(heights)) < SAME_POSITION_MM).sum())
    if not same:
        return _interleaved(slices, heights) or {"": tuple(slices)}
    values_by_key = {key: values for key in _KEYS if (values := _values(slices, key)) is not None}
    for keys in (*((key,) for key in values_by_key), *combinations(values_by_key, 2)):
        members = _members([tuple(values_by_key[key][n] for key in keys) for n in range(len(slices))])
        if _are_equal_stacks([np.sort(heights[indices]) for indices in members.values()]):
            return _named(keys, members, slices)
    specific = [key for key in values_by_key if key in _RUNS]
    for keys in (*((key,) for key in specific), *combinations(specific, 2)):
        members = _members([tuple(values_by_key[key][n] for key in keys) for n in range(len(slices))])
        if _are_overlapping_stacks([np.sort(heights[indices]) for indices in members.values()]):
            return _named(keys, members, slices)
    raise DuplicateSlices(f"{same} of {len(slices)} images are at the position of another one.")


def alternating_attribute(slices: Sequence[PlacedSlice]) -> str | None:
    """The attribute that differs between slices that alternate and are one volume together; or None."""
    found = _alternating(slices, normal_positions(slices[0].image.orientation, slices), _ALSO_HALVES)
    return _name_of(found[0]) if found is not None and _are_halves(slices, found[1]) else None


def _name_of(key: str) -> str:
    return _NAMES.get(key, "time of the acquisition")


def _values(slices: Sequence[PlacedSlice], key: str) -> list[str] | None:
    """The value of each slice; None unless every slice has one and they differ."""
    if key == "SOPInstanceUID":
        values = [one.image.sop_instance_uid if one.image.frame is not None else "" for one in slices]
    elif key == "SidewaysPlace":
        places = in_plane_positions(slices[0].image.orientation, [one.image.position_mm for one in slices])
        values = [f"{round(down)}/{round(across)}" for down, across in places - places.min(axis=0)]
    else:
        values = [one.discriminators.get(key, "") for one in slices]
    return values if all(values) and len(set(values)) > 1 else None


def _members(values: Sequence[Hashable]) -> Mapping[Hashable, list[int]]:
    members: defaultdict[Hashable, list[int]] = defaultdict(list)
    for n, value in enumerate(values):
        members[value].append(n)
    return members


def _are_equal_stacks(heights: Sequence[FloatArray]) -> bool:
    first = heights[0]
    if len(heights) < 2 or len(first) < MIN_SLICES or (np.diff(first) < SAME_POSITION_MM).any():
        return False
    return all(len(h) == len(first) and np.abs(h - first).max() < SAME_POSITION_MM for h in heights[1:])


def _are_overlapping_stacks(heights: Sequence[FloatArray]) -> bool:
    """Whether these are stacks without gaps, of which each overlaps another one."""
    if len(heights) < 2:
        return False
    for n, one in enumerate(heights):
        gaps = np.diff(one)
        if (
            len(one) < MIN_SLICES
            or gaps.min() < SAME_POSITION_MM
            or gaps.max() > _WIDEST_STEP * np.median(gaps)
        ):
            return False
        others = [other for m, other in enumerate(heights) if m != n]
        if not any(min(one[-1], o[-1]) - max(one[0], o[0]) > -SAME_POSITION_MM for o in others):
            return False
    return True


def _interleaved(slices: Sequence[PlacedSlice], heights: FloatArray) -> Mapping[str, tuple[PlacedSlice, ...]]:
    """Acquisitions whose slices are interleaved: at different positions, but not one volume."""
    found = _alternating(slices, heights, _RUNS)
    if found is None or _are_halves(slices, found[1]):
        return {}
    key, members = found
    return _named((key,), members, slices)


def _alternating(
    slices: Sequence[PlacedSlice], heights: FloatArray, keys: Sequence[str]
) -> tuple[str, Mapping[Hashable, list[int]]] | None:
    """The attribute by which acquisitions overlap, and the indices of each.

    Step-and-shoot scanners number each step; those acquisitions have few slices and follow each other.

    Parameters
    ----------
    slices : in any order
    heights : (K,) position of each along the normal in mm
    keys : the attributes
    """
    allowed = _OVERLAP * float(np.median(np.diff(np.sort(heights)))) if len(heights) > 1 else 0.0
    for key in keys:
        values = _values(slices, key)
        members = _members(values) if values is not None else {}
        ranges = sorted(
            (heights[m].min(), heights[m].max()) for m in members.values() if len(m) >= MIN_SLICES
        )
        overlap = any(high - low > allowed for (_, high), (low, _) in pairwise(ranges))
        if len(ranges) == len(members) and overlap:
            return key, members
    return None


def _are_halves(slices: Sequence[PlacedSlice], members: Mapping[Hashable, list[int]]) -> bool:
    """Whether acquisitions leave gaps alone, and are evenly spaced together: they are one volume."""
    groups = [[slices[n] for n in indices] for indices in members.values()]
    return alternate(groups) and all(leave_gaps(group, unknown=False) for group in groups)


def _named(
    keys: Sequence[str], members: Mapping[Hashable, list[int]], slices: Sequence[PlacedSlice]
) -> Mapping[str, tuple[PlacedSlice, ...]]:
    """Parts in order of their values; only a plain number or a percentage in a value is shown."""
    ordered = sorted(members.items(), key=lambda item: [_rank(str(v)) for v in _as_tuple(item[0])])
    named = {}
    what = " and ".join(map(_name_of, keys))
    percents = [_PERCENT.findall(_as_tuple(value)[0]) if len(keys) == 1 else [] for value, _ in ordered]
    is_percent = all(len(one) == 1 for one in percents) and len({one[0] for one in percents}) == len(percents)
    for n, (value, indices) in enumerate(ordered, start=1):
        number = _as_tuple(value)[0] if len(keys) == 1 and _NAMES.get(keys[0]) in _SHOWN else ""
        if is_percent:
            name = f"{what} {percents[n - 1][0]} %"
        else:
            name = f"{what} {number}" if number.isdigit() else f"{what} {n} of {len(members)}"
        named[name] = tuple(slices[index] for index in indices)
    return named


def _as_tuple(value: Hashable) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else (str(value),)


def _rank(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return np.inf, value
