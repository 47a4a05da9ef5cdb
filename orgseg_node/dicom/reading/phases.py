"""Phases and acquisitions that lie at the same places, told apart by what their headers say.

A split counts only where every slice says which part it is of, and all parts are complete and equal: the same
places, once each. So a guess cannot slip in, and a part that misses a slice is not taken for whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations, pairwise

import numpy as np

from orgseg_node.core.geometry import FloatArray
from orgseg_node.dicom.reading.slices import TELLING, Placed
from orgseg_node.dicom.reading.stacking import MIN_SLICES, SAME_PLACE_MM, along, sideways
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
_OVERLAP = 2  # slice distances by which two runs of the scanner may reach into each other and be one volume
_KEYS = (*TELLING, "SOPInstanceUID", "SidewaysPlace")


def phases(slices: Sequence[Placed]) -> Mapping[str, tuple[Placed, ...]]:
    """The parts of slices that share direction, size and frame of reference, by a name for each.

    Returns
    -------
    all slices under an empty name where no two lie at the same place

    Raises
    ------
    DuplicateSlices
        If some do, and no attribute splits all slices into complete, equal stacks.
    """
    heights = along(slices[0].image.orientation, slices)
    same = int((np.diff(np.sort(heights)) < SAME_PLACE_MM).sum())
    if not same:
        return _interleaved(slices, heights) or {"": tuple(slices)}
    told = {key: values for key in _KEYS if (values := _values(slices, key)) is not None}
    for keys in (*((key,) for key in told), *combinations(told, 2)):
        members = _members([tuple(told[key][n] for key in keys) for n in range(len(slices))])
        if _are_equal_stacks([np.sort(heights[indices]) for indices in members.values()]):
            return _named(keys, members, slices)
    raise DuplicateSlices(f"{same} of {len(slices)} images lie where another one lies.")


def _values(slices: Sequence[Placed], key: str) -> list[str] | None:
    """What each slice says; None unless all say something and not all the same."""
    if key == "SOPInstanceUID":
        values = [one.image.sop_instance_uid if one.image.frame is not None else "" for one in slices]
    elif key == "SidewaysPlace":
        places = sideways(slices[0].image.orientation, [one.image.position_mm for one in slices])
        values = [f"{round(down)}/{round(across)}" for down, across in places - places.min(axis=0)]
    else:
        values = [one.told.get(key, "") for one in slices]
    return values if all(values) and len(set(values)) > 1 else None


def _members(values: Sequence[Hashable]) -> Mapping[Hashable, list[int]]:
    members: defaultdict[Hashable, list[int]] = defaultdict(list)
    for n, value in enumerate(values):
        members[value].append(n)
    return members


def _are_equal_stacks(heights: Sequence[FloatArray]) -> bool:
    first = heights[0]
    if len(heights) < 2 or len(first) < MIN_SLICES or (np.diff(first) < SAME_PLACE_MM).any():
        return False
    return all(len(h) == len(first) and np.abs(h - first).max() < SAME_PLACE_MM for h in heights[1:])


def _interleaved(slices: Sequence[Placed], heights: FloatArray) -> Mapping[str, tuple[Placed, ...]]:
    """Runs of the scanner whose slices lie between each other's: at other places, and yet no one volume.

    Step-and-shoot scanners number each step; their runs have few slices and follow each other.
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
    keys: Sequence[str], members: Mapping[Hashable, list[int]], slices: Sequence[Placed]
) -> Mapping[str, tuple[Placed, ...]]:
    """Parts in order of their values; a value is shown only where it is a harmless number."""
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
