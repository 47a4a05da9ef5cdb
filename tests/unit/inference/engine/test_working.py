"""Planes of the working volume are those of nnU-Net's preprocessor, in blocks of any size."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from nnunetv2.preprocessing.normalization.default_normalization_schemes import CTNormalization
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg
from nnunetv2.preprocessing.resampling.resample_torch import resample_torch_fornnunet

from orgseg_node.core.geometry import Shape
from orgseg_node.inference.engine.resampling import Resampling
from orgseg_node.inference.engine.working import HuNormalisation, Regrid, nonzero_box, working_volume
from tests.support.models.nnunet_reference import noise

_CT = HuNormalisation(low=-200.0, high=300.0, mean=33.3, std=121.7)
_GRIDS = [
    ((70, 24, 22), (101, 20, 30), None),
    ((70, 24, 22), (41, 24, 33), None),
    ((70, 24, 22), (70, 30, 22), None),
    ((40, 24, 22), (61, 31, 19), 0),
    ((40, 24, 22), (40, 31, 19), 0),
    ((40, 24, 22), (51, 17, 19), 1),
    ((40, 24, 22), (31, 27, 40), 2),
    ((40, 24, 22), (40, 24, 22), None),
]


def _nnunets(hu: np.ndarray, shape: Shape, thick: int | None) -> np.ndarray:
    properties = {"mean": _CT.mean, "std": _CT.std, "percentile_00_5": _CT.low, "percentile_99_5": _CT.high}
    image = CTNormalization(use_mask_for_norm=False, intensityproperties=properties).run(hu)
    made = resample_data_or_seg(
        image[None], shape, axis=thick, order=3, do_separate_z=thick is not None, order_z=0
    )
    return np.asarray(made[0])


def _alike(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Equal to the last bit; where a spline cancels out to nearly nothing, to 1e-15."""
    differ = ours != theirs
    return bool(np.count_nonzero(differ) < 1e-4 * ours.size and np.all(np.abs(ours - theirs) < 1e-15))


@pytest.mark.parametrize(("source", "target", "thick"), _GRIDS)
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_all_planes_at_once_are_nnunets(
    source: Shape, target: Shape, thick: int | None, dtype: type[np.generic]
) -> None:
    hu = noise(source).astype(dtype)
    made = working_volume(hu, _CT, Regrid(source=source, target=target, thick_axis=thick)).planes(
        0, target[0]
    )
    assert made.dtype == np.float32
    assert _alike(made, _nnunets(hu, target, thick))


def _spacings(thick: int | None) -> tuple[list[float], list[float]]:
    """Spacings with which nnU-Net takes this axis for the one of thick slices."""
    before = [1.0, 1.0, 1.0]
    if thick is not None:
        before[thick] = 5.0
    return before, [1.0, 1.0, 1.0]


@pytest.mark.parametrize(("source", "target", "thick"), _GRIDS)
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_planes_by_torch_are_nnunets_but_for_the_last_bit(
    source: Shape, target: Shape, thick: int | None, dtype: type[np.generic]
) -> None:
    hu = noise(source).astype(dtype)
    regrid = Regrid(source=source, target=target, thick_axis=thick, method=Resampling.TORCH)
    working = working_volume(hu, _CT, regrid)
    expected = resample_torch_fornnunet(_CT.normalise(hu)[None], target, *_spacings(thick))[0]
    whole = working.planes(0, target[0])
    assert whole.dtype == np.float32
    assert np.abs(whole - expected).max() < 1e-6  # of numbers up to 2.2
    for size in (1, 7, 16):
        ends = [*range(0, target[0], size), target[0]]
        blocks = np.concatenate([working.planes(a, b) for a, b in pairwise(ends)])
        assert np.abs(blocks - expected).max() < 1e-6


@pytest.mark.parametrize(("source", "target", "thick"), _GRIDS)
@pytest.mark.parametrize("precompute", [False, True])
def test_planes_in_blocks_of_any_size_are_the_same_planes(
    source: Shape,
    target: Shape,
    thick: int | None,
    precompute: bool,  # noqa: FBT001  # a parameter
) -> None:
    working = working_volume(noise(source), _CT, Regrid(source=source, target=target, thick_axis=thick))
    whole = working.planes(0, target[0]).copy()
    if precompute:
        working.precompute()
        working.precompute()
    for size in (1, 7, 16, 33):
        ends = [*range(0, target[0], size), target[0]]
        blocks = np.concatenate([working.planes(a, b) for a, b in pairwise(ends)])
        assert _alike(blocks, whole)


def test_nothing_overshoots_the_range_of_the_ct_or_of_each_thick_slice() -> None:
    hu = np.full((12, 20, 20), 0, dtype=np.int16)
    hu[:, 8:, 8:] = 100
    hu[6:] *= 2
    for thick in (None, 0):
        regrid = Regrid(source=(12, 20, 20), target=(12, 33, 33), thick_axis=thick)
        made = working_volume(hu, _CT, regrid).planes(0, 12)
        low, high = (_CT.normalise(np.array([v], dtype=np.int16))[0] for v in (0, 200))
        assert made.min() == low
        assert made.max() == high
        limit = _CT.normalise(np.array([100], dtype=np.int16))[0]
        assert (made[:6].max() <= limit) == (thick == 0)  # only between slices does the spline overshoot


@pytest.mark.parametrize("empty", [(), (0,), (1, 2), (0, 1, 2)])
def test_the_box_of_what_is_not_zero_is_nnunets(empty: tuple[int, ...]) -> None:
    rng = np.random.default_rng(8)
    for _ in range(10):
        hu = rng.integers(-5, 6, (9, 11, 10)).astype(np.int16)
        for axis in empty:
            lanes = np.moveaxis(hu, axis, 0)
            lanes[: rng.integers(0, 4)] = 0
            lanes[len(lanes) - rng.integers(0, 4) :] = 0
        _, _, theirs = crop_to_nonzero(hu[None])
        box = nonzero_box(hu)
        assert box is not None
        assert [list(ends) for ends in zip(box.start, box.stop, strict=True)] == [list(e) for e in theirs]


def test_a_single_voxel_is_a_box_and_nothing_is_none() -> None:
    hu = np.zeros((4, 5, 6), dtype=np.float32)
    assert nonzero_box(hu) is None
    hu[1, 4, 0] = -0.5
    box = nonzero_box(hu)
    assert box is not None
    assert (box.start, box.stop) == ((1, 4, 0), (2, 5, 1))


def test_hounsfield_units_are_normalised_as_nnunet_does_and_the_input_is_not_changed() -> None:
    for hu in (noise((5, 6, 7)), noise((5, 6, 7)).astype(np.float32)):
        before = hu.copy()
        assert (_CT.normalise(hu) == _nnunets(hu.copy(), (5, 6, 7), None)).all()
        assert (hu == before).all()


def test_a_standard_deviation_of_zero_does_not_divide_by_zero() -> None:
    flat = HuNormalisation(low=0.0, high=10.0, mean=5.0, std=0.0)
    assert np.isfinite(flat.normalise(np.arange(12))).all()
