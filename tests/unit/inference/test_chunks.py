"""Every slice is used once, from the chunk in which it is farthest from the end."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orgseg_node.errors import ConfigError
from orgseg_node.inference.chunks import Chunk, split_into_chunks


@given(
    slices=st.integers(1, 900),
    spacing_mm=st.sampled_from([0.6, 1.0, 1.25, 2.5, 3.0, 5.0]),
    chunk_mm=st.floats(1, 500),
    share=st.floats(0, 0.95),
)
def test_every_slice_is_used_from_exactly_one_chunk_that_contains_it(
    slices: int, spacing_mm: float, chunk_mm: float, share: float
) -> None:
    chunks = split_into_chunks(slices, spacing_mm, chunk_mm, chunk_mm * share)
    kept = [p for c in chunks for p in range(c.keep_start, c.keep_stop)]
    assert kept == list(range(slices))
    assert all(c.start <= c.keep_start < c.keep_stop <= c.stop <= slices for c in chunks)


@given(slices=st.integers(1, 500), length=st.integers(2, 100), overlap=st.integers(0, 50))
def test_in_an_overlap_a_slice_comes_from_the_chunk_in_which_it_is_farther_from_the_end(
    slices: int, length: int, overlap: int
) -> None:
    overlap = min(overlap, length - 1)
    chunks = split_into_chunks(slices, 1.0, length, overlap)
    for earlier, later in pairwise(chunks):
        for p in range(later.start, earlier.stop):
            in_earlier, in_later = earlier.stop - 1 - p, p - later.start
            if in_earlier > in_later:
                assert p < later.keep_start
            if in_later > in_earlier:
                assert p >= earlier.keep_stop


def test_chunks_of_300_mm_share_50_mm_and_the_seam_is_in_the_middle() -> None:
    assert split_into_chunks(200, 2.5, 300.0, 50.0) == (
        Chunk(start=0, stop=120, keep_start=0, keep_stop=110),
        Chunk(start=100, stop=200, keep_start=110, keep_stop=200),
    )


def test_without_overlap_chunks_meet() -> None:
    assert [(c.start, c.stop) for c in split_into_chunks(30, 1.0, 10.0, 0.0)] == [(0, 10), (10, 20), (20, 30)]


def test_a_last_chunk_that_adds_little_is_merged() -> None:
    assert [(c.start, c.stop) for c in split_into_chunks(24, 1.0, 10.0, 0.0)] == [(0, 10), (10, 24)]
    assert [(c.start, c.stop) for c in split_into_chunks(25, 1.0, 10.0, 0.0)] == [(0, 10), (10, 20), (20, 25)]


def test_a_short_series_is_one_chunk() -> None:
    assert split_into_chunks(3, 3.0, 300.0, 50.0) == (Chunk(start=0, stop=3, keep_start=0, keep_stop=3),)


@pytest.mark.parametrize(("chunk_mm", "overlap_mm"), [(50.0, 50.0), (50.0, 60.0), (50.0, -1.0)])
def test_an_overlap_as_long_as_the_chunk_is_refused(chunk_mm: float, overlap_mm: float) -> None:
    with pytest.raises(ConfigError, match="overlap_mm"):
        split_into_chunks(100, 1.0, chunk_mm, overlap_mm)
