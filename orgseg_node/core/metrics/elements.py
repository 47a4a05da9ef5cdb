"""Area of the surface element between eight neighbouring voxels.

Eight voxel centres are the corners of a cell. Each corner is inside the organ or not, which gives a code of 8
bits; the surface of the organ cuts the edges of the cell between an inside and an outside corner at their
midpoint, as in marching cubes (Lorensen and Cline, Computer Graphics 21 (1987) 163). The 256 surfaces are
derived here, not copied from a table: on each face of the cell the cuts are joined so that two diagonal
inside corners stay separate. Both cells of a face follow the same rule, so the surface has no holes. The
resulting closed lines are filled with triangles around their mean point, so that rotating or mirroring the
image never changes an area.
"""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np

from orgseg_node.core.geometry import FloatArray, Vector

INSIDE = 255
"""Code of a cell that is completely inside."""

_Corner = tuple[int, int, int]
_Edge = frozenset[_Corner]
_Loop = tuple[_Corner, ...]
_CORNERS: tuple[_Corner, ...] = tuple((k, j, i) for k in (0, 1) for j in (0, 1) for i in (0, 1))
CORNER_BITS = {corner: bit for bit, corner in enumerate(_CORNERS)}
"""Bit of the code for each corner ``(k, j, i)`` of a cell."""


def element_areas(spacing_mm: Vector) -> FloatArray:
    """(256,) area in mm2 of the surface in a cell of each code; 0 for the codes 0 and 255.

    Parameters
    ----------
    spacing_mm : distance of voxel centres along ``(k, j, i)``

    Returns
    -------
    float64, read-only: all organs of a scan share the areas of its spacing
    """
    k, j, i = map(float, spacing_mm)
    return _areas((k, j, i))


@lru_cache(maxsize=16)
def _areas(spacing_mm: Vector) -> FloatArray:
    half_mm = np.asarray(spacing_mm, dtype=np.float64) / 2
    areas = np.array([sum(_area(np.asarray(loop) * half_mm) for loop in loops) for loops in _loops()])
    areas.setflags(write=False)
    return areas


def _area(points: FloatArray) -> float:
    """Area of a closed line filled with triangles around its mean point."""
    spokes = points - points.mean(axis=0)
    normals = np.cross(spokes, np.roll(spokes, -1, axis=0))
    return float(np.linalg.norm(normals, axis=1).sum() / 2)


@cache
def _loops() -> tuple[tuple[_Loop, ...], ...]:
    """For each code the closed lines of the surface in the cell; points in half edge lengths."""
    return tuple(_loops_of(code) for code in range(256))


def _loops_of(code: int) -> tuple[_Loop, ...]:
    inside = {corner for corner, bit in CORNER_BITS.items() if code >> bit & 1}
    following = {leave: enter for face in _faces() for leave, enter in _cuts(face, inside)}
    loops = []
    while following:
        start, edge = following.popitem()
        loop = [start]
        while edge != start:
            loop.append(edge)
            edge = following.pop(edge)
        loops.append(tuple(_middle(edge) for edge in loop))
    return tuple(loops)


def _cuts(face: tuple[_Corner, ...], inside: set[_Corner]) -> list[tuple[_Edge, _Edge]]:
    """For each run of inside corners around a face: the edges at its end and at its start."""
    ring = [corner in inside for corner in face]
    cuts = []
    for start in range(4):
        if ring[start] and not ring[start - 1]:
            end = start
            while ring[(end + 1) % 4]:
                end += 1
            leave = frozenset({face[end % 4], face[(end + 1) % 4]})
            cuts.append((leave, frozenset({face[start - 1], face[start]})))
    return cuts


def _faces() -> list[tuple[_Corner, ...]]:
    """The six faces of the cell, all with the same orientation seen from outside."""
    faces = []
    for axis in range(3):
        for side in (0, 1):
            ring = [(0, 0), (1, 0), (1, 1), (0, 1)]
            corners = [_insert(axis, side, u, v) for u, v in (ring if side else reversed(ring))]
            faces.append(tuple(corners))
    return faces


def _insert(axis: int, side: int, u: int, v: int) -> _Corner:
    """The corner with ``side`` on one axis and ``u``, ``v`` on the two that follow it cyclically."""
    corner = [0, 0, 0]
    corner[axis], corner[(axis + 1) % 3], corner[(axis + 2) % 3] = side, u, v
    return corner[0], corner[1], corner[2]


def _middle(edge: _Edge) -> _Corner:
    (a, b, c), (d, e, f) = edge
    return a + d, b + e, c + f
