"""Labels, agreement of folds and suspicion do not depend on how many planes are labelled at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Event

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.launches import count_operations
from orgseg_node.core.geometry import Box, Shape
from orgseg_node.inference.engine.disagreement import FoldAgreement
from orgseg_node.inference.engine.label_planes import Labels
from orgseg_node.inference.engine.run import LabellingTask, RunSummary, run_network
from orgseg_node.inference.engine.slab import AccumulatorStorage
from orgseg_node.inference.engine.tiles import Tiling
from orgseg_node.inference.engine.working import HuNormalisation, Regrid, working_volume

_CPU = torch.device("cpu")
_CT: Shape = (17, 20, 18)
_PATCH: Shape = (6, 8, 8)
_ORGANS = 3


@dataclass(slots=True, eq=False)
class _Noise:
    """Logits by fold and number of tiles before; coarse, so that many are equal."""

    folds: int
    heads: int
    seed: int
    device: torch.device = _CPU
    tiles: int = 0

    def __call__(self, tile: torch.Tensor, fold: int) -> torch.Tensor:
        rng = np.random.default_rng((self.seed, self.tiles, fold))
        self.tiles += 1
        drawn = rng.integers(-8, 9, (self.heads, *tile.shape[2:])) / 4
        return torch.from_numpy(drawn.astype(np.float32))


def _task(working: Shape, regions: tuple[int, ...] | None, region: NDArray[np.bool_] | None) -> LabellingTask:
    hu = np.random.default_rng(1).normal(0, 100, _CT).astype(np.int16)
    normalisation = HuNormalisation(low=-300.0, high=300.0, mean=0.0, std=100.0)
    regrid = Regrid(source=_CT, target=working, thick_axis=None)
    return LabellingTask(
        working=working_volume(hu, normalisation, regrid),
        to_ct=Regrid(source=working, target=_CT, thick_axis=None),
        tiling=Tiling.covering(working, _PATCH, 0.5),
        regions=regions,
        region=region,
        accumulators=AccumulatorStorage.HOST,
        overlap=False,
        suspicion=0.3,
    )


def _run(task: LabellingTask, forward: _Noise) -> tuple[list[Labels], RunSummary]:
    found: list[Labels] = []
    summary = run_network(
        task, replace(forward), forward.heads, lambda *_: None, lambda _, labels: found.append(labels)
    )
    return found, summary


def _agreement(summary: RunSummary) -> Sequence[object]:
    counted = summary.fold_agreement
    return [] if counted is None else [counted.disagreement(n, "x", 1.0) for n in range(1, _ORGANS + 1)]


def _suspicion(summary: RunSummary) -> dict[int, tuple[Box, list[list[int]]]]:
    """The box and the sorted voxels of each label."""
    found = {}
    for label, suspected in summary.suspected.items():
        assert suspected.voxels is not None
        ends = np.hstack([suspected.voxels.start, suspected.voxels.stop])
        found[label] = (suspected.box, sorted(ends.tolist()))
    return found


@settings(deadline=None, max_examples=25)
@given(
    working=st.tuples(st.integers(4, 26), st.integers(6, 14), st.integers(6, 14)),
    folds=st.integers(1, 3),
    regions=st.sampled_from([None, (1, 2, 3), (3, 1, 3)]),
    inside=st.none() | st.integers(0, 10),
    block=st.integers(1, 9),
    overlap=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_number_of_planes_at_once_gives_the_same(
    working: Shape,
    folds: int,
    regions: tuple[int, ...] | None,
    inside: int | None,
    block: int,
    overlap: bool,  # noqa: FBT001  # a parameter
    seed: int,
) -> None:
    region = None
    if inside is not None:
        region = np.zeros(_CT, dtype=np.bool_)
        region[inside : inside + 5, 3:9, 4:12] = True
    task = _task(working, regions, region)
    forward = _Noise(folds=folds, heads=len(regions) if regions else _ORGANS + 1, seed=seed)
    one, first = _run(task, forward)
    other, second = _run(replace(task, block=block, overlap=overlap), forward)
    assert len(one) == len(other) == _CT[0]
    assert (np.stack(one) == np.stack(other)).all()
    assert _agreement(first) == _agreement(second)
    assert first.interpolated == second.interpolated
    assert _suspicion(first) == _suspicion(second)


@pytest.mark.parametrize("folds", [1, 2])
@pytest.mark.parametrize("block", [1, 3])
def test_planes_are_labelled_after_their_accumulators_were_shifted_and_used_again(
    folds: int, block: int
) -> None:
    """The first planes wait for their labels until the tiles of the second step are computed."""
    forward = _Noise(folds=folds, heads=_ORGANS + 1, seed=5)
    task = _task((22, 12, 12), None, None)
    expected, summary = _run(task, forward)
    a_step = folds * summary.tiles // len(task.tiling.starts[0])
    second_step, labels = Event(), list[Labels]()

    def on_tile(done: int, total: int, seconds_left: float) -> None:
        if done == 2 * a_step:
            second_step.set()

    def on_plane(k: int, found: Labels) -> None:
        assert second_step.wait(60)
        assert k == len(labels)
        labels.append(found)

    late = replace(task, block=block, overlap=True)
    assert run_network(late, forward, forward.heads, on_tile, on_plane).tiles == summary.tiles
    assert (np.stack(labels) == np.stack(expected)).all()


@pytest.mark.parametrize("planes", [1, 3])
def test_agreement_is_that_of_counting_voxel_by_voxel(planes: int) -> None:
    labels = np.random.default_rng(7).integers(0, _ORGANS + 1, (3, 6, 5, 7))
    agreement = FoldAgreement(_ORGANS + 1, None, 3)
    for first in range(0, 6, planes):
        for fold in labels[:, first : first + planes]:
            logits = torch.nn.functional.one_hot(torch.from_numpy(fold), _ORGANS + 1).movedim(-1, 0)
            agreement.add(logits.half())
    for label in range(1, _ORGANS + 1):
        found = agreement.disagreement(label, "x", 1.0)
        sizes = [np.count_nonzero(fold == label) for fold in labels]
        dice = [
            2 * np.count_nonzero((labels[a] == label) & (labels[b] == label)) / (sizes[a] + sizes[b])
            for a, b in ((0, 1), (0, 2), (1, 2))
        ]
        assert found.mean_dice == pytest.approx(np.mean(dice))
        assert (found.volume_min_ml, found.volume_max_ml) == (min(sizes), max(sizes))


def test_planes_at_once_share_their_operations() -> None:
    """What a GPU is given to do for each plane: 537 operations for one at a time."""
    one, eight = (count_operations(heads=20, folds=5, planes=planes) for planes in (1, 8))
    assert one > 400
    assert eight < one / 7
