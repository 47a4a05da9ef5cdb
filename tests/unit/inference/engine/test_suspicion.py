"""Where labels are suspected: each for itself, from the logits of the run, which gives the same labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from orgseg_node.core.geometry import Box, Shape
from orgseg_node.core.volume import Mask
from orgseg_node.inference.backends.guided.sparse_search import sparse_window
from orgseg_node.inference.backends.network_run import run_loaded
from orgseg_node.inference.engine.label_planes import interpolation_axes
from orgseg_node.inference.engine.run import number_of_tiles
from orgseg_node.inference.engine.suspicion import MAX_VOXELS, SuspectedLabels, voxels_around
from orgseg_node.inference.engine.working import Regrid
from tests.support.models.guided_bench import PATCH, SHAPE, block, make_bench

_SURE, _UNSURE = block((10, 14, 16), (18, 24, 26)), block((24, 26, 30), (32, 36, 40))


def _run(hu: int, region: Mask | None = None) -> tuple[NDArray[np.uint16], NDArray[np.bool_], float]:
    """Labels, the box in which the organ is suspected, and the tiles in times of a run.

    One piece of the organ is sure, the other one has a number of HU.
    """
    bench = make_bench(_SURE, (3.0, 1.5, 1.5), more=(_UNSURE, hu))  # planes are interpolated from two
    labels = np.zeros(bench.view.box.shape, dtype=np.uint16)

    def keep(k: int, plane: NDArray[np.uint16]) -> None:
        labels[k] = plane

    summary = run_loaded(
        bench.network, bench.view, bench.limits, lambda *_: None, keep, region=region, suspicion=0.05
    )
    assert (labels == bench.whole() * (1 if region is None else region)).all()
    forward: Any = bench.network.forward
    suspected = np.zeros(labels.shape, dtype=bool)
    suspected[summary.suspected[1].box.slices] = True
    return labels, suspected, forward.tiles / number_of_tiles(bench.limits.tiling(bench.network, bench.view))


@pytest.mark.parametrize(("hu", "expected"), [(150, False), (260, True)])
def test_what_has_a_probability_of_a_twentieth_is_suspected(hu: int, *, expected: bool) -> None:
    labels, suspected, runs = _run(hu)
    assert labels[_SURE].any()
    assert not labels[_UNSURE].any()
    assert suspected[labels > 0].all()
    assert suspected[_UNSURE].all() == expected
    assert not suspected.all()
    assert runs == 2, "the run with both, and the one that it is compared with"


def test_nothing_is_suspected_outside_the_region_that_is_searched() -> None:
    region = block((8, 8, 8), (22, 26, 28))
    labels, suspected, _ = _run(260, region)
    assert suspected[labels > 0].all()
    k, j, i = Box.around(suspected).stop
    assert k <= 22
    assert j <= 26 + 2
    assert i <= 28 + 2


@pytest.mark.parametrize("size", range(6, 14))
def test_what_no_tile_shows_is_not_suspected(size: int) -> None:
    """Working voxels that touch the region may lie beyond the last tile that it needs."""
    bench = make_bench(np.zeros(SHAPE, dtype=bool), (2.0, 1.0, 1.5))
    limits = replace(bench.limits, step=1.0)
    region = block((0, 0, 0), (size, size, size))
    summary = run_loaded(
        bench.network,
        bench.view,
        limits,
        lambda *_: None,
        lambda *_: None,
        region=region,
        suspicion=0.05,
    )
    assert summary.skipped
    assert not summary.suspected


def test_only_a_run_on_the_whole_ct_shows_all_that_is_suspected() -> None:
    bench = make_bench(_SURE)
    window = sparse_window(bench.view.working.shape, PATCH)
    part = replace(window, inner=Box(start=(0, 0, 0), stop=PATCH))
    with pytest.raises(ValueError, match="whole CT"):
        run_loaded(
            bench.network,
            bench.view,
            bench.limits,
            lambda *_: None,
            lambda *_: None,
            region=None,
            window=part,
            suspicion=0.05,
        )


def _boxes(logits: list[float], regions: tuple[int, ...] | None = None) -> set[int]:
    one = Regrid(source=(1, 1, 1), target=(1, 1, 1), thick_axis=None)
    suspected = SuspectedLabels(one, regions, 0.05, None)
    suspected.add(0, torch.tensor(logits, dtype=torch.half)[:, None, None, None])
    return set(suspected.in_ct())


def test_an_organ_is_suspected_however_likely_another_one_is() -> None:
    """Background 5 %, organ 50 %, the other organ 45 %, a third one 0.2 %."""
    assert _boxes(np.log([0.05, 0.5, 0.45, 0.002]).tolist()) == {1, 2}


def test_each_region_is_suspected_for_itself() -> None:
    assert _boxes([-2.0, -4.0, 3.0], (2, 1, 3)) == {2, 3}


@pytest.mark.parametrize("thick_axis", [None, 0])
@given(inputs=st.integers(1, 60), outputs=st.integers(1, 60))
def test_no_suspected_voxel_of_the_working_grid_is_lost(
    thick_axis: int | None, inputs: int, outputs: int
) -> None:
    """Also on a CT that is coarser than the working grid."""
    first, stop = voxels_around(inputs, outputs)
    assert (first >= 0).all()
    assert (first < stop).all()
    assert (stop <= outputs).all()
    to_ct = Regrid(source=(inputs, 1, 1), target=(outputs, 1, 1), thick_axis=thick_axis)
    axis = interpolation_axes(to_ct)[0]
    for used, weight in ((axis.low, axis.low_weight), (axis.high, axis.high_weight)):
        k = np.flatnonzero(weight)
        assert (first[used[k]] <= k).all()
        assert (k < stop[used[k]]).all()


def test_a_working_plane_between_two_slices_is_suspected() -> None:
    to_ct = Regrid(source=(30, 4, 4), target=(12, 4, 4), thick_axis=None)
    for number in range(30):
        suspected = SuspectedLabels(to_ct, None, 0.05, None)
        logits = torch.zeros((2, 1, 4, 4), dtype=torch.half)
        logits[1] = -9.0
        logits[1, 0, 1:3, 1:3] = -1.0
        suspected.add(number, logits)
        (found,) = suspected.in_ct().values()
        assert found.box.start[0] <= (number + 0.5) * 12 / 30 <= found.box.stop[0]


@pytest.mark.parametrize("sizes", [((9, 8, 7), (9, 8, 7)), ((9, 8, 7), (13, 20, 7)), ((9, 8, 7), (3, 5, 4))])
def test_each_suspected_voxel_is_kept_with_the_voxels_of_the_ct_that_depend_on_it(
    sizes: tuple[Shape, Shape],
) -> None:
    source, target = sizes
    shown = np.random.default_rng(0).random(source) < 0.1
    suspected = SuspectedLabels(Regrid(source=source, target=target, thick_axis=None), None, 0.05, None)
    for number in range(0, len(shown), 2):  # two planes at once, and one
        planes = shown[number : number + 2]
        logits = torch.zeros((2, *planes.shape), dtype=torch.half)
        logits[1] = torch.from_numpy(np.where(planes, -2.0, -4.0))
        suspected.add(number, logits)
    found = suspected.in_ct()[1]
    bounds = [voxels_around(a, b) for a, b in zip(source, target, strict=True)]
    assert found.voxels is not None
    expected = [[bounds[n][end][at[n]] for n in range(3)] for at in np.argwhere(shown) for end in (0, 1)]
    both = np.stack([found.voxels.start, found.voxels.stop], axis=1).reshape(-1, 3)
    assert both.tolist() == np.array(expected).tolist()
    assert found.voxels.enclosing() == found.box


@pytest.mark.parametrize(("more", "kept"), [(0, True), (1, False)])
def test_of_too_many_voxels_only_the_box_is_kept(more: int, *, kept: bool) -> None:
    side = 256
    everywhere = Regrid(source=(3, side, side), target=(3, side, side), thick_axis=None)
    suspected = SuspectedLabels(everywhere, None, 0.05, None)
    full, rest = (torch.full((3, side, side), -9.0, dtype=torch.half) for _ in range(2))
    assert side * side == MAX_VOXELS
    full[1], rest[1].view(-1)[:more], rest[2, 5, 5] = 0.0, 0.0, 0.0
    full[0] = rest[0] = 0.0
    for number, plane in enumerate((full, rest, full)[: 2 + more]):
        suspected.add(number, plane[:, None])
    found = suspected.in_ct()
    assert (found[1].voxels is not None) == kept
    assert found[1].box == Box(start=(0, 0, 0), stop=(min(2 + 2 * more, 3), side, side))
    assert found[2].voxels is not None, "each label for itself"
    assert len(found[2].voxels) == 1
