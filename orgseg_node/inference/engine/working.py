"""The input of a network, plane by plane: cropped, normalised and resampled exactly as nnU-Net does.

nnU-Net transposes the axes, crops to the non-zero part, clips and scales the Hounsfield units, and resamples
with cubic splines, each step on the whole volume. Here a plane of the working grid is computed on request,
from the few slices that it needs. As in nnU-Net, all is computed in float64 and rounded to float32 at the
end. The order of the sums differs; the rounded numbers are the same, except sometimes the last bit of a
number that nearly cancels to 0. Where plans name PyTorch's resampling, it is linear, and the last bit of its
float32 may differ.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from orgseg_node.core.geometry import Box, Shape
from orgseg_node.inference.engine.resampling import (
    CubicResampling,
    Floats,
    Indices,
    Resampling,
    cubic,
    nearest,
    torch_linear,
    torch_nearest,
)

_BLOCK = 16  # working planes that are computed together in float64
_PRECOMPUTE_BLOCK = 64  # working planes whose slices are in memory together in float64


@dataclass(frozen=True, slots=True, kw_only=True)
class HuNormalisation:
    """nnU-Net's ``CTNormalization``: clip to percentiles, then subtract the mean and divide by the deviation.

    Attributes
    ----------
    low, high : percentiles 0.5 and 99.5 of the training data, HU
    mean, std : of the training data, HU
    """

    low: float
    high: float
    mean: float
    std: float

    def normalise(self, hu: NDArray[Any]) -> NDArray[np.float32]:
        """Normalised Hounsfield units, float32, by nnU-Net's operations in its precision."""
        image: NDArray[np.float32] = hu.astype(np.float32)
        np.clip(image, self.low, self.high, out=image)
        image -= self.mean
        image /= max(self.std, 1e-8)
        return image


@dataclass(frozen=True, slots=True, kw_only=True)
class Regrid:
    """A resampling from one grid to another.

    Attributes
    ----------
    source, target : shape before and after
    thick_axis : axis of thick slices, along which the nearest sample is taken; None if there is none
    method : by which function
    """

    source: Shape
    target: Shape
    thick_axis: int | None
    method: Resampling = Resampling.SPLINE

    @property
    def changes(self) -> bool:
        """Whether the shape changes at all."""
        return self.source != self.target


def nonzero_box(hu: NDArray[Any]) -> Box | None:
    """The bounding box of the voxels that are not zero, to which nnU-Net crops; None if all are zero.

    nnU-Net also fills holes first, which cannot change a bounding box.
    """
    slices = np.array([bool(plane.any()) for plane in hu])
    if not slices.any():
        return None
    rows, columns = np.zeros(hu.shape[1], dtype=bool), np.zeros(hu.shape[2], dtype=bool)
    for plane in hu:
        occupied = plane != 0
        rows |= occupied.any(axis=1)
        columns |= occupied.any(axis=0)
    ends = [(int(np.argmax(a)), len(a) - int(np.argmax(a[::-1]))) for a in (slices, rows, columns)]
    (k0, k1), (j0, j1), (i0, i1) = ends
    return Box(start=(k0, j0, i0), stop=(k1, j1, i1))


class WorkingVolume(ABC):
    """The normalised and resampled CT, computed plane by plane; see `working_volume`.

    Parameters
    ----------
    hu : (K, J, I) Hounsfield units, axes of the network, cropped to the non-zero part
    normalisation : how they are normalised
    regrid : resampling from the grid of ``hu`` to the working grid
    """

    def __init__(self, hu: NDArray[Any], normalisation: HuNormalisation, regrid: Regrid) -> None:
        self._hu = hu
        self._normalisation = normalisation
        self._regrid = regrid
        self._cached: NDArray[np.float32] | None = None

    @property
    def shape(self) -> Shape:
        """Number of voxels of the working grid."""
        return self._regrid.target

    def precompute(self) -> None:
        """Compute all planes now and keep them, for networks that share this working volume."""
        if self._cached is None:
            planes = np.empty(self.shape, dtype=np.float32)
            for start in range(0, len(planes), _PRECOMPUTE_BLOCK):
                stop = min(start + _PRECOMPUTE_BLOCK, len(planes))
                planes[start:stop] = self.planes(start, stop)
            self._cached = planes

    def planes(self, start: int, stop: int) -> NDArray[np.float32]:
        """Planes ``start`` to ``stop`` of the working volume.

        Returns
        -------
        (stop - start, rows, columns) float32; may be a view and must not be changed
        """
        if self._cached is not None:
            return self._cached[start:stop]
        if not self._regrid.changes:
            return self._normalisation.normalise(self._hu[start:stop])
        return self._resampled(start, stop)

    @abstractmethod
    def _resampled(self, start: int, stop: int) -> NDArray[np.float32]:
        """Planes ``start`` to ``stop``, resampled."""


