"""Separates phases and acquisitions at the same positions by the attributes in their headers.

A split is accepted only if every slice has the attribute, and all parts are complete stacks with the same
positions, once each. So nothing is guessed, and a part that lacks a slice is not accepted as complete.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations, pairwise

import numpy as np

from orgseg_node.core.geometry import FloatArray
from orgseg_node.dicom.reading.slices import DISCRIMINATING_ATTRIBUTES, PlacedSlice
from orgseg_node.dicom.reading.stacking import (
    MIN_SLICES,
    SAME_POSITION_MM,
    in_plane_positions,
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
)
_OVERLAP = 2  # slice distances by which two acquisitions of one volume may overlap
_KEYS = (*DISCRIMINATING_ATTRIBUTES, "SOPInstanceUID", "SidewaysPlace")


def phases(slices: Sequence[PlacedSlice]) -> Mapping[str, tuple[PlacedSlice, ...]]:
    """The parts, by name, of slices that share orientation, size and frame of reference.

    Returns
    -------
    all slices under an empty name if no two are at the same position

    Raises
    ------
    DuplicateSlices
        If some are, and no attribute splits all slices into complete, equal stacks.
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
    raise DuplicateSlices(f"{same} of {len(slices)} images are at the position of another one.")


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


def _interleaved(slices: Sequence[PlacedSlice], heights: FloatArray) -> Mapping[str, tuple[PlacedSlice, ...]]:
    """Acquisitions whose slices are interleaved: at different positions, but not one volume.

    Step-and-shoot scanners number each step; those acquisitions have few slices and follow each other.
    """
    allowed = _OVERLAP * float(np.median(np.diff(np.sort(heights)))) if len(heights) > 1 else 0.0
    for key in _RUNS:
        values = _values(slices, key)
        members = _members(values) if values is not None else {}
        ranges = sorted(
            (heights[m].min(), heights[m].max()) for m in members.values() if len(m) >= MIN_SLICES
        )
        overlap = any(high - low > allowed for (_, high), (low, _) in pairwise(ranges))
        if len(ranges) == len(members) and overlap:
            return _named((key,), members, slices)
    return {}


def _named(
    keys: Sequence[str], members: Mapping[Hashable, list[int]], slices: Sequence[PlacedSlice]
) -> Mapping[str, tuple[PlacedSlice, ...]]:
    """Parts in order of their values; a value is shown only if it is a plain number."""
    ordered = sorted(members.items(), key=lambda item: [_rank(str(v)) for v in _as_tuple(item[0])])
    named = {}
    what = " and ".join(_NAMES.get(key, "time of the acquisition") for key in keys)
    for n, (value, indices) in enumerate(ordered, start=1):
        number = _as_tuple(value)[0] if len(keys) == 1 and _NAMES.get(keys[0]) in _SHOWN else None
        name = (
            f"{what} {number}" if number is not None and number.isdigit() else f"{what} {n} of {len(members)}"
        )
        named[name] = tuple(slices[index] for index in indices)
    return named


def _as_tuple(value: Hashable) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else (str(value),)


def _rank(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return np.inf, value
