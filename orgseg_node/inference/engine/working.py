"""The CT as the network sees it, plane by plane: cut, normalised and resampled exactly as nnU-Net does.

nnU-Net transposes the axes, crops to what is not zero, clips and scales the Hounsfield units, and resamples
with cubic splines, each step on the whole volume. Here a plane of the working grid is made when it is asked
for, from the few slices that it needs. All is done in float64 and rounded to float32 at the end, as there;
the sums are taken in another order, which is not seen in the rounded numbers, except now and then in the last
bit of one that nearly cancels to 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.geometry import Box, Shape
from orgseg_node.inference.engine.resampling import Cubic, Floats, Indices, cubic, nearest

_AT_ONCE = 16  # working planes that are made together in float64
_IN_MEMORY = 64  # working planes whose slices are held together in float64


@dataclass(frozen=True, slots=True, kw_only=True)
class Intensities:
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
        """Hounsfield units as the network wants them, by nnU-Net's operations in its precision."""
        image: NDArray[np.float32] = hu.astype(np.float32)
        np.clip(image, self.low, self.high, out=image)
        image -= self.mean
        image /= max(self.std, 1e-8)
        return image


@dataclass(frozen=True, slots=True, kw_only=True)
class Regrid:
    """From which grid to which, and how.

    Attributes
    ----------
    source, target : shape before and after
    thick_axis : axis of thick slices, along which the nearest sample is taken; None where there is none
    """

    source: Shape
    target: Shape
    thick_axis: int | None

    @property
    def changes(self) -> bool:
        """Whether anything is resampled at all."""
        return self.source != self.target


def nonzero_box(hu: NDArray[Any]) -> Box | None:
    """The part of a CT that is not zero, to which nnU-Net crops; None if all of it is zero.

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


class WorkingVolume:
    """The normalised and resampled CT, made plane by plane.

    Parameters
    ----------
    hu : (K, J, I) Hounsfield units, axes in the order of the network's plans, cut to what is not zero
    intensities : how they are normalised
    regrid : the grid of ``hu`` and the working grid
    """

    def __init__(self, hu: NDArray[Any], intensities: Intensities, regrid: Regrid) -> None:
        self._hu = hu
        self._intensities = intensities
        self._regrid = regrid
        self._held: NDArray[np.float32] | None = None
        thick = regrid.thick_axis
        takes = [
            _along(a, b, thick=n == thick)
            for n, (a, b) in enumerate(zip(regrid.source, regrid.target, strict=True))
        ]
        self._planes, self._rows, self._columns = takes
        self._bounds = self._find_bounds() if regrid.changes else None

    @property
    def shape(self) -> Shape:
        """Number of voxels of the working grid."""
        return self._regrid.target

    def hold(self) -> None:
        """Make all planes now and keep them, for networks that see the same working volume."""
        if self._held is None:
            held = np.empty(self.shape, dtype=np.float32)
            for start in range(0, len(held), _IN_MEMORY):
                stop = min(start + _IN_MEMORY, len(held))
                held[start:stop] = self.planes(start, stop)
            self._held = held

    def planes(self, start: int, stop: int) -> NDArray[np.float32]:
        """Planes ``start`` to ``stop`` of the working volume.

        Returns
        -------
        (stop - start, rows, columns) float32; may be a view, which must not be written to
        """
        if self._held is not None:
            return self._held[start:stop]
        if not self._regrid.changes:
            return self._intensities.normalise(self._hu[start:stop])
        made = np.empty((stop - start, *self.shape[1:]), dtype=np.float32)
        needed, source = self._source(start, stop)
        for first in range(start, stop, _AT_ONCE):
            last = min(first + _AT_ONCE, stop)
            made[first - start : last - start] = self._make(first, last, source, needed.start)
        return made

    def _source(self, start: int, stop: int) -> tuple[range, Floats]:
        """The slices that some planes need, resampled along rows and columns, in float64."""
        if isinstance(self._planes, Cubic):
            columns = self._planes.band(start, stop).columns
            needed = range(columns.start, columns.stop)
        elif self._planes is None:
            needed = range(start, stop)
        else:
            needed = range(int(self._planes[start]), int(self._planes[stop - 1]) + 1)
        source = np.empty((len(needed), *self.shape[1:]))
        for number, k in enumerate(needed):
            slice_ = self._intensities.normalise(self._hu[k]).astype(np.float64)
            source[number] = _resample(_resample(slice_, self._rows).T, self._columns).T
        return needed, source

    def _make(self, start: int, stop: int, source: Floats, offset: int) -> Floats:
        """Planes from slices, of which the first is number ``offset`` of the CT."""
        if isinstance(self._planes, Cubic):
            band = self._planes.band(start, stop)
            rows = source[band.columns.start - offset : band.columns.stop - offset]
            made = (band.weights @ rows.reshape(len(rows), -1)).reshape(stop - start, *self.shape[1:])
        else:
            picked = np.arange(start, stop) if self._planes is None else self._planes[start:stop]
            made = source[picked - offset]
        return self._clip(made, start, stop)

    def _clip(self, made: Floats, start: int, stop: int) -> Floats:
        """Splines overshoot; nnU-Net clips to the range of the volume, or of each thick slice."""
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
        normalise = self._intensities.normalise  # it keeps the order of values, so the extremes stay extremes
        return normalise(np.asarray(low)).astype(np.float64), normalise(np.asarray(high)).astype(np.float64)


def _along(inputs: int, outputs: int, *, thick: bool) -> Cubic | Indices | None:
    """What is done along one axis: nothing, the nearest sample, or cubic resampling."""
    if inputs == outputs:  # a spline through its own samples is the samples
        return None
    return nearest(inputs, outputs).low if thick else cubic(inputs, outputs)


def _resample(array: Floats, how: Cubic | Indices | None) -> Floats:
    """Resample a plane along its first axis."""
    if how is None:
        return array
    if not isinstance(how, Cubic):
        return array[how]
    made = np.empty((len(how.weights), array.shape[1]))
    for band in how.bands():
        np.matmul(band.weights, array[band.columns], out=made[band.rows])
    return made
