"""Sums of open planes: nnU-Net's additions, in memory or in a file, plane after plane."""

from __future__ import annotations

import pytest
import torch

from orgseg_node.errors import DiskFull, InferenceFailed
from orgseg_node.inference.engine.slab import AccumulatorStorage, Slab, require_finite, shift_planes

_CPU = torch.device("cpu")


@pytest.mark.parametrize("storage", list(AccumulatorStorage))
def test_tiles_are_weighted_and_added_up_as_nnunet_does(storage: AccumulatorStorage) -> None:
    random = torch.Generator().manual_seed(3)
    slab = Slab((3, 4, 9, 11), storage, _CPU)
    theirs = torch.zeros((3, 4, 9, 11), dtype=torch.half)
    gaussian = torch.rand((4, 6, 5), generator=random).mul(10).half()
    for row, column in [(0, 0), (3, 6), (2, 3), (0, 6), (2, 3)]:
        tile = torch.randn((3, 4, 6, 5), generator=random).mul(30)
        weighted = tile * gaussian
        theirs[:, :, row : row + 6, column : column + 5] += weighted
        slab.add(tile.clone(), gaussian.float(), row, column)
    assert torch.equal(slab.logits, theirs)
    assert theirs.count_nonzero() > 300


def test_sums_are_rounded_to_16_bits_after_each_tile_and_products_are_not() -> None:
    slab, one = Slab((1, 1, 1, 1), AccumulatorStorage.HOST, _CPU), torch.ones((1, 1, 1))
    slab.add(torch.full((1, 1, 1, 1), 2048.0), one, 0, 0)
    for _ in range(2):
        slab.add(torch.full((1, 1, 1, 1), 0.9), one, 0, 0)  # lost each time; a sum in 32 bits would keep it
    assert slab.logits.item() == 2048.0
    slab = Slab((1, 1, 1, 1), AccumulatorStorage.HOST, _CPU)
    slab.add(torch.full((1, 1, 1, 1), -1.0), one, 0, 0)
    slab.add(torch.full((1, 1, 1, 1), 1.0 + 2.0**-13), one, 0, 0)
    assert slab.logits.item() == 2.0**-13  # a product in 16 bits would have been 1


@pytest.mark.parametrize("count", range(8))
def test_shifting_keeps_the_last_planes_and_appends_empty_ones(count: int) -> None:
    planes = torch.arange(1, 1 + 7 * 6).view(7, 2, 3)
    before = planes.clone()
    shift_planes(planes, count)
    assert torch.equal(planes[: 7 - count], before[count:])
    assert not planes[7 - count :].any()


@pytest.mark.parametrize("storage", [AccumulatorStorage.HOST, AccumulatorStorage.FILE])
def test_a_slab_advances_in_all_channels(storage: AccumulatorStorage) -> None:
    slab = Slab((2, 5, 3, 4), storage, _CPU)
    slab.logits.copy_(torch.arange(120).view(2, 5, 3, 4))
    before = slab.logits.clone()
    slab.advance(2)
    assert torch.equal(slab.logits[:, :3], before[:, 2:])
    assert not slab.logits[:, 3:].any()


def test_a_slab_in_a_file_is_empty_first_and_keeps_its_sums_when_memory_is_released() -> None:
    slab = Slab((3, 8, 40, 50), AccumulatorStorage.FILE, _CPU)
    assert not slab.logits.any()
    numbers = torch.randn(slab.logits.shape, generator=torch.Generator().manual_seed(1)).half()
    slab.logits.copy_(numbers)
    for _ in range(2):
        slab.release_memory()
        assert torch.equal(slab.logits, numbers)
    slab.logits += 1
    slab.release_memory()
    assert torch.equal(slab.logits, numbers + 1)


def test_a_slab_in_memory_keeps_its_sums_when_memory_is_released() -> None:
    slab = Slab((1, 1, 1, 2), AccumulatorStorage.HOST, _CPU)
    slab.logits += 3
    slab.release_memory()
    assert slab.logits.tolist() == [[[[3, 3]]]]


def test_a_file_that_does_not_fit_on_the_disk_is_refused() -> None:
    with pytest.raises(DiskFull, match=r"MB for the network's sums do not fit"):
        Slab((1000, 1 << 20, 1 << 10, 1 << 10), AccumulatorStorage.FILE, _CPU)


def _check(means: list[torch.Tensor]) -> None:
    require_finite(means, [extreme for mean in means for extreme in torch.aminmax(mean)])


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
@pytest.mark.parametrize("other", [1.0, float("nan")])
def test_logits_beyond_16_bits_of_any_network_are_refused(value: float, other: float) -> None:
    means = [torch.ones((2, 2, 3, 3), dtype=torch.half) for _ in range(3)]
    _check(means)
    means[1][1, 0, 0, 0] = other
    means[1][1, 1, 2, 0] = value
    with pytest.raises(InferenceFailed, match="too large for 16 bits"):
        _check(means)


def test_what_too_large_activations_become_is_refused_too() -> None:
    activations = torch.randn((1, 1, 4, 4), generator=torch.Generator().manual_seed(2)).mul(3e4).half()
    activations[0, 0, 0, 0] = 7e4  # infinite in 16 bits
    normalised = torch.nn.functional.instance_norm(activations.float()).half()
    assert not torch.isinf(normalised).any()
    with pytest.raises(InferenceFailed, match=r"no numbers \(NaN\)"):
        _check([torch.ones((1, 1, 4, 4), dtype=torch.half), normalised])
