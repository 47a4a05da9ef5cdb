"""The tiles are those of nnU-Net, and no later tile covers a final plane."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian

from orgseg_node.core.geometry import Shape
from orgseg_node.inference.engine.label_planes import interpolation_axes
from orgseg_node.inference.engine.tiles import Tiling, gaussian_weights, needed_tiles
from orgseg_node.inference.engine.working import Regrid

_CASES: list[tuple[Shape, Shape, float]] = [
    ((30, 41, 52), (16, 16, 16), 0.5),
    ((7, 41, 9), (16, 12, 16), 0.5),
    ((33, 8, 17), (5, 8, 16), 0.3),
    ((20, 20, 20), (8, 8, 8), 1.0),
    ((6, 20, 20), (1, 8, 8), 0.3),
    ((3, 2, 1), (4, 4, 4), 0.5),
]


def _starts(tiling: Tiling) -> list[tuple[int, ...]]:
    return list(itertools.product(*tiling.starts))


@pytest.mark.parametrize(("shape", "patch", "step"), _CASES)
def test_tiles_and_padding_are_nnunets(shape: Shape, patch: Shape, step: float) -> None:
    tiling = Tiling.covering(shape, patch, step)
    image = torch.ones((1, *shape))
    padded, cut = pad_nd_image(image, patch, "constant", {"value": 0}, return_slicer=True)
    assert tiling.padded_shape == tuple(padded.shape[1:])
    ends = [(b, b + n) for b, n in zip(tiling.padding_before, shape, strict=True)]
    assert ends == [(s.start, s.stop) for s in cut[1:]]
    predictor = nnUNetPredictor(tile_step_size=step, device=torch.device("cpu"), allow_tqdm=False)
    predictor.configuration_manager = SimpleNamespace(patch_size=list(patch))
    theirs = predictor._internal_get_sliding_window_slicers(tuple(padded.shape[1:]))
    assert _starts(tiling) == [tuple(s.start for s in slicer[1:]) for slicer in theirs]


@pytest.mark.parametrize(("shape", "patch", "step"), _CASES)
def test_final_planes_are_all_planes_once_and_no_later_tile_covers_them(
    shape: Shape, patch: Shape, step: float
) -> None:
    tiling = Tiling.covering(shape, patch, step)
    starts, planes = tiling.starts[0], []
    for number, (start, final) in enumerate(zip(starts, tiling.final_planes, strict=True)):
        new_planes = range(start, start + final)
        assert all(later > plane for plane in new_planes for later in starts[number + 1 :])
        assert final <= patch[0]
        planes += new_planes
    assert planes == list(range(tiling.padded_shape[0]))


def test_the_weights_are_nnunets_gaussian_in_half() -> None:
    ours = gaussian_weights((6, 9, 12), torch.device("cpu"))
    theirs = compute_gaussian(
        (6, 9, 12), sigma_scale=1.0 / 8, value_scaling_factor=10, device=torch.device("cpu")
    )
    assert ours.dtype == torch.half
    assert torch.equal(ours, theirs)
    assert ours.min() > 0
    assert ours.max() == 10


@pytest.mark.parametrize("target", [(30, 26, 40), (12, 52, 21), (20, 24, 30)])
@pytest.mark.parametrize("thick_axis", [None, 0, 1])
def test_a_tile_is_needed_if_a_voxel_of_the_region_is_interpolated_from_it(
    target: Shape, thick_axis: int | None
) -> None:
    axes = interpolation_axes(Regrid(source=(20, 24, 30), target=target, thick_axis=thick_axis))
    tiling = Tiling.covering((20, 24, 30), (8, 32, 10), 0.5)
    rng = np.random.default_rng(4)
    for _ in range(10):
        inside = np.zeros(target, dtype=bool)
        voxels = [tuple(rng.integers(0, target)) for _ in range(2)]
        for voxel in voxels:
            inside[voxel] = True
        expected = set()
        for voxel in voxels:
            pairs = [{int(axis.low[n]), int(axis.high[n])} for axis, n in zip(axes, voxel, strict=True)]
            for number, start in enumerate(_starts(tiling)):
                lows = [s - b for s, b in zip(start, tiling.padding_before, strict=True)]
                if all(
                    any(low <= at < low + size for at in pair)
                    for pair, low, size in zip(pairs, lows, tiling.patch, strict=True)
                ):
                    expected.add(number)
        found = needed_tiles(tiling, inside, axes)
        assert found.shape == tuple(len(starts) for starts in tiling.starts)
        assert set(np.flatnonzero(found)) == expected


def test_an_empty_region_needs_no_tile() -> None:
    axes = interpolation_axes(Regrid(source=(20, 24, 30), target=(10, 12, 15), thick_axis=None))
    tiling = Tiling.covering((20, 24, 30), (8, 8, 8), 0.5)
    assert not needed_tiles(tiling, np.zeros((10, 12, 15), dtype=bool), axes).any()
