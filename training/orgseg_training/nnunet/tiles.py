"""What a network finds in a whole preprocessed image, tile by tile, without sums of probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise, product

import torch

_STEP = 0.75  # of a tile; the outer eighth of a tile, where it lacks context, is taken from its neighbour


def owned_intervals(size: int, tile: int) -> list[tuple[int, int, int]]:
    """Tiles along an axis: the start of each, and the first and last voxel (excluded) that are taken from it.

    Parameters
    ----------
    size : voxels of the image, at least those of a tile
    tile : voxels of a tile
    """
    step = max(1, int(_STEP * tile))
    count = 1 + -(-(size - tile) // step)
    starts = [round(number * (size - tile) / max(1, count - 1)) for number in range(count)]
    middles = [(before + tile + after) // 2 for before, after in pairwise(starts)]
    return list(zip(starts, [0, *middles], [*middles, size], strict=True))


def predict_labels(
    network: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor, patch: Sequence[int]
) -> torch.Tensor:
    """The most probable label of every voxel.

    Parameters
    ----------
    network, image, patch : see `predict_tiles`

    Returns
    -------
    (Z, Y, X) uint8 on the CPU
    """

    def labels_of(logits: torch.Tensor) -> torch.Tensor:
        return logits.argmax(0)[None].to(torch.uint8)

    return predict_tiles(network, image, patch, labels_of)[0]


def predict_tiles(
    network: Callable[[torch.Tensor], torch.Tensor],
    image: torch.Tensor,
    patch: Sequence[int],
    reduce: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """What is made of the logits of every voxel.

    Parameters
    ----------
    network : (1, 1, patch) to (1, labels, patch)
    image : (1, Z, Y, X), preprocessed
    patch : voxels of a tile
    reduce : (labels, patch) to (N, patch)

    Returns
    -------
    (N, Z, Y, X) on the CPU
    """
    shape = image.shape[1:]
    missing = [max(0, tile - size) for tile, size in zip(patch, shape, strict=True)]
    image = torch.nn.functional.pad(image, [n for gap in reversed(missing) for n in (0, gap)])
    result: torch.Tensor | None = None
    axes = [owned_intervals(size, tile) for size, tile in zip(image.shape[1:], patch, strict=True)]
    for intervals in product(*axes):
        tile = tuple(slice(start, start + size) for (start, _, _), size in zip(intervals, patch, strict=True))
        inner = tuple(slice(first - start, last - start) for start, first, last in intervals)
        outer = tuple(slice(first, last) for _, first, last in intervals)
        found = reduce(network(image[(slice(None), *tile)][None])[0])
        if result is None:
            result = torch.zeros((len(found), *image.shape[1:]), dtype=found.dtype)
        result[(slice(None), *outer)] = found[(slice(None), *inner)].cpu()
    if result is None:
        raise ValueError("The image has no voxels.")
    return result[(slice(None), *(slice(0, size) for size in shape))]
