"""Distances between the surfaces of two masks: mean distance, Hausdorff distances, surface Dice.

Surface elements are those of Nikolov et al., J. Med. Internet Res. 23 (2021) e26151: one for each cell of
eight neighbouring voxels with both inside and outside voxels, at the centre of the cell, weighted by its area
(`elements`). The weights are correct for slices that are thicker than the pixels are wide, and for oblique
surfaces. Distances are exact in mm on the anisotropic grid.

If the scan cuts an organ, the cut is no surface of the organ: its elements have no area. Distances may still
be measured to them; otherwise an organ that ends one slice too early would have an error of its own radius.

The package surface-distance, the reference implementation, is not used: its last release cannot handle
empty masks with NumPy 2 and treats the cut as surface. Tests compare this module with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from orgseg_node.core.geometry import Box, FloatArray, Vector
from orgseg_node.core.metrics.elements import CORNER_BITS, INSIDE, element_areas
from orgseg_node.core.volume import Mask

_EMPTY = np.zeros(0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SurfaceDistances:
    """Distance from every element of each surface to the other surface.

    Attributes
    ----------
    to_prediction_mm, reference_mm2 : (N,) of the elements of the reference: distance and area
    to_reference_mm, prediction_mm2 : (M,) of the elements of the prediction: distance and area
    """

    to_prediction_mm: FloatArray
    reference_mm2: FloatArray
    to_reference_mm: FloatArray
    prediction_mm2: FloatArray

    @property
    def is_defined(self) -> bool:
        """Whether both masks have a surface."""
        return bool(self.reference_mm2.sum() > 0 and self.prediction_mm2.sum() > 0)

    @property
    def mean_mm(self) -> float:
        """Mean surface distance: both surfaces pooled, weighted by area (average symmetric surface distance).

        Heimann et al., IEEE Trans. Med. Imaging 28 (2009) 1251, with areas instead of voxel counts.
        """
        if not self.is_defined:
            return float("nan")
        total = self.reference_mm2.sum() + self.prediction_mm2.sum()
        return float(
            (self.to_prediction_mm @ self.reference_mm2 + self.to_reference_mm @ self.prediction_mm2) / total
        )

    @property
    def hausdorff_mm(self) -> float:
        """Hausdorff distance: the larger of the two directed largest distances."""
        return self.percentile_mm(100.0)

    @property
    def hausdorff95_mm(self) -> float:
        """HD95: the larger of the two directed distances within which 95 % of the surface is."""
        return self.percentile_mm(95.0)

    def percentile_mm(self, percent: float) -> float:
        """The larger of the two directed distances in mm within which this percentage of the area is."""
        if not self.is_defined:
            return float("nan")
        return max(
            _percentile(self.to_prediction_mm, self.reference_mm2, percent),
            _percentile(self.to_reference_mm, self.prediction_mm2, percent),
        )

    def surface_dice(self, tolerance_mm: float) -> float:
        """Surface Dice: the fraction of both surfaces that is within a tolerance of the other; 1 is perfect.

        Nikolov et al., J. Med. Internet Res. 23 (2021) e26151.
        """
        if not self.is_defined:
            return float("nan")
        near = self.reference_mm2[self.to_prediction_mm <= tolerance_mm].sum()
        near += self.prediction_mm2[self.to_reference_mm <= tolerance_mm].sum()
        return float(near / (self.reference_mm2.sum() + self.prediction_mm2.sum()))


def surface_distances(
    reference: Mask, prediction: Mask, spacing_mm: Vector, *, within: Mask | None = None
) -> SurfaceDistances:
    """The distances from every element of each surface to the other surface.

    Only the common bounding box is searched, and only elements that are not common to both surfaces.

    Parameters
    ----------
    reference, prediction : (K, J, I) bool, the whole scan or a box of it with a margin of one voxel
    spacing_mm : distance of voxel centres along ``(k, j, i)``
    within : (K, J, I) bool; only elements that touch one of its voxels have an area; all when None

    Returns
    -------
    Without elements if one of the masks is empty.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"Masks of {reference.shape} and {prediction.shape} voxels cannot be compared.")
    if not reference.any() or not prediction.any():
        return SurfaceDistances(
            to_prediction_mm=_EMPTY, reference_mm2=_EMPTY, to_reference_mm=_EMPTY, prediction_mm2=_EMPTY
        )
    box = Box.around(reference | prediction)
    at_edge = [
        (start == 0, stop == size)
        for start, stop, size in zip(box.start, box.stop, reference.shape, strict=True)
    ]
    areas = element_areas(spacing_mm)
    ours, theirs = _codes(prediction[box.slices]), _codes(reference[box.slices])
    here, there = _points(theirs), _points(ours)
    reference_mm2, prediction_mm2 = _areas(theirs, here, areas, at_edge), _areas(ours, there, areas, at_edge)
    if within is not None:
        touched = _codes(within[box.slices]).ravel() != 0
        reference_mm2, prediction_mm2 = reference_mm2 * touched[here], prediction_mm2 * touched[there]
    return SurfaceDistances(
        to_prediction_mm=_nearest(here, there, spacing_mm, theirs.shape),
        reference_mm2=reference_mm2,
        to_reference_mm=_nearest(there, here, spacing_mm, theirs.shape),
        prediction_mm2=prediction_mm2,
    )


_Codes = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]
_Points = np.ndarray[tuple[int], np.dtype[np.int64]]


def _codes(mask: Mask) -> _Codes:
    """(K + 1, J + 1, I + 1) code of each cell of a mask, with background around it."""
    padded = np.pad(mask, 1).view(np.uint8)
    k, j, i = (n + 1 for n in mask.shape)
    codes = np.zeros((k, j, i), np.uint8)
    for (dk, dj, di), bit in CORNER_BITS.items():
        codes |= padded[dk : dk + k, dj : dj + j, di : di + i] << np.uint8(bit)
    return codes


def _points(codes: _Codes) -> _Points:
    """Flat indices of the cells that the surface crosses."""
    return np.flatnonzero((codes != 0) & (codes != INSIDE))


def _areas(codes: _Codes, points: _Points, areas: FloatArray, at_edge: list[tuple[bool, bool]]) -> FloatArray:
    """Area in mm2 of each element, 0 at the ends of the scan."""
    found: FloatArray = areas[codes.ravel()[points]]
    for axis, (first, last) in enumerate(at_edge):
        places = np.unravel_index(points, codes.shape)[axis]
        if first:
            found[places == 0] = 0.0
        if last:
            found[places == codes.shape[axis] - 1] = 0.0
    return found


def _nearest(here: _Points, there: _Points, spacing_mm: Vector, shape: tuple[int, ...]) -> FloatArray:
    """Distance in mm from each element of one surface to the nearest of the other."""
    distances = np.zeros(here.size)
    apart = ~np.isin(here, there, assume_unique=True)
    if apart.any():
        scale = np.asarray(spacing_mm)
        goals = np.stack(np.unravel_index(there, shape), axis=1) * scale
        starts = np.stack(np.unravel_index(here[apart], shape), axis=1) * scale
        distances[apart] = KDTree(goals, balanced_tree=False, compact_nodes=False).query(starts)[0]
    return distances


def _percentile(distances_mm: FloatArray, areas_mm2: FloatArray, percent: float) -> float:
    counted = areas_mm2 > 0
    order = np.argsort(distances_mm[counted])
    reached = np.cumsum(areas_mm2[counted][order])
    index = int(np.searchsorted(reached, reached[-1] * percent / 100.0))
    return float(distances_mm[counted][order[min(index, order.size - 1)]])
