"""Resampling along one axis at a time, with the results of nnU-Net's resampling of whole volumes.

nnU-Net resizes images with scikit-image (cubic splines) and logits likewise (linear), both of which end in
`scipy.ndimage.zoom` with ``mode="nearest"`` and ``grid_mode=True``. Both are separable: along each axis they
are a matrix that depends only on the number of samples before and after. So planes can be resampled one after
the other, and the whole volume is never needed at once. Plans can also name nnU-Net's resampling by PyTorch,
which is linear for images and logits, and separable, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_NEGLIGIBLE = 1e-18  # the weights of a cubic spline decrease by 0.27 per voxel; smaller ones change no sum
_BLOCK = 64


class Resampling(StrEnum):
    """Functions of nnU-Net that resample images and logits, by the names in its plans.

    They are not imported: the module of the first one would load pandas and scikit-image, which the engine
    does not need, and take 70 MB.
    """

    SPLINE = "resample_data_or_seg_to_shape"
    TORCH = "resample_torch_fornnunet"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Band:
    """Some output samples of a cubic resampling, and the input samples that they need.

    Attributes
    ----------
    rows, columns : the output samples, and the input samples with a weight that is not negligible
    weights : (rows, columns) float64
    """

    rows: slice
    columns: slice
    weights: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CubicResampling:
    """Cubic resampling along one axis.

    Attributes
    ----------
    weights : (outputs, inputs) float64
    first, last : first and last input sample that each output sample needs
    """

    weights: Floats
    first: Indices
    last: Indices

    def bands(self) -> tuple[Band, ...]:
        """The matrix in blocks of rows, each with its few columns: a third of the operations of the whole."""
        return tuple(
            self.band(start, min(start + _BLOCK, len(self.weights)))
            for start in range(0, len(self.weights), _BLOCK)
        )

    def band(self, start: int, stop: int) -> Band:
        """The rows from ``start`` to ``stop``, ``stop`` exclusive."""
        columns = slice(int(self.first[start:stop].min()), int(self.last[start:stop].max()) + 1)
        rows = slice(start, stop)
        return Band(rows=rows, columns=columns, weights=np.ascontiguousarray(self.weights[rows, columns]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinearInterpolation:
    """Linear interpolation along one axis; also the nearest sample, or no change.

    Attributes
    ----------
    low, high : the two input samples of each output sample
    low_weight, high_weight : their weights, float64; if ``single``, the high one is not used
    single : whether each output sample needs only one input sample
    """

    low: Indices
    high: Indices
    low_weight: Floats
    high_weight: Floats
    single: bool

    def within(self, first: int, stop: int) -> tuple[slice, LinearInterpolation]:
        """The interpolation if only some input samples are known.

        Parameters
        ----------
        first, stop : the input samples that are known, ``stop`` exclusive

        Returns
        -------
        the output samples that need no other ones, and their interpolation from the known samples
        """
        found = np.flatnonzero((self.low >= first) & (self.high < stop))
        outputs = slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, 0)
        return outputs, LinearInterpolation(
            low=self.low[outputs] - first,
            high=self.high[outputs] - first,
            low_weight=self.low_weight[outputs],
            high_weight=self.high_weight[outputs],
            single=self.single,
        )


@lru_cache(maxsize=16)
def cubic(inputs: int, outputs: int) -> CubicResampling:
    """The matrix of a cubic resampling: its columns are unit vectors resampled by scipy's own zoom.

    Parameters
    ----------
    inputs, outputs : number of samples
    """
    weights = np.empty((outputs, inputs))
    unit = np.zeros(inputs)
    factor = 1 / (inputs / outputs)
    for column in range(inputs):
        unit[column] = 1.0
        weights[:, column] = ndimage.zoom(unit, factor, order=3, mode="nearest", grid_mode=True)
        unit[column] = 0.0
    used = np.abs(weights) > _NEGLIGIBLE
    return CubicResampling(
        weights=weights, first=used.argmax(axis=1), last=inputs - 1 - used[:, ::-1].argmax(axis=1)
    )


def linear(inputs: int, outputs: int) -> LinearInterpolation:
    """Linear interpolation as `scipy.ndimage.zoom` does it, to the bit.

    The coordinates and weights are computed by the same operations in the same order as in scipy's C code
    (``NI_ZoomShift``, ``get_spline_interpolation_weights``).
    """
    zoom = np.float64(inputs) / np.float64(outputs)
    at = (np.arange(outputs, dtype=np.float64) + 0.5) * zoom - 0.5
    low = np.floor(at).astype(np.int64)
    low_weight = 1.0 - (at - np.floor(at))
    return LinearInterpolation(
        low=np.clip(low, 0, inputs - 1),
        high=np.clip(low + 1, 0, inputs - 1),
        low_weight=low_weight,
        high_weight=1.0 - low_weight,
        single=False,
    )


def nearest(inputs: int, outputs: int) -> LinearInterpolation:
    """The nearest sample, as nnU-Net takes it along the axis of thick slices."""
    if inputs == outputs:
        return _single(np.arange(outputs))
    at = inputs / outputs * (np.arange(outputs) + 0.5) - 0.5
    found = ndimage.map_coordinates(np.arange(inputs, dtype=float), [at], order=0, mode="nearest")
    return _single(found.astype(np.int64))


def torch_linear(inputs: int, outputs: int) -> LinearInterpolation:
    """Linear interpolation as `torch.nn.functional.interpolate` does it; its weights are float32 numbers.

    The coordinates are computed in float32, with one rounding of product and sum, as PyTorch's code for CPUs
    with fused multiply-add does. PyTorch's sums are not repeated to the bit: its last bit depends on where in
    the array a number stands, as its loops are partly vectorised.
    """
    scale = np.float64(np.float32(inputs) / np.float32(outputs))
    at = (scale * (np.arange(outputs) + 0.5) - 0.5).astype(np.float32)
    at = np.maximum(at, np.float32(0))
    low = np.minimum(at.astype(np.int64), inputs - 1)
    high_weight = np.clip(at - low.astype(np.float32), np.float32(0), np.float32(1))
    return LinearInterpolation(
        low=low,
        high=np.minimum(low + 1, inputs - 1),
        low_weight=(np.float32(1) - high_weight).astype(np.float64),
        high_weight=high_weight.astype(np.float64),
        single=False,
    )


def torch_nearest(inputs: int, outputs: int) -> LinearInterpolation:
    """The nearest sample, as nnU-Net's resampling by PyTorch takes it along the axis of thick slices."""
    if inputs == outputs:
        return _single(np.arange(outputs))
    numbers = torch.arange(inputs, dtype=torch.float32).view(1, 1, -1)
    found = torch.nn.functional.interpolate(numbers, outputs, mode="nearest-exact")
    return _single(found.view(-1).numpy().astype(np.int64))


def _single(index: Indices) -> LinearInterpolation:
    ones = np.ones(len(index))
    return LinearInterpolation(
        low=index, high=index, low_weight=ones, high_weight=np.zeros(len(index)), single=True
    )
