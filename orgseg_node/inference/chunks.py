"""The study's chunks: a long CT is cut along the body axis, each piece is contoured alone and pasted back.

Neighbouring chunks overlap, since a network sees organs poorly at the end of a picture. In an overlap every
slice is taken from the chunk in whose inside it lies deeper: each slice belongs to one chunk only.
"""

from __future__ import annotations

from dataclasses import dataclass

from orgseg_node.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A run of slices that is contoured at once.

    Attributes
    ----------
    start, stop : the slices the network sees, ``stop`` exclusive
    keep_start, keep_stop : the slices whose result is used
    """

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def cut(slices: int, spacing_mm: float, chunk_mm: float, overlap_mm: float) -> tuple[Chunk, ...]:
    """Cut a CT into overlapping chunks along its slices.

    Every slice is kept from exactly one chunk. All chunks but the last are equally long; a last one that adds
    less than half a step is merged into the one before.

    Parameters
    ----------
    slices : number of slices, at least 1
    spacing_mm : distance of the slices
    chunk_mm : length of a chunk, overlap included
    overlap_mm : how much of it neighbouring chunks share; 0 for none

    Raises
    ------
    ConfigError
        If the overlap is not smaller than the chunk.
    """
    if not 0 <= overlap_mm < chunk_mm:
        raise ConfigError(f"overlap_mm = {overlap_mm:g} must be smaller than chunk_mm = {chunk_mm:g}.")
    length = max(1, round(chunk_mm / spacing_mm))
    step = max(1, length - round(overlap_mm / spacing_mm))
    starts = [0]
    while starts[-1] + length < slices:
        starts.append(starts[-1] + step)
    if len(starts) > 1 and 2 * (slices - (starts[-2] + length)) < step:
        starts.pop()
    stops = [*(start + length for start in starts[:-1]), slices]
    # slice p lies p - start deep in the later chunk and stop - 1 - p in the earlier; a draw is the earlier's
    seams = [(later + stop + 1) // 2 for later, stop in zip(starts[1:], stops[:-1], strict=True)]
    return tuple(
        Chunk(start=a, stop=b, keep_start=c, keep_stop=d)
        for a, b, c, d in zip(starts, stops, [0, *seams], [*seams, slices], strict=True)
    )