def working_volume(hu: NDArray[Any], normalisation: HuNormalisation, regrid: Regrid) -> WorkingVolume:
    """The working volume of a CT, resampled by the function that the plans name.

    Parameters
    ----------
    hu, normalisation, regrid : see `WorkingVolume`
    """
    kind = _TorchVolume if regrid.method is Resampling.TORCH else _SplineVolume
    return kind(hu, normalisation, regrid)


class _TorchVolume(WorkingVolume):
    """Resampled linearly: along rows and columns by PyTorch itself, from slice to slice with its weights."""

    def _resampled(self, start: int, stop: int) -> NDArray[np.float32]:
        (slices, _, _), thick = self._regrid.source, self._regrid.thick_axis
        along = (torch_nearest if thick == 0 else torch_linear)(slices, self.shape[0])
        low, high = along.low[start:stop], along.high[start:stop]
        first = int(low[0])
        source = self._in_plane(first, int(high[-1]) + 1)
        if along.single:
            return source.numpy()[low - first]
        made = np.empty((stop - start, *self.shape[1:]), dtype=np.float32)
        for number, (one, other) in enumerate(zip(low - first, high - first, strict=True)):
            low_weight, high_weight = along.low_weight[start + number], along.high_weight[start + number]
            made[number] = low_weight * source[one].double() + high_weight * source[other].double()
        return made

    def _in_plane(self, start: int, stop: int) -> torch.Tensor:
        """Some slices of the CT, resampled along rows and columns."""
        planes = torch.from_numpy(self._normalisation.normalise(self._hu[start:stop]))
        (_, *before), (_, *after), thick = self._regrid.source, self._regrid.target, self._regrid.thick_axis
        linear = [
            old if axis == thick else new
            for axis, (old, new) in enumerate(zip(before, after, strict=True), 1)
        ]
        if linear != before:
            planes = torch.nn.functional.interpolate(planes[None], linear, mode="bilinear")[0]
        if thick in {1, 2}:
            picked = torch_nearest(self._regrid.source[thick], self._regrid.target[thick]).low
            planes = planes.index_select(thick, torch.from_numpy(picked))
        return planes


