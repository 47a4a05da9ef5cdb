"""Rasterises contours to voxels.

There is one rule: a voxel belongs to a structure if its centre is inside an odd number of the contours of its
slice (even-odd rule). With this rule the written contours must reproduce the label map in every voxel;
planning systems that supersample differ from it only at the border.

Along a row of pixels the mask changes wherever it crosses a contour. Two masks are equal if these crossings
are equal. Comparing crossings needs no mask, so the proof of a whole structure set is fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.geometry import FloatArray, Shape, VoxelGeometry

IndexArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contour:
    """One closed polygon in one slice.

    Attributes
    ----------
    k : index of the slice
    points : (N, 2) float64 ``(i, j)`` = (column, row) index coordinates; the last point joins the first
    """

    k: int
    points: FloatArray


def rasterise(contours: Iterable[Contour], grid: VoxelGeometry) -> NDArray[np.bool_]:
    """The voxels with their centre inside the contours.

    Parameters
    ----------
    contours : closed polygons; points outside the grid are allowed
    grid : only its shape is used; ``points`` are index coordinates on it

    Returns
    -------
    (K, J, I) bool

    Raises
    ------
    ValueError
        If a contour is on a slice that the grid does not have.
    """
    return mask_of(crossings(list(contours), grid.shape), grid.shape)


def mask_of(flips: IndexArray, shape: Shape) -> NDArray[np.bool_]:
    """The (K, J, I) bool mask with the given crossings (see `crossings`)."""
    mask = np.zeros(shape, dtype=np.uint8)
    if flips.size:
        mask.reshape(-1)[flips] = 1
        row_length = shape[2]
        rows = np.unique(flips // row_length)
        flat = mask.reshape(-1, row_length)
        flat[rows] = np.bitwise_xor.accumulate(flat[rows], axis=1)
    return mask.view(np.bool_)


def crossings(contours: Sequence[Contour], shape: Shape) -> IndexArray:
    """The voxels at which the mask of some contours changes along the rows.

    Parameters
    ----------
    contours : closed polygons
    shape : (K, J, I) of the mask

    Returns
    -------
    (M,) int64, sorted flat indices of the voxels that differ from their left neighbour, the left
    neighbour of a row's first voxel being outside

    Raises
    ------
    ValueError
        If a contour is on a slice outside the shape.
    """
    if not contours:
        return np.empty(0, dtype=np.int64)
    count_k, count_j, count_i = shape
    slices = np.array([contour.k for contour in contours])
    if slices.min() < 0 or slices.max() >= count_k:
        raise ValueError(f"Contours on slices {slices.min()} to {slices.max()} of {count_k}.")
    k, start, end = _edges(contours, slices)
    # Rows j with start_y <= j < end_y: half open, so a vertex on a row counts once.
    first = np.clip(np.ceil(start[:, 1]), 0, count_j).astype(np.int64)
    stop = np.clip(np.ceil(end[:, 1]), 0, count_j).astype(np.int64)
    rows = stop - first
    edge = np.repeat(np.arange(rows.size), rows)
    j = np.arange(edge.size) - np.repeat(np.cumsum(rows) - rows, rows) + first[edge]
    share = (j - start[edge, 1]) / (end[edge, 1] - start[edge, 1])
    x = start[edge, 0] + share * (end[edge, 0] - start[edge, 0])
    i = np.clip(np.ceil(x), 0, count_i).astype(np.int64)
    flat = ((k[edge] * count_j + j) * count_i + i)[i < count_i]
    voxels, times = np.unique(flat, return_counts=True)
    odd: IndexArray = voxels[times % 2 == 1]
    return odd


def _edges(contours: Sequence[Contour], slices: IndexArray) -> tuple[IndexArray, FloatArray, FloatArray]:
    """Slice, lower and upper end of every edge; the same numbers for both directions of an edge."""
    lengths = np.array([len(contour.points) for contour in contours])
    points = np.concatenate([contour.points for contour in contours])
    following = np.arange(len(points)) + 1
    ends = np.cumsum(lengths)
    occupied = lengths > 0
    following[ends[occupied] - 1] = (ends - lengths)[occupied]
    start, end = points, points[following]
    upward = (start[:, 1] <= end[:, 1])[:, None]
    return np.repeat(slices, lengths), np.where(upward, start, end), np.where(upward, end, start)


def label_crossings(labels: NDArray[np.uint8]) -> dict[int, IndexArray]:
    """The crossings of each organ of a label map.

    Parameters
    ----------
    labels : (K, J, I) uint8, 0 = no organ

    Returns
    -------
    for every label that occurs, what `crossings` returns for contours that enclose exactly its voxels
    """
    flips = np.empty(labels.shape, dtype=np.bool_)
    np.not_equal(labels[..., 0], 0, out=flips[..., 0])
    np.not_equal(labels[..., 1:], labels[..., :-1], out=flips[..., 1:])
    voxels = np.flatnonzero(flips)
    after = labels.reshape(-1)[voxels]
    before = np.where(voxels % labels.shape[2] == 0, 0, labels.reshape(-1)[voxels - 1])
    found = np.unique(after)
    return {int(label): voxels[(before == label) | (after == label)] for label in found[found > 0]}


def mask_crossings(mask: NDArray[np.bool_], start: Shape, shape: Shape) -> IndexArray:
    """The crossings of a mask: what `crossings` returns for contours that enclose exactly its voxels.

    Parameters
    ----------
    mask : bool, a block of voxels; all others are outside
    start : index of the block's first voxel
    shape : (K, J, I) of the whole image

    Returns
    -------
    (M,) int64, sorted flat indices into the whole image
    """
    padded = np.pad(mask, ((0, 0), (0, 0), (1, 1)))
    k, j, i = np.nonzero(padded[..., 1:] != padded[..., :-1])
    i = i + start[2]
    flat = ((k + start[0]) * shape[1] + j + start[1]) * shape[2] + i
    flips: IndexArray = flat[i < shape[2]].astype(np.int64)
    return flips
