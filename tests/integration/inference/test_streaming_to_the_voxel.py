"""The streaming engine gives nnU-Net's own labels to the voxel: every kind of plans and CT, one by one.

Each case is run by nnU-Net's preprocessor, predictor and export, and by the engine, with the same weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from orgseg_node.errors import InferenceFailed
from orgseg_node.inference.backends.context import torch_threads
from orgseg_node.inference.engine.slab import AccumulatorStorage
from orgseg_node.inference.engine.tiles import Tiling
from tests.support.models.nnunet_reference import Net, Three, engines_labels, net, nnunets_labels, noise
from tests.support.models.tiny_nnunet import TinyModel

pytestmark = pytest.mark.endurance

_ISO: Three = (2.0, 2.0, 2.0)
_MODEL = TinyModel(labels={"spleen": 1, "liver": 2, "heart": 3}, spacing_mm=_ISO, patch=(12, 12, 12))
_REGIONS: dict[str, int | list[int]] = {"body": [1, 2, 3], "lung": [2, 3], "heart": 3}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other cost more than they save on networks so small."""
    with torch_threads(1):
        yield


def _agree(
    tiny: Net, hu: NDArray[Any], spacing_mm: Three, step: float = 0.5, **how: Any
) -> NDArray[np.uint16]:
    """Prove that the labels are equal, and that they are labels in which a mistake would be seen."""
    expected = nnunets_labels(tiny, hu, spacing_mm, step)
    found, _ = engines_labels(tiny, hu, spacing_mm, step, **how)
    assert found.shape == expected.shape
    assert np.count_nonzero(found != expected) == 0
    assert np.unique(expected).size > 1
    changes = sum(np.count_nonzero(np.diff(expected.astype(int), axis=axis)) for axis in range(3))
    assert changes > 0.05 * expected.size
    return found


