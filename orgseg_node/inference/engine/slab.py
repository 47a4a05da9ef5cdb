"""The accumulators of one network, for the planes that tiles still touch.

nnU-Net adds up the weighted logits of all tiles in 16 bits, for the whole volume. The tiles come in the order
of the first axis, so a plane is final when the tiles have passed it, and only as many planes as a tile is
thick are ever open. The same additions are done in the same order and precision.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from enum import StrEnum

import numpy as np
import torch

from orgseg_node.errors import DiskFull, InferenceFailed

_CACHED_PLANES = 1  # of a tile: what a cache holds; with four it is 5 % faster and takes 10 % more memory


class Place(StrEnum):
    """Where accumulators lie: beside the network, in main memory, or in a file that the system pages."""

    DEVICE = "device"
    HOST = "host"
    FILE = "file"


class Slab:
    """Sums of weighted logits for the open planes, and for the first network also the sums of weights.

    Parameters
    ----------
    shape : (heads, planes, rows, columns)
    place : where it lies
    device : of the network
    """

    def __init__(self, shape: tuple[int, int, int, int], place: Place, device: torch.device) -> None:
        self._file: mmap.mmap | None = None
        if place == Place.FILE:
            self._file = _scratch(2 * int(np.prod(shape)))
            self.logits = torch.frombuffer(self._file, dtype=torch.half).view(shape)
        elif place == Place.HOST and device.type == "cuda":
            self.logits = torch.zeros(shape, dtype=torch.half, pin_memory=True)
        else:
            beside = device if place == Place.DEVICE else torch.device("cpu")
            self.logits = torch.zeros(shape, dtype=torch.half, device=beside)

    def add(self, logits: torch.Tensor, weights: torch.Tensor, row: int, column: int) -> None:
        """Weight the logits of a tile and add them.

        Parameters
        ----------
        logits : (heads, planes, rows, columns), as many planes as the slab; overwritten
        weights : (planes, rows, columns) float32
        row, column : where the tile begins
        """
        rows, columns = slice(row, row + logits.shape[2]), slice(column, column + logits.shape[3])
        if logits.is_cuda:
            logits *= weights
            self.logits[:, :, rows, columns] += logits
            return
        few = [each.split(_CACHED_PLANES) for each in (weights, *logits)]
        for some, sums in zip(few[1:], self.logits[:, :, rows, columns], strict=True):
            for planes, factors, total in zip(some, few[0], sums.split(_CACHED_PLANES), strict=True):
                total.add_(planes.mul_(factors))

    def move_on(self, planes: int) -> None:
        """Forget the first planes; empty ones come in at the other end."""
        for each in self.logits:
            move_on(each, planes)

    def rest(self) -> None:
        """Let the system have the main memory of a slab that lies in a file, until it is used again."""
        if self._file is not None:
            self._file.madvise(mmap.MADV_DONTNEED)  # the file keeps what was written


def move_on(planes: torch.Tensor, count: int) -> None:
    """Shift planes toward the beginning; the last ones become 0."""
    kept = len(planes) - count
    for start in range(0, kept, max(count, 1)):  # by pieces that do not overlap with where they go
        stop = min(start + count, kept)
        planes[start:stop] = planes[start + count : stop + count]
    planes[kept:] = 0


def divide(sums: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The weighted mean of logits, in place.

    Parameters
    ----------
    sums : (heads, rows, columns) half
    weights : (rows, columns) half

    Raises
    ------
    InferenceFailed
        If the logits were too large for 16 bits.
    """
    torch.div(sums, weights, out=sums)
    extremes = torch.stack(
        torch.aminmax(sums)
    )  # not a number where some have no weight; quicker than to ask each
    if not torch.isfinite(extremes).all() and torch.isinf(sums).any():
        raise InferenceFailed("The network's logits are too large for 16 bits.")
    return sums


def _scratch(size: int) -> mmap.mmap:
    """A file of zeros without a name, mapped into memory; gone when it is no longer used."""
    with tempfile.TemporaryFile(prefix="orgseg-slab-") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)  # a hole on a full disk would end the process later
        except OSError as error:
            raise DiskFull(f"{size >> 20} MB for the network's sums do not fit: {error.strerror}.") from error
        return mmap.mmap(file.fileno(), size)
