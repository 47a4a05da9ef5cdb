"""Labels of a whole image from tiles: every voxel once, from a tile that holds it."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from orgseg_training.nnunet.tiles import owned_intervals, predict_labels


@pytest.mark.parametrize(("size", "tile"), [(16, 16), (17, 16), (40, 16), (100, 48), (5, 1), (12, 3)])
def test_the_intervals_cover_the_axis_once(size: int, tile: int) -> None:
    found = owned_intervals(size, tile)
    assert found[0][1] == 0
    assert found[-1][2] == size
    assert all(before[2] == after[1] for before, after in pairwise(found))
    assert all(0 <= start <= first < last <= start + tile <= size for start, first, last in found)


@pytest.mark.parametrize("shape", [(20, 33, 17), (5, 40, 16)])
def test_the_labels_are_those_of_the_voxels(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(1)
    wanted = torch.randint(0, 4, shape)

    def network(image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(image[0, 0].long(), 4).movedim(-1, 0)[None].float()

    found = predict_labels(network, wanted[None].float(), (8, 16, 16))
    assert torch.equal(found.long(), wanted)
