"""The values that organs are measured by: which part of the judgement they belong to, and in which words."""

from __future__ import annotations

import math
from typing import Final

from orgseg_node.core.anatomy.gaussian import Gaussian

_TISSUE: Final = frozenset({"air", "fat", "bone", "edge", "edge_size"})
_WORDS: Final = {
    "log_volume": "volume",
    "log_extent_z": "length from feet to head",
    "log_extent_y": "width from front to back",
    "log_extent_x": "width from right to left",
    "log_section": "mean area of its sections",
    "compactness": "surface for its volume",
    "hu_mean": "mean HU inside",
    "hu_spread": "spread of HU inside",
    "hu_p10": "10th percentile of HU inside",
    "hu_p50": "median HU inside",
    "hu_p90": "90th percentile of HU inside",
    "air": "fraction of air inside",
    "fat": "fraction of fat inside",
    "bone": "fraction of bone inside",
    "edge": "step of HU at its surface",
    "edge_size": "gradient of HU at its surface",
    "across": "place from right (-1) to left (1) in the body section",
    "depth": "place from front (0) to back (1) in the body section",
    "skin_front": "distance to the skin in front",
    "skin_back": "distance to the skin at the back",
    "skin_right": "distance to the skin on the right",
    "skin_left": "distance to the skin on the left",
}
_AROUND: Final = {"hu": "mean HU", "air": "fraction of air", "bone": "fraction of bone"}
_WHERE: Final = {
    "feet": "below it",
    "head": "above it",
    "front": "in front of it",
    "back": "behind it",
    "right": "on its right",
    "left": "on its left",
}
_POINTS: Final = {"centre": "centre", "upper": "upper end", "lower": "lower end"}
_AXES: Final = {"z": "from feet to head", "y": "from front to back", "x": "from right to left"}
_RING: Final = {"near": "within 8 mm", "far": "8 to 16 mm away"}
_UNITS: Final = {"log_volume": " ml", "log_section": " mm2"}
_RANGE: Final = 2.576  # 99 % of a normal distribution


def part_of(name: str) -> str:
    """The part of the judgement that a value belongs to, such as ``size``; see `scores.PARTS`."""
    if name.startswith("log_") or name == "compactness":
        return "size"
    if name.startswith("hu_") or name in _TISSUE:
        return "tissue"
    if name.startswith("relation_"):
        return "relation"
    return "surroundings" if name.startswith(("near_", "far_")) else "position"


def smallest_scale(name: str) -> float:
    """Smallest spread that a value can have in a reference, in its own unit."""
    if name.startswith("log_") or name == "compactness":
        return 0.08
    if "air" in name or "bone" in name or name in {"fat", "across", "depth"}:
        return 0.03
    if name.startswith("skin_"):
        return 3.0
    if name.startswith("section_"):
        return 6.0
    if name == "edge_size" or name.startswith("relation_"):
        return 1.5 if name == "edge_size" else 0.5
    return 20.0 if name in {"hu_p10", "hu_p50", "hu_spread"} else 10.0


def words(name: str) -> str:
    """A value in words, such as ``fraction of air within 8 mm on its left``."""
    if name in _WORDS:
        return _WORDS[name]
    if name.startswith("relation_"):
        _, point, axis = name.split("_")
        return f"place of its {_POINTS[point]} {_AXES[axis]}, relative to the other organs"
    if name.startswith("section_"):
        return f"size of the body section at {name.removeprefix('section_')} mm"
    ring, what, where = name.split("_")
    return f"{_AROUND[what]} {_RING[ring]} {_WHERE[where]}"


def shown(name: str, value: float) -> str:
    """A value with its unit."""
    if name == "compactness":
        return f"{math.exp(value):.1f}"
    if name.startswith("log_"):
        return f"{math.exp(value):.3g}{_UNITS.get(name, ' mm')}"
    if name.startswith("relation_"):
        return f"{value:+.1f} sigma"
    if name.startswith(("skin_", "section_")):
        return f"{value:.0f} mm"
    if "hu" in name.split("_") or name in {"edge", "edge_size"}:
        return f"{value:.0f} HU"
    return f"{value:.2f}"


def reference_range(reference: Gaussian, name: str) -> tuple[float, float]:
    """The range of a value that 99 % of the patients have, in the unit in which it is stored.

    Parameters
    ----------
    reference : distribution of the values
    name : of one of its values
    """
    n = reference.names.index(name)
    half = _RANGE * float(reference.scale[n])
    return float(reference.centre[n]) - half, float(reference.centre[n]) + half
