"""The accumulators of one network, for the planes that tiles still cover.

nnU-Net adds the weighted logits of all tiles in float16, for the whole volume. The tiles are sorted along the
first axis, so a plane is final when all later tiles begin behind it, and only as many planes as a tile is
thick are needed at a time. The same additions are made here, in the same order and precision.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import numpy as np
import torch

from orgseg_node.errors import DiskFull, InferenceFailed

_PLANES_ON_GPU: Final = 8  # averaged and labelled at once; on a CPU more would only take more memory
_BLOCK_PLANES = 1  # planes of a tile that are added at once; 4 would be 5 % faster and take 10 % more memory


class AccumulatorStorage(StrEnum):
    """Where accumulators are stored: on the network's device, in main memory, or in a memory-mapped file."""

    DEVICE = "device"
    HOST = "host"
    FILE = "file"


def accumulator_device(storage: AccumulatorStorage, device: torch.device) -> torch.device:
    """The device that accumulators are on, and final planes are averaged and labelled on."""
    return device if storage == AccumulatorStorage.DEVICE else torch.device("cpu")


def planes_at_once(device: torch.device) -> int:
    """Number of final planes that are averaged and labelled at once on a device."""
    return _PLANES_ON_GPU if device.type == "cuda" else 1


class Slab:
    """Sums of weighted logits of the planes that tiles still cover.

    Parameters
    ----------
    shape : (heads, planes, rows, columns)
    storage : where the sums are stored
    device : of the network
    """

    def __init__(
        self, shape: tuple[int, int, int, int], storage: AccumulatorStorage, device: torch.device
    ) -> None:
        self._file: mmap.mmap | None = None
        if storage == AccumulatorStorage.FILE:
            self._file = _mapped_file(2 * int(np.prod(shape)))
            self.logits = torch.frombuffer(self._file, dtype=torch.half).view(shape)
        elif storage == AccumulatorStorage.HOST and device.type == "cuda":
            self.logits = torch.zeros(shape, dtype=torch.half, pin_memory=True)
        else:
            self.logits = torch.zeros(shape, dtype=torch.half, device=accumulator_device(storage, device))

    def add(self, logits: torch.Tensor, weights: torch.Tensor, row: int, column: int) -> None:
        """Multiply the logits of a tile with their weights and add them.

        Parameters
        ----------
        logits : (heads, planes, rows, columns) float, as many planes as the slab; overwritten
        weights : (planes, rows, columns) float32
        row, column : first voxel of the tile
        """
        rows, columns = slice(row, row + logits.shape[2]), slice(column, column + logits.shape[3])
        if logits.is_cuda:
            logits *= weights
            self.logits[:, :, rows, columns] += logits
            return
        factor_blocks = torch.split(weights, _BLOCK_PLANES)
        for head, sums in zip(logits, self.logits[:, :, rows, columns], strict=True):
            blocks = zip(head.split(_BLOCK_PLANES), factor_blocks, sums.split(_BLOCK_PLANES), strict=True)
            for planes, factors, total in blocks:
                total.add_(planes.mul_(factors))

    def advance(self, planes: int) -> None:
        """Remove the first planes; append as many empty ones."""
        for each in self.logits:
            shift_planes(each, planes)

    def release_memory(self) -> None:
        """Return the main memory of a slab that is stored in a file to the system, until it is used again."""
        if self._file is not None:
            self._file.madvise(mmap.MADV_DONTNEED)  # the file keeps its content


def shift_planes(planes: torch.Tensor, count: int) -> None:
    """Shift planes toward the beginning, in place; the last ones become 0."""
    kept = len(planes) - count
    for start in range(0, kept, max(count, 1)):  # in blocks that do not overlap with their target
        stop = min(start + count, kept)
        planes[start:stop] = planes[start + count : stop + count]
    planes[kept:] = 0


def require_finite(means: Sequence[torch.Tensor], extremes: Sequence[torch.Tensor]) -> None:
    """Refuse logits that were too large for 16 bits, or that are no numbers.

    Parameters
    ----------
    means : weighted means of logits, float16
    extremes : the smallest and the largest number of each, as scalars; faster than testing every number

    Raises
    ------
    InferenceFailed
        If a number is infinite or NaN.
    """
    if torch.isfinite(torch.stack(list(extremes))).all():
        return
    if any(torch.isinf(mean).any() for mean in means):  # an extreme is NaN if one number is
        raise InferenceFailed("The network's logits are too large for 16 bits.")
    # of activations too large for 16 bits the next normalisation makes NaN, and of NaN labels are background
    raise InferenceFailed("The network's logits are no numbers (NaN): its activations were too large.")


def _mapped_file(size: int) -> mmap.mmap:
    """A temporary file of zeros without a name, mapped into memory; removed when it is no longer used."""
    with tempfile.TemporaryFile(prefix="orgseg-slab-") as file:
        try:
            os.posix_fallocate(
                file.fileno(), 0, size
            )  # a sparse file on a full disk would end the process later
        except OSError as error:
            raise DiskFull(f"{size >> 20} MB for the network's sums do not fit: {error.strerror}.") from error
        return mmap.mmap(file.fileno(), size)
