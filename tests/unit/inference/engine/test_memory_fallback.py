"""A GPU that runs out of memory during a run, simulated on the CPU by a network that raises the error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from orgseg_node.inference.engine.memory_fallback import run_with_fallback
from orgseg_node.inference.engine.run import LabellingTask
from orgseg_node.inference.engine.slab import AccumulatorStorage
from orgseg_node.inference.engine.tiles import Tiling
from orgseg_node.inference.engine.working import HuNormalisation, Regrid, working_volume

_SHAPE, _PATCH, _HEADS, _FOLDS = (20, 12, 12), (8, 8, 8), 3, 2


@dataclass(kw_only=True)
class FakeForward:
    """A network of arithmetic that runs out of memory at some of its calls.

    Attributes
    ----------
    fails_at : numbers of the calls that fail, from 1
    """

    fails_at: Sequence[int] = ()
    folds: int = _FOLDS
    device: torch.device = torch.device("cpu")  # noqa: RUF009  # it never changes
    calls: int = 0

    def __call__(self, tile: torch.Tensor, fold: int) -> torch.Tensor:
        self.calls += 1
        if self.calls in self.fails_at:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        image = tile[0, 0]
        return torch.stack([torch.zeros_like(image), image + 0.1 * fold, -image])


def task() -> LabellingTask:
    hu = np.random.default_rng(3).normal(scale=300.0, size=_SHAPE).astype(np.int16)
    same = Regrid(source=_SHAPE, target=_SHAPE, thick_axis=None)
    return LabellingTask(
        working=working_volume(hu, HuNormalisation(low=-500.0, high=500.0, mean=0.0, std=200.0), same),
        to_ct=same,
        tiling=Tiling.covering(_SHAPE, _PATCH, 0.5),
        regions=None,
        region=None,
        accumulators=AccumulatorStorage.DEVICE,
        overlap=False,
    )


class Recorder:
    """Collects the planes and the progress that a run reports."""

    def __init__(self) -> None:
        self.planes: dict[int, NDArray[np.uint16]] = {}
        self.parts: list[float] = []

    def on_tile(self, done: int, total: int, seconds_left: float) -> None:
        assert seconds_left >= 0
        self.parts.append(done / total)

    def on_plane(self, number: int, labels: NDArray[np.uint16]) -> None:
        assert number not in self.planes, "a plane was reported twice"
        assert number == len(self.planes), "planes are reported in order"
        self.planes[number] = labels.copy()

    @property
    def labels(self) -> NDArray[np.uint16]:
        return np.stack(list(self.planes.values()))


def run(forward: FakeForward, *tasks: LabellingTask) -> Recorder:
    recorder = Recorder()
    found = run_with_fallback(tasks, forward, _HEADS, recorder.on_tile, recorder.on_plane)
    assert found.fold_agreement is not None
    assert found.fold_agreement.disagreement(1, "organ", 1.0).volume_max_ml > 0, (
        "the folds are counted by the run that finished"
    )
    return recorder


def test_without_an_error_the_first_task_is_run_once() -> None:
    forward = FakeForward()
    recorder = run(forward, task(), replace(task(), accumulators=AccumulatorStorage.HOST))
    assert forward.calls == len(recorder.parts)
    assert set(np.unique(recorder.labels)) == {0, 1, 2}


@pytest.mark.parametrize("call", [1, 20, 31])  # at the first tile; when planes are final; near the end
def test_out_of_memory_starts_again_with_other_accumulators_and_gives_the_same_labels(call: int) -> None:
    undisturbed = run(FakeForward(), task())
    assert call < len(undisturbed.parts)
    forward = FakeForward(fails_at=[call])
    recorder = run(forward, task(), replace(task(), accumulators=AccumulatorStorage.HOST))
    assert np.array_equal(recorder.labels, undisturbed.labels)
    assert forward.calls == call + len(undisturbed.parts)
    assert recorder.parts == sorted(recorder.parts), "progress never decreases"
    assert recorder.parts[-1] == 1.0


def test_the_folds_are_counted_once_although_the_run_started_twice() -> None:
    def volume(forward: FakeForward, *tasks: LabellingTask) -> float:
        found = run_with_fallback(tasks, forward, _HEADS, lambda *_: None, lambda *_: None)
        assert found.fold_agreement is not None
        return found.fold_agreement.disagreement(2, "organ", 1.0).volume_max_ml

    again = volume(FakeForward(fails_at=[25]), task(), replace(task(), accumulators=AccumulatorStorage.HOST))
    assert again == volume(FakeForward(), task())


def test_out_of_memory_twice_or_without_an_alternative_is_an_error() -> None:
    forward = FakeForward(fails_at=[5, 9])
    with pytest.raises(torch.OutOfMemoryError):
        run(forward, task(), replace(task(), accumulators=AccumulatorStorage.HOST))
    assert forward.calls == 9
    alone = FakeForward(fails_at=[5])
    with pytest.raises(torch.OutOfMemoryError):
        run(alone, task())
    assert alone.calls == 5