class _SplineVolume(WorkingVolume):
    """Resampled with cubic splines, computed in float64."""

    def __init__(self, hu: NDArray[Any], normalisation: HuNormalisation, regrid: Regrid) -> None:
        super().__init__(hu, normalisation, regrid)
        thick = regrid.thick_axis
        per_axis = [
            _axis_resampling(a, b, thick=n == thick)
            for n, (a, b) in enumerate(zip(regrid.source, regrid.target, strict=True))
        ]
        self._planes, self._rows, self._columns = per_axis
        self._bounds = self._find_bounds() if regrid.changes else None

    def _resampled(self, start: int, stop: int) -> NDArray[np.float32]:
        made = np.empty((stop - start, *self.shape[1:]), dtype=np.float32)
        needed, source = self._source(start, stop)
        for first in range(start, stop, _BLOCK):
            last = min(first + _BLOCK, stop)
            made[first - start : last - start] = self._planes_from(first, last, source, needed.start)
        return made

    def _source(self, start: int, stop: int) -> tuple[range, Floats]:
        """The slices that some planes need: their numbers, and float64 resampled along rows and columns."""
        if isinstance(self._planes, CubicResampling):
            columns = self._planes.band(start, stop).columns
            needed = range(columns.start, columns.stop)
        elif self._planes is None:
            needed = range(start, stop)
        else:
            needed = range(int(self._planes[start]), int(self._planes[stop - 1]) + 1)
        source = np.empty((len(needed), *self.shape[1:]))
        for number, k in enumerate(needed):
            slice_ = self._normalisation.normalise(self._hu[k]).astype(np.float64)
            source[number] = _resample(_resample(slice_, self._rows).T, self._columns).T
        return needed, source

    def _planes_from(self, start: int, stop: int, source: Floats, offset: int) -> Floats:
        """Planes from resampled slices, the first of which is slice ``offset`` of the CT."""
        if isinstance(self._planes, CubicResampling):
            band = self._planes.band(start, stop)
            rows = source[band.columns.start - offset : band.columns.stop - offset]
            made = (band.weights @ rows.reshape(len(rows), -1)).reshape(stop - start, *self.shape[1:])
        else:
            picked = np.arange(start, stop) if self._planes is None else self._planes[start:stop]
            made = source[picked - offset]
        return self._clip(made, start, stop)

    def _clip(self, made: Floats, start: int, stop: int) -> Floats:
        """Clip the splines' overshoot as nnU-Net does: to the range of the volume, or of each thick slice."""
        if self._bounds is None:  # pragma: no cover  # without resampling nothing overshoots
            return made
        low, high = self._bounds
        thick = self._regrid.thick_axis
        if thick is not None:
            picked = nearest(self._regrid.source[thick], self._regrid.target[thick]).low
            shape = [1, 1, 1]
            shape[thick] = -1
            low, high = (bound[picked].reshape(shape) for bound in (low, high))
            if thick == 0:
                low, high = low[start:stop], high[start:stop]
        return np.clip(made, low, high, out=made)

    def _find_bounds(self) -> tuple[Floats, Floats]:
        """Smallest and largest normalised value: of all, or of each slice along the axis of thick slices."""
        thick = self._regrid.thick_axis
        if thick in {None, 0}:
            low = np.array([plane.min() for plane in self._hu])
            high = np.array([plane.max() for plane in self._hu])
            if thick is None:
                low, high = low.min(), high.max()
        else:
            across = 1 if thick == 2 else 2
            low = np.min([plane.min(axis=across - 1) for plane in self._hu], axis=0)
            high = np.max([plane.max(axis=across - 1) for plane in self._hu], axis=0)
        normalise = self._normalisation.normalise  # monotonic, so it maps extremes to extremes
        return normalise(np.asarray(low)).astype(np.float64), normalise(np.asarray(high)).astype(np.float64)


class WorkingPart:
    """A part of a working volume, for tiles that cover only this part.

    Parameters
    ----------
    working : the whole working volume
    part : in its voxels
    """

    def __init__(self, working: WorkingVolume, part: Box) -> None:
        self._working = working
        self._part = part

    @property
    def shape(self) -> Shape:
        """Number of voxels of the part."""
        return self._part.shape

    def planes(self, start: int, stop: int) -> NDArray[np.float32]:
        """Planes ``start`` to ``stop`` of the part; see `WorkingVolume.planes`."""
        first, (_, rows, columns) = self._part.start[0], self._part.slices
        return self._working.planes(first + start, first + stop)[:, rows, columns]


def _axis_resampling(inputs: int, outputs: int, *, thick: bool) -> CubicResampling | Indices | None:
    """The resampling along one axis: none, the nearest sample, or cubic."""
    if inputs == outputs:  # a spline through its own samples is the samples
        return None
    return nearest(inputs, outputs).low if thick else cubic(inputs, outputs)


def _resample(array: Floats, how: CubicResampling | Indices | None) -> Floats:
    """Resample a plane along its first axis."""
    if how is None:
        return array
    if not isinstance(how, CubicResampling):
        return array[how]
    made = np.empty((len(how.weights), array.shape[1]))
    for band in how.bands():
        np.matmul(band.weights, array[band.columns], out=made[band.rows])
    return made
