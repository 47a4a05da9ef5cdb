"""Joins holes to their outer contour with the keyhole technique.

DICOM's ``CLOSED_PLANAR`` contour has no holes (PS3.3 C.8.8.6.3). A *keyhole* connects each hole to the outer
loop by a bridge of zero width, passed in both directions. Of the encodings in use, all tested readers agree
on this one only: some fill holes that are separate contours, many drop ``CLOSEDPLANAR_XOR``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from orgseg_node.core.geometry import FloatArray

_CLEARANCE = 0.1  # pixels; if a bridge passed a pixel centre, that voxel would depend on a reader's rounding
_CANDIDATES = 12  # number of bridges that are compared
_DETOUR = 2.0  # pixels by which a bridge may be longer than the shortest


def join_holes(outer: FloatArray, holes: Sequence[FloatArray]) -> FloatArray:
    """One polygon that encloses the area of the outer loop without the holes.

    The hole nearest to the polygon is joined first, over the shortest bridge that stays away from pixel
    centres; so bridges do not cross holes. Under the even-odd rule a bridge changes no voxel, wherever it is.

    Parameters
    ----------
    outer : (N, 2) points of the outer loop in pixels
    holes : (M, 2) points of each hole in it

    Returns
    -------
    (P, 2) points in pixels, with two more points for each hole
    """
    if not holes:
        return outer
    vertices = np.concatenate(holes)
    owners = np.repeat(np.arange(len(holes)), [len(hole) for hole in holes])
    distances, _ = cKDTree(outer).query(vertices)
    polygon = outer
    for _ in holes:
        nearest = int(np.argmin(distances))
        hole = holes[owners[nearest]]
        polygon = _join(polygon, hole, vertices[nearest], float(distances[nearest]))
        is_left = owners != owners[nearest]
        vertices, owners = vertices[is_left], owners[is_left]
        distances = np.minimum(distances[is_left], _distances(vertices, hole).min(axis=1))
    return polygon


def _join(polygon: FloatArray, hole: FloatArray, vertex: FloatArray, shortest: float) -> FloatArray:
    """Join a hole to a polygon, near the hole's vertex that has the shortest distance from the polygon."""
    near = np.flatnonzero(np.linalg.norm(polygon - vertex, axis=1) <= shortest + _DETOUR)
    lengths = _distances(polygon[near], hole)
    best, widest = (0, 0), -1.0
    for flat in np.argsort(lengths, axis=None)[:_CANDIDATES]:
        row, column = divmod(int(flat), len(hole))
        a = int(near[row])
        clearance = _clearance(polygon[a], hole[column])
        if clearance > widest:
            best, widest = (a, column), clearance
        if clearance >= _CLEARANCE:
            break
    a, b = best
    return np.concatenate([polygon[: a + 1], hole[b:], hole[: b + 1], polygon[a:]])


def _distances(one: FloatArray, two: FloatArray) -> FloatArray:
    distances: FloatArray = np.hypot(one[:, None, 0] - two[None, :, 0], one[:, None, 1] - two[None, :, 1])
    return distances


def _clearance(start: FloatArray, end: FloatArray) -> float:
    """Distance of a bridge from the nearest pixel centre, sampled in steps of a twentieth of a pixel."""
    steps = max(2, int(np.ceil(20 * np.linalg.norm(end - start))) + 1)
    points = start + np.linspace(0.0, 1.0, steps)[:, None] * (end - start)
    return float(np.linalg.norm(points - np.rint(points), axis=1).min())
