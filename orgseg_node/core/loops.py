"""Smooths traced contours without moving any voxel across them.

The contour of a mask crosses the line between an inside and an outside pixel centre once for each pair of
such neighbours. These crossings are the vertices of the traced loop, at first half-way. A vertex can move
along its line, its *segment*, without changing the enclosed pixel centres. So:

1. Vertices move towards the midpoint of their neighbours until the staircase is gone. The loop shrinks as far
as
   its segments allow.
2. They move back until each loop encloses the area of the pixels in it. (Half-way vertices would lose exactly
   half a pixel for each loop of any size: a lens of the eye would lose several per cent.)
3. Vertices that hardly change the direction of the loop are removed.
4. The remaining vertices move slightly to restore the area that step 3 changed.

No vertex comes closer than `MARGIN` to a pixel centre in steps 1 and 2, so no edge comes closer than
``MARGIN / sqrt(2)``. Steps 3 and 4 move the loop by at most `TOLERANCE` and `TOUCH`. The remaining distance,
`SLACK`, is available for rounding when coordinates are written. All numbers are in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.geometry import FloatArray
from orgseg_node.core.rasterise import IndexArray

MARGIN = 0.1
TOLERANCE = 0.04
TOUCH = 0.01
SLACK = MARGIN / 2**0.5 - TOLERANCE - TOUCH

_REACH = 0.5 - MARGIN  # how far a vertex may move from the middle of its segment in each direction
_PULL = 0.9  # fraction of the way to the midpoint of its neighbours that a vertex moves in one round
_ROUNDS = 8
_AREA_ROUNDS = 5
_HALF_PIXEL = 0.5  # area that a loop through the middles of its segments lacks, for each turn


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Loops:
    """Closed polygons, concatenated in one array.

    Attributes
    ----------
    points : (N, 2) float64 ``(x, y)`` in pixels
    starts : (L,) int64, index of the first point of each loop
    """

    points: FloatArray
    starts: IndexArray

    @property
    def lengths(self) -> IndexArray:
        """(L,) number of points of each loop."""
        return np.diff(self.starts, append=len(self.points))

    def neighbours(self) -> tuple[IndexArray, IndexArray]:
        """(N,) index of the point before and of the point after each point of a loop."""
        order = np.arange(len(self.points))
        before, after = order - 1, order + 1
        ends = self.starts + self.lengths
        before[self.starts] = ends - 1
        after[ends - 1] = self.starts
        return before, after

    def areas(self) -> FloatArray:
        """(L,) signed area of each loop in square pixels."""
        _, after = self.neighbours()
        x, y = self.points.T
        areas: FloatArray = 0.5 * np.add.reduceat(x * y[after] - x[after] * y, self.starts)
        return areas

    def split(self) -> list[FloatArray]:
        """The loops as separate arrays."""
        return np.split(self.points, self.starts[1:])


def refine(loops: Loops, outward: FloatArray) -> Loops:
    """Smooth traced loops and remove points; the enclosed pixels stay, and the areas become exact.

    Parameters
    ----------
    loops : vertices half-way between an inside and an outside pixel centre
    outward : (N, 2) unit vectors from the inside to the outside pixel centre of each vertex

    Returns
    -------
    loops that enclose the same pixel centres, each with the area of the pixels it encloses
    """
    areas = loops.areas()
    wanted = areas + np.copysign(_HALF_PIXEL, areas)
    smooth = _fit_areas(_relax(loops, outward), outward, wanted, (loops.points, _REACH))
    kept, starts = _thin(smooth)
    thin = Loops(points=smooth.points[kept], starts=starts)
    return _fit_areas(thin, outward[kept], wanted, (thin.points, TOUCH))


def _relax(loops: Loops, outward: FloatArray) -> Loops:
    """Move every vertex along its segment towards the midpoint of its neighbours."""
    before, after = loops.neighbours()
    axis = (outward[:, 1] != 0).astype(np.int64)
    here, left, right = (2 * index + axis for index in (np.arange(len(axis)), before, after))
    flat = loops.points.flatten()  # x and y alternately; `here` is the coordinate that moves
    low, high = flat[here] - _REACH, flat[here] + _REACH
    for _ in range(_ROUNDS):
        bend = 0.5 * (flat[left] + flat[right]) - flat[here]
        flat[here] = np.clip(flat[here] + _PULL * bend, low, high)
    return Loops(points=flat.reshape(-1, 2), starts=loops.starts)


def _fit_areas(
    loops: Loops, outward: FloatArray, wanted: FloatArray, limit: tuple[FloatArray, float]
) -> Loops:
    """Move the vertices of each loop until its area is the wanted one.

    ``limit`` is the reference points and the largest distance from them. A vertex moves in proportion to the
    area that its move gains.
    """
    before, after = loops.neighbours()
    which = np.repeat(np.arange(len(loops.starts)), loops.lengths)
    middle, reach = limit
    points = loops.points
    for _ in range(_AREA_ROUNDS):
        missing = wanted - Loops(points=points, starts=loops.starts).areas()
        span = points[after] - points[before]
        gain = 0.5 * np.maximum(span[:, 1] * outward[:, 0] - span[:, 0] * outward[:, 1], 0.0)
        step = missing / np.maximum(np.add.reduceat(gain * gain, loops.starts), 1e-9)
        slid = points + (step[which] * gain)[:, None] * outward
        points = np.clip(slid, middle - reach * np.abs(outward), middle + reach * np.abs(outward))
    return Loops(points=points, starts=loops.starts)


def _thin(loops: Loops) -> tuple[IndexArray, IndexArray]:
    """The vertices to keep so that every loop stays within `TOLERANCE` of its previous shape.

    The distance is the Fréchet distance, and errors are added up, so this is a bound and not an estimate.
    Every loop keeps at least three points.

    Returns
    -------
    indices of the points to keep, and index of the first point of each loop among them
    """
    kept = np.arange(len(loops.points))
    errors = np.zeros(len(kept))
    while True:
        before, after = loops.neighbours()
        cost = _distance_to_chord(loops.points, before, after) + np.maximum(errors[before], errors)
        cost[np.repeat(loops.lengths, loops.lengths) <= 4] = np.inf
        drop = _lowest_among_neighbours(cost, before, after)
        if not drop.any():
            return kept, loops.starts
        errors[before[drop]] = cost[drop]
        gone = np.add.reduceat(drop.astype(np.int64), loops.starts)
        loops = Loops(points=loops.points[~drop], starts=loops.starts - np.cumsum(gone) + gone)
        errors, kept = errors[~drop], kept[~drop]


def _distance_to_chord(points: FloatArray, before: IndexArray, after: IndexArray) -> FloatArray:
    """(N,) distance of each vertex from the line segment between its neighbours."""
    chord = points[after] - points[before]
    offset = points - points[before]
    square = np.einsum("nd,nd->n", chord, chord)
    along = np.clip(np.einsum("nd,nd->n", offset, chord) / np.maximum(square, 1e-12), 0.0, 1.0)
    distance: FloatArray = np.linalg.norm(offset - along[:, None] * chord, axis=1)
    return distance


def _lowest_among_neighbours(cost: FloatArray, before: IndexArray, after: IndexArray) -> NDArray[np.bool_]:
    """Vertices with a cost within the tolerance and below both neighbours; ties are broken irregularly."""
    scatter = np.arange(len(cost)) * 0.6180339887498949 % 1.0
    rank = np.where(cost <= TOLERANCE, cost + 1e-6 * scatter, np.inf)
    lowest: NDArray[np.bool_] = (rank < rank[before]) & (rank < rank[after])
    return lowest
