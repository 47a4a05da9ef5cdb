"""Matrices along one axis do what nnU-Net's resampling of whole volumes does."""

from __future__ import annotations

import numpy as np
import pytest
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg
from scipy import ndimage
from skimage.transform import resize

from orgseg_node.inference.engine.resampling import cubic, linear, nearest

_SIZES = [(1, 1), (1, 5), (5, 1), (2, 3), (7, 7), (7, 13), (13, 7), (40, 41), (100, 33), (64, 200)]


@pytest.mark.parametrize(("inputs", "outputs"), _SIZES)
def test_cubic_is_scikit_images_resize(inputs: int, outputs: int) -> None:
    values = np.random.default_rng(inputs).normal(size=inputs)
    theirs = resize(values, (outputs,), 3, mode="edge", anti_aliasing=False, clip=False)
    how = cubic(inputs, outputs)
    assert np.allclose(how.weights @ values, theirs, rtol=0, atol=1e-14)
    in_bands = np.concatenate([band.weights @ values[band.columns] for band in how.bands()])
    assert np.allclose(in_bands, theirs, rtol=0, atol=1e-14)


def test_cubic_along_three_axes_is_scikit_images_resize_of_a_volume() -> None:
    values = np.random.default_rng(0).normal(size=(11, 12, 13))
    theirs = resize(values, (14, 10, 20), 3, mode="edge", anti_aliasing=False, clip=False)
    z, y, x = (cubic(a, b).weights for a, b in zip(values.shape, (14, 10, 20), strict=True))
    assert np.allclose(np.einsum("kz,jy,ix,zyx->kji", z, y, x, values), theirs, rtol=0, atol=1e-13)


def test_a_band_holds_every_weight_that_counts() -> None:
    how = cubic(300, 217)
    for band in how.bands():
        outside = how.weights[band.rows].copy()
        outside[:, band.columns] = 0
        assert np.abs(outside).max() <= 1e-18
    assert max(band.columns.stop - band.columns.start for band in how.bands()) < 200


@pytest.mark.parametrize(("inputs", "outputs"), [size for size in _SIZES if size[0] != size[1]])
def test_linear_is_scipys_zoom_to_the_bit(inputs: int, outputs: int) -> None:
    values = np.random.default_rng(outputs).normal(size=inputs)
    how = linear(inputs, outputs)
    theirs = ndimage.zoom(values, 1 / (inputs / outputs), order=1, mode="nearest", grid_mode=True)
    assert (values[how.low] * how.low_weight + values[how.high] * how.high_weight == theirs).all()
    assert not how.single


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 4), (4, 9), (9, 4), (10, 25), (25, 10), (6, 6), (7, 14)])
def test_nearest_takes_nnunets_slices(inputs: int, outputs: int) -> None:
    planes = np.broadcast_to(np.arange(inputs, dtype=float)[None, :, None, None], (1, inputs, 2, 2))
    theirs = resample_data_or_seg(
        planes, (outputs, 2, 2), axis=0, order=1, do_separate_z=True, order_z=0, dtype_out=float
    )
    how = nearest(inputs, outputs)
    assert (how.low == theirs[0, :, 0, 0]).all()
    assert (how.high == how.low).all()
    assert how.single
