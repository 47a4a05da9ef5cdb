"""A network that must search the whole CT: few tiles first, then all around what they show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orgseg_node.core.geometry import Box
from orgseg_node.core.volume import Mask
from orgseg_node.inference.backends.guided.sparse_search import search_sparsely
from orgseg_node.inference.engine.layout import Layout
from orgseg_node.inference.predictor import GuidedOutcome, SparseOutcome
from tests.support.models.guided_bench import (
    PATCH,
    SHAPE,
    SPACING_MM,
    AboveThreshold,
    GuidedBench,
    block,
    make_bench,
)

_ORGAN = ((10, 14, 16), (18, 24, 26))
_NOTHING: Mask = np.zeros(SHAPE, dtype=bool)


def _tiles_run(bench: GuidedBench) -> int:
    forward: Any = bench.network.forward
    return int(forward.tiles)


def test_an_organ_that_is_not_there_costs_one_sparse_pass() -> None:
    bench = make_bench(_NOTHING)
    result = bench.guided(_NOTHING, sparse=True)
    row = result.report
    assert (row.outcome, row.sparse) == (GuidedOutcome.MISSED, SparseOutcome.ABSENT)
    assert row.tiles == _tiles_run(bench)
    assert row.tiles <= row.whole_tiles / 4
    assert result.found.labels is not None
    assert not result.found.labels.any()


def test_without_leave_the_whole_ct_is_searched_with_all_tiles() -> None:
    result = make_bench(_NOTHING).guided(_NOTHING)
    assert (result.report.sparse, result.found.labels) == (None, None)


@pytest.mark.parametrize("layout", list(Layout))
def test_an_organ_that_the_guide_missed_is_found_whole(layout: Layout) -> None:
    bench = make_bench(block(*_ORGAN))
    result = bench.guided(_NOTHING, layout, sparse=True)
    row = result.report
    assert (row.outcome, row.sparse) == (GuidedOutcome.MISSED, SparseOutcome.AGAIN)
    assert (bench.all_of(result) == bench.whole()).all()
    assert row.tiles < row.whole_tiles


def test_the_tiles_of_every_pass_count() -> None:
    bench = make_bench(block(*_ORGAN))
    result = bench.guided(block((30, 34, 38), (36, 40, 44)), sparse=True)
    row = result.report
    assert (row.outcome, row.sparse) == (GuidedOutcome.EMPTY, SparseOutcome.AGAIN)
    assert row.tiles == _tiles_run(bench)
    assert (bench.all_of(result) == bench.whole()).all()


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_no_part_of_an_organ_is_lost_that_tiles_see_only_dimly_at_their_border(data: st.DataObject) -> None:
    """The network needs two voxels of context; side by side, its tiles leave seams in which it is unsure."""
    mask = _NOTHING.copy()
    for _ in range(data.draw(st.integers(1, 2))):
        start = [data.draw(st.integers(0, size - 4)) for size in SHAPE]
        stop = [data.draw(st.integers(a + 4, size)) for a, size in zip(start, SHAPE, strict=True)]
        mask[Box(start=(start[0], start[1], start[2]), stop=(stop[0], stop[1], stop[2])).slices] = True
    bench = make_bench(mask, forward=AboveThreshold(blind=2))
    result = bench.guided(_NOTHING, Layout.NNUNET, sparse=True)
    if result.found.labels is not None:
        assert (bench.all_of(result) == bench.whole()).all()
    else:
        assert result.report.sparse is SparseOutcome.EVERYWHERE
        assert result.report.tiles > result.report.whole_tiles


def test_an_organ_on_the_seam_of_two_tiles_is_suspected() -> None:
    """Between 500 HU, where the organ wins, and 206 HU, where it has a probability of a twentieth."""
    seam = PATCH[1]
    organ = block((10, seam - 1, 16), (18, seam + 1, 26))
    bench = make_bench(organ, (2.0, 1.0, 1.5), forward=AboveThreshold(blind=2))
    assert bench.whole().any()
    result = bench.guided(_NOTHING, Layout.NNUNET, sparse=True)
    assert result.report.sparse is SparseOutcome.AGAIN
    assert (bench.all_of(result) == bench.whole()).all()


@pytest.mark.parametrize(("hu", "expected"), [(150, SparseOutcome.ABSENT), (260, SparseOutcome.AGAIN)])
def test_what_has_a_probability_of_a_twentieth_is_searched_again(hu: int, expected: SparseOutcome) -> None:
    bench = make_bench(block(*_ORGAN), hu=hu)
    assert not bench.whole().any()
    result = bench.guided(_NOTHING, sparse=True)
    assert result.report.sparse is expected
    assert not bench.all_of(result).any()


def test_an_organ_all_over_the_ct_is_searched_with_all_tiles_after_all() -> None:
    ends = block((1, 1, 1), (4, 4, 4)) | block((36, 40, 44), (39, 43, 47))
    bench = make_bench(ends)
    result = bench.guided(_NOTHING, sparse=True)
    assert (result.report.sparse, result.found.labels) == (SparseOutcome.EVERYWHERE, None)
    assert result.report.tiles == _tiles_run(bench) + result.report.whole_tiles


def test_a_box_as_large_as_the_ct_needs_no_sparse_pass() -> None:
    bench = make_bench(block(*_ORGAN))
    result = bench.guided(block((2, 0, 0), SHAPE), sparse=True)
    assert (result.report.outcome, result.report.sparse) == (GuidedOutcome.NO_SAVING, None)
    assert _tiles_run(bench) == 0


def test_what_is_searched_in_vain_takes_fewer_tiles_than_the_whole_ct() -> None:
    """The guide points to nearly all of the CT, so that no tiles are left for a sparse pass."""
    bench = make_bench(block((1, 1, 1), (3, 3, 3)))
    row = bench.guided(block((8, 10, 10), SHAPE), Layout.NNUNET, 0.0, sparse=True).report
    assert (row.outcome, row.sparse) == (GuidedOutcome.EMPTY, SparseOutcome.NO_SAVING)
    assert _tiles_run(bench) < row.whole_tiles


def test_a_ct_of_one_tile_is_searched_at_once() -> None:
    bench = make_bench(block(*_ORGAN), spacing=(16.0, 8.0, 8.0))
    outcome, found = search_sparsely(bench.search(), 1, lambda _, voxels: voxels < 100)
    assert (outcome, found.tiles, found.labels) == (SparseOutcome.NO_SAVING, 0, None)
    assert _tiles_run(bench) == 0


class _DrawsWhatItSeesWhole(AboveThreshold):
    """A network that also draws a tissue of 300 HU, but only in a tile that shows all of it, and more around.

    Parameters
    ----------
    voxels : number of voxels of the tissue
    """

    def __init__(self, voxels: int) -> None:
        super().__init__()
        self._voxels = voxels

    def __call__(self, tile: torch.Tensor, fold: int) -> torch.Tensor:
        logits = super().__call__(tile, fold)
        tissue = (tile[0, 0] - 0.3).abs() < 0.01
        if int(tissue[2:-2, 2:-2, 2:-2].sum()) == self._voxels:
            logits[1][tissue] = 3.0
        return logits


def _drawn_by_chance() -> GuidedBench:
    """Tissue of 0.77 ml that only a tile of the second pass shows as a whole."""
    tissue = block((12, 14, 16), (16, 22, 24))
    forward = _DrawsWhatItSeesWhole(int(tissue.sum()))
    bench = make_bench(block((20, 30, 30), (21, 31, 31)), SPACING_MM, forward=forward, more=(tissue, 300))
    assert int(bench.whole().sum()) == 1
    forward.tiles = 0
    return bench


def test_what_two_passes_drew_differently_is_left_to_the_tiles_of_nnunet() -> None:
    bench = _drawn_by_chance()
    result = bench.guided(_NOTHING, Layout.FEW, 0.0, sparse=True)
    row = result.report
    assert row.sparse is SparseOutcome.DECIDED
    assert row.tiles == _tiles_run(bench) < row.whole_tiles
    assert (bench.all_of(result) == bench.whole()).all()


def test_where_too_few_tiles_are_left_to_decide_the_whole_ct_is_searched() -> None:
    spent = search_sparsely(_drawn_by_chance().search(Layout.FEW, 0.0), 10_000, lambda *_: True)[1].tiles
    outcome, found = search_sparsely(
        _drawn_by_chance().search(Layout.FEW, 0.0), spent + 2, lambda _, voxels: voxels < 100
    )
    assert (outcome, found.labels, found.tiles) == (SparseOutcome.DOUBTFUL, None, spent)


def test_crumbs_that_two_passes_drew_differently_are_not_drawn_again() -> None:
    outcome, found = search_sparsely(_drawn_by_chance().search(Layout.FEW, 0.0), 10_000, lambda *_: True)
    assert outcome is SparseOutcome.AGAIN
    assert found.labels is not None
    assert int(found.labels.sum()) == 257


def test_an_organ_that_only_the_first_pass_drew_is_decided_by_the_tiles_of_nnunet() -> None:
    """The box of the second pass is larger than the tissue, so that none of its tiles shows all of that."""
    tissue = block((10, 13, 14), (14, 21, 22))
    organ = block((4, 14, 30), (6, 15, 31)) | block((23, 14, 30), (24, 15, 31))
    forward = _DrawsWhatItSeesWhole(int(tissue.sum()))
    bench = make_bench(organ, SPACING_MM, forward=forward, more=(tissue, 300))
    _, twice = search_sparsely(bench.search(Layout.FEW, 0.0), 10_000, lambda *_: True)
    assert twice.labels is not None
    assert int(twice.labels.sum()) == int(organ.sum())
    outcome, found = search_sparsely(bench.search(Layout.FEW, 0.0), 10_000, lambda _, voxels: voxels < 100)
    assert outcome is SparseOutcome.DECIDED
    assert found.labels is not None
    whole = bench.whole()
    assert int(found.labels.sum()) == int(whole.sum()) > int(organ.sum())
    assert (found.labels == whole[found.part]).all()