@pytest.mark.parametrize("working_z", [6.0, 8.5, 3.7], ids=["as-many", "fewer", "more"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thick_slices_along_any_axis(axis: int, working_z: float) -> None:
    spacing, working = [1.5, 1.5, 1.5], [1.4, 1.4, 1.4]
    spacing[axis], working[axis] = 6.0, working_z
    shape = [28, 26, 30]
    shape[axis] = 14
    tiny = net(replace(_MODEL, spacing_mm=(working[0], working[1], working[2])))
    plan = tiny.plan
    regrid = plan.preprocessing.regrid((shape[0], shape[1], shape[2]), (spacing[0], spacing[1], spacing[2]))
    assert regrid.thick_axis == axis
    assert (regrid.source[axis] == regrid.target[axis]) == (working_z == 6.0)
    _agree(tiny, noise(tuple(shape)), (spacing[0], spacing[1], spacing[2]))


def test_thick_working_slices_over_a_ct_of_thin_ones() -> None:
    tiny = net(
        replace(_MODEL, spacing_mm=(7.0, 1.5, 1.5), patch=(4, 12, 12), kernel=(1, 3, 3), stride=(1, 2, 2))
    )
    _agree(tiny, noise((40, 24, 26)), (2.0, 1.5, 1.5))


def test_a_ct_and_a_working_grid_that_are_thick_along_different_axes() -> None:
    tiny = net(
        replace(_MODEL, spacing_mm=(1.5, 1.6, 6.0), patch=(12, 12, 4), kernel=(3, 3, 1), stride=(2, 2, 1))
    )
    _agree(tiny, noise((12, 26, 34)), (6.0, 1.5, 1.4))


@pytest.mark.parametrize("thick", [True, False])
def test_plans_that_force_or_forbid_separate_slices(thick: bool) -> None:  # noqa: FBT001  # a parameter
    tiny = net(replace(_MODEL, thick=thick, spacing_mm=(5.0, 1.4, 1.4)))
    _agree(tiny, noise((16, 28, 26)), (6.0, 1.5, 1.5))
    _agree(tiny, noise((22, 24, 20)), (2.1, 2.0, 1.8))


@pytest.mark.parametrize(
    ("change", "shape", "spacing_mm"),
    [
        ({}, (20, 26, 24), (1.7, 2.2, 2.4)),
        ({}, (24, 28, 26), (2.6, 1.7, 1.7)),
        ({"spacing_mm": (8.5, 1.4, 1.4)}, (14, 26, 30), (6.0, 1.5, 1.5)),
        ({"spacing_mm": (1.4, 3.7, 1.4)}, (26, 14, 30), (1.5, 6.0, 1.5)),
        ({"spacing_mm": (1.4, 1.4, 3.7)}, (26, 30, 14), (1.5, 1.5, 6.0)),
        ({"spacing_mm": (5.0, 1.4, 1.4), "thick": False}, (16, 28, 26), (6.0, 1.5, 1.5)),
        ({"transpose": (2, 0, 1), "spacing_mm": (2.2, 1.8, 1.5)}, (18, 24, 30), (3.0, 1.6, 2.0)),
        ({"labels": _REGIONS, "regions_order": (1, 2, 3)}, (20, 26, 24), (2.6, 1.7, 1.7)),
    ],
)
def test_plans_resampled_by_torch(change: dict[str, Any], shape: Three, spacing_mm: Three) -> None:
    """Its float32 differs in the last bit: a voxel may differ where two logits are equal but for that."""
    tiny = net(replace(_MODEL, by_torch=True, **change))
    hu = noise((int(shape[0]), int(shape[1]), int(shape[2])))
    expected = nnunets_labels(tiny, hu, spacing_mm, 0.5)
    found, _ = engines_labels(tiny, hu, spacing_mm, 0.5)
    assert np.count_nonzero(found != expected) <= 2  # measured: 0
    assert np.unique(expected).size > 1


@pytest.mark.parametrize("transpose", list(permutations(range(3))))
def test_transposed_plans(transpose: tuple[int, int, int]) -> None:
    model = replace(_MODEL, transpose=transpose, spacing_mm=(2.2, 1.8, 1.5), patch=(8, 12, 16))
    _agree(net(model), noise((18, 24, 30)), (3.0, 1.6, 2.0))


@pytest.mark.parametrize("transpose", [(1, 0, 2), (2, 0, 1)])
def test_transposed_plans_with_thick_slices(transpose: tuple[int, int, int]) -> None:
    spacing = (6.0, 1.5, 1.6)
    a, b, c = (0.9 * spacing[axis] for axis in transpose)
    _agree(net(replace(_MODEL, transpose=transpose, spacing_mm=(a, b, c))), noise((14, 26, 30)), spacing)


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
@pytest.mark.parametrize("spacing", [_ISO, (2.6, 1.7, 1.7)])
def test_labels_by_regions(order: tuple[int, ...], spacing: Three) -> None:
    _agree(net(replace(_MODEL, labels=_REGIONS, regions_order=order)), noise((20, 26, 24)), spacing)


def test_two_regions_that_write_the_same_label() -> None:
    tiny = net(replace(_MODEL, labels=_REGIONS, regions_order=(1, 2, 1)))
    _agree(tiny, noise((24, 28, 26), sigma=0.5), (1.1, 0.9, 1.2))


def test_regions_whose_logits_are_near_zero() -> None:
    model = replace(_MODEL, labels=_REGIONS, regions_order=(1, 2, 3), gain=2e-4)
    _agree(net(model), noise((20, 26, 24)), (1.7, 2.2, 2.4))


def test_an_ignore_label_has_no_channel() -> None:
    labels: dict[str, int | list[int]] = {"spleen": 1, "liver": 2, "ignore": 3}
    tiny = net(replace(_MODEL, labels=labels))
    assert tiny.plan.heads == 3
    _agree(tiny, noise((20, 26, 24)), (1.7, 2.2, 2.4))


@pytest.mark.parametrize("mirror_axes", [None, (1,), (0, 1, 2), (0, 2)])
@pytest.mark.parametrize("folds", [1, 5])
def test_folds_and_mirroring(folds: int, mirror_axes: tuple[int, ...] | None) -> None:
    tiny = net(replace(_MODEL, seed=29, folds=tuple(range(folds)), mirror_axes=mirror_axes))
    _agree(tiny, noise((14, 18, 16)), (2.5, 2.2, 2.0))


@pytest.mark.parametrize(
    "shape", [(5, 26, 24), (22, 7, 24), (22, 26, 9), (5, 7, 24), (5, 7, 9), (1, 26, 24), (22, 1, 1)]
)
def test_a_ct_smaller_than_a_tile(shape: tuple[int, int, int]) -> None:
    _agree(net(_MODEL), noise(shape, seed=3, sigma=0.8), (2.3, 1.9, 2.2))


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_border_of_0_hu_is_cut_away(dtype: type[np.generic]) -> None:
    hu = np.zeros((26, 30, 32), dtype=dtype)
    hu[3:22, 5:30, 0:27] = noise((19, 25, 27))
    if dtype == np.float32:
        hu[hu != 0] += dtype(0.29)
    hu[10:12, 12:20, 9:14] = 0  # a hole region stays
    labels = _agree(net(_MODEL), hu, (2.3, 1.9, 2.2))
    labels[3:22, 5:30, 0:27] = 0
    assert not labels.any()


def test_hu_that_are_not_whole_numbers() -> None:
    hu = noise((20, 24, 22)).astype(np.float32)
    hu += np.random.default_rng(2).random(hu.shape, dtype=np.float32)
    _agree(net(_MODEL), hu, (2.3, 1.9, 2.2))


def test_a_ct_in_reversed_memory_order() -> None:
    _agree(net(_MODEL), noise((20, 24, 22))[::-1, :, ::-1], (2.3, 1.9, 2.2))


@pytest.mark.parametrize("ratio", [(1, 1, 1), (0.45, 0.6, 0.5), (1.6, 1.9, 2.1), (1, 2.1, 0.6), (1.7, 1, 1)])
def test_resampling_up_down_and_not_at_all(ratio: Three) -> None:
    a, b, c = (r * s for r, s in zip(ratio, _ISO, strict=True))
    _agree(net(_MODEL), noise((22, 26, 24), sigma=0.8), (a, b, c))


@pytest.mark.parametrize("step", [0.1, 0.3, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("accumulators", [AccumulatorStorage.HOST, AccumulatorStorage.FILE])
def test_any_distance_of_tiles_with_sums_in_memory_and_in_a_file(
    step: float, accumulators: AccumulatorStorage
) -> None:
    tiny = net(replace(_MODEL, folds=(0, 1) if step > 0.2 else (0,)))
    shape = (26, 20, 22) if step > 0.2 else (16, 15, 14)
    _agree(tiny, noise(shape), (2.3, 1.9, 2.2), step, accumulators=accumulators)


@pytest.mark.parametrize("step", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("planes", [1, 2, 3])
def test_tiles_of_a_single_or_few_planes(planes: int, step: float) -> None:
    model = replace(_MODEL, patch=(planes, 16, 16), kernel=(1, 3, 3), stride=(1, 2, 2))
    starts = Tiling.covering((9, 24, 26), (planes, 16, 16), step).starts[0]
    assert (len(set(starts)) < len(starts)) == (step * planes < 1)  # then tiles lie upon each other
    _agree(net(model), noise((9, 24, 26)), (2.0, 1.8, 2.1), step)


@pytest.mark.parametrize("gain", [20.0, 1e-4, 1e-7])
def test_forty_classes_of_which_two_are_equal_everywhere(gain: float) -> None:
    labels: dict[str, int | list[int]] = {str(n): n for n in range(1, 40)}
    model = replace(_MODEL, labels=labels, twins=True, gain=gain)
    labels_found = _agree(net(model), noise((20, 24, 22), sigma=0.5), (2.3, 1.9, 2.2))
    assert not (labels_found == 39).any()  # its twin comes first


def test_more_than_255_labels() -> None:
    model = replace(_MODEL, labels={str(n): n for n in range(1, 300)})
    assert _agree(net(model), noise((14, 16, 15), sigma=0.5), (2.3, 1.9, 2.2)).max() > 255


def test_more_than_255_labels_by_regions() -> None:
    labels: dict[str, int | list[int]] = {str(n): [n, n + 1] for n in range(1, 300)}
    model = replace(_MODEL, labels=labels, regions_order=tuple(range(1, 300)))
    assert _agree(net(model), noise((14, 16, 15), sigma=0.5), (2.3, 1.9, 2.2)).max() > 255


@pytest.mark.parametrize("folds", [1, 2])
def test_residual_encoder_plans(folds: int) -> None:
    tiny = net(replace(_MODEL, residual=True, seed=5, folds=tuple(range(folds)), mirror_axes=(1,)))
    _agree(tiny, noise((20, 24, 22)), (2.3, 1.9, 2.2))


@pytest.mark.parametrize("regions", [False, True])
def test_several_planes_labelled_at_once(regions: bool) -> None:  # noqa: FBT001  # a parameter
    model = replace(_MODEL, folds=(0, 1), mirror_axes=(1,))
    if regions:
        model = replace(model, labels=_REGIONS, regions_order=(1, 2, 3))
    _agree(net(model), noise((30, 24, 22)), (2.3, 1.9, 2.2), block=8)


def test_working_planes_made_ahead_in_a_thread_or_all_at_once() -> None:
    tiny = net(_MODEL)
    _agree(tiny, noise((30, 24, 22)), (2.3, 1.9, 2.2), overlap=True)
    _agree(tiny, noise((30, 24, 22)), (2.3, 1.9, 2.2), precompute=True)


def test_the_number_of_threads_changes_nothing() -> None:
    tiny, hu = net(replace(_MODEL, patch=(12, 24, 24))), noise((10, 26, 28))
    one, _ = engines_labels(tiny, hu, (2.3, 1.9, 2.2))
    with torch_threads(2):
        assert (engines_labels(tiny, hu, (2.3, 1.9, 2.2))[0] == one).all()


def test_a_ct_that_is_the_same_everywhere() -> None:
    for value in (40, -1000, 3000):  # the mean of the training data, and what is clipped
        hu = np.full((14, 16, 15), value, dtype=np.int16)
        for model in (_MODEL, replace(_MODEL, labels=_REGIONS, regions_order=(1, 2, 3))):
            expected = nnunets_labels(net(model), hu, (2.3, 1.9, 2.2))
            assert (engines_labels(net(model), hu, (2.3, 1.9, 2.2))[0] == expected).all()


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("accumulators", [AccumulatorStorage.HOST, AccumulatorStorage.FILE])
def test_with_tiles_left_out_labels_in_the_region_stay_and_outside_there_are_none(
    regions: bool,  # noqa: FBT001  # a parameter
    accumulators: AccumulatorStorage,
) -> None:
    model = replace(_MODEL, labels=_REGIONS, regions_order=(1, 2, 3)) if regions else _MODEL
    tiny, hu = net(replace(model, folds=(0, 1), transpose=(1, 0, 2))), noise((28, 34, 36))
    expected = nnunets_labels(tiny, hu, (2.3, 1.7, 2.2))
    region = np.zeros(hu.shape, dtype=bool)
    region[4:9, 22:31, 3:10] = True
    region[20, 6, 33] = True  # a single voxel is worth its tiles
    found, summary = engines_labels(tiny, hu, (2.3, 1.7, 2.2), region=region, accumulators=accumulators)
    assert summary.skipped > summary.tiles > 0
    assert (found[region] == expected[region]).all()
    assert not found[~region].any()
    assert expected[~region].any()


def test_a_region_of_nothing_needs_no_tile() -> None:
    hu = noise((20, 24, 22))
    found, summary = engines_labels(net(_MODEL), hu, _ISO, region=np.zeros(hu.shape, dtype=bool))
    assert summary.tiles == 0
    assert not found.any()


def test_logits_too_large_for_16_bits_are_refused_by_both() -> None:
    tiny, hu = net(replace(_MODEL, gain=3e6)), noise((14, 16, 15))
    with pytest.raises(RuntimeError, match="Encountered inf"):
        nnunets_labels(tiny, hu, _ISO)
    with pytest.raises(InferenceFailed, match="too large for 16 bits"):
        engines_labels(tiny, hu, _ISO)


def test_a_ct_too_thin_for_a_single_working_plane_is_refused_by_both() -> None:
    tiny, hu = net(_MODEL), noise((1, 16, 15))
    with pytest.raises(ValueError, match="zero-size"), np.errstate(divide="ignore"):
        nnunets_labels(tiny, hu, (0.5, 2.0, 2.0))
    with pytest.raises(InferenceFailed, match="thinner"):
        engines_labels(tiny, hu, (0.5, 2.0, 2.0))


def test_the_weights_of_the_networks_are_left_as_they_are() -> None:
    tiny = net(replace(_MODEL, folds=(0, 1)))
    before = [{name: t.clone() for name, t in state.items()} for state in tiny.states]
    engines_labels(tiny, noise((14, 16, 15)), _ISO)
    for state, old in zip(tiny.states, before, strict=True):
        assert all(torch.equal(state[name], old[name]) for name in old)
