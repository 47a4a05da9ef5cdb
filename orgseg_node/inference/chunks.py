"""The study's chunks: a long CT is split along the body axis, each chunk is contoured alone and merged back.

Neighbouring chunks overlap, because a network finds organs less well near the end of an image. In an overlap,
each slice is taken from the chunk in which it is farther from the end: each slice comes from one chunk only.
"""

from __future__ import annotations

from dataclasses import dataclass

from orgseg_node.errors import SettingsInvalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Consecutive slices that are contoured at once.

    Attributes
    ----------
    start, stop : the slices that the network sees, ``stop`` exclusive
    keep_start, keep_stop : the slices whose labels are used, ``keep_stop`` exclusive
    """

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def split_into_chunks(
    slices: int, spacing_mm: float, chunk_mm: float, overlap_mm: float
) -> tuple[Chunk, ...]:
    """Split a CT into overlapping chunks along its slices.

    Every slice is used from exactly one chunk. All chunks but the last have the same length; a last chunk
    that would add less than half a step is merged into the one before.

    Parameters
    ----------
    slices : number of slices, at least 1
    spacing_mm : distance of the slices
    chunk_mm : length of a chunk, overlap included
    overlap_mm : overlap of neighbouring chunks; 0 for none

    Raises
    ------
    SettingsInvalid
        If the overlap is not smaller than the chunk.
    """
    if not 0 <= overlap_mm < chunk_mm:
        raise SettingsInvalid(f"overlap_mm = {overlap_mm:g} must be smaller than chunk_mm = {chunk_mm:g}.")
    length = max(1, round(chunk_mm / spacing_mm))
    step = max(1, length - round(overlap_mm / spacing_mm))
    starts = [0]
    while starts[-1] + length < slices:
        starts.append(starts[-1] + step)
    if len(starts) > 1 and 2 * (slices - (starts[-2] + length)) < step:
        starts.pop()
    stops = [*(start + length for start in starts[:-1]), slices]
    # slice p is p - start from the end of the later chunk, stop - 1 - p of the earlier, which wins a tie
    seams = [(later + stop + 1) // 2 for later, stop in zip(starts[1:], stops[:-1], strict=True)]
    return tuple(
        Chunk(start=a, stop=b, keep_start=c, keep_stop=d)
        for a, b, c, d in zip(starts, stops, [0, *seams], [*seams, slices], strict=True)
    )
