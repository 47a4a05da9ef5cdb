"""A GPU that runs out of memory in mid-run, played on the CPU by a network that says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from orgseg_node.inference.engine.memory_fallback import run_where_it_fits
from orgseg_node.inference.engine.run import Task
from orgseg_node.inference.engine.slab import Place
from orgseg_node.inference.engine.tiles import Tiling
from orgseg_node.inference.engine.working import Intensities, Regrid, WorkingVolume

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


def task() -> Task:
    hu = np.random.default_rng(3).normal(scale=300.0, size=_SHAPE).astype(np.int16)
    same = Regrid(source=_SHAPE, target=_SHAPE, thick_axis=None)
    return Task(
        working=WorkingVolume(hu, Intensities(low=-500.0, high=500.0, mean=0.0, std=200.0), same),
        back=same,
        tiling=Tiling.over(_SHAPE, _PATCH, 0.5),
        regions=None,
        inside=None,
        place=Place.DEVICE,
        ahead=False,
    )


class Listener:
    """Puts the planes together and remembers what it was told."""

    def __init__(self) -> None:
        self.planes: dict[int, NDArray[np.uint16]] = {}
        self.parts: list[float] = []

    def told(self, done: int, of: int, left_s: float) -> None:
        assert left_s >= 0
        self.parts.append(done / of)

    def emit(self, number: int, labels: NDArray[np.uint16]) -> None:
        assert number not in self.planes, "a plane came twice"
        assert number == len(self.planes), "planes come in their order"
        self.planes[number] = labels.copy()

    @property
    def labels(self) -> NDArray[np.uint16]:
        return np.stack(list(self.planes.values()))


def run(forward: FakeForward, *tasks: Task) -> Listener:
    listener = Listener()
    found = run_where_it_fits(tasks, forward, _HEADS, listener.told, listener.emit)
    assert found.tally is not None
    assert found.tally.of(1, "organ", 1.0).volume_max_ml > 0, "the folds are counted by the run that ended"
    return listener


def test_without_an_error_the_first_task_is_run_once() -> None:
    forward = FakeForward()
    listener = run(forward, task(), replace(task(), place=Place.HOST))
    assert forward.calls == len(listener.parts)
    assert set(np.unique(listener.labels)) == {0, 1, 2}


@pytest.mark.parametrize("call", [1, 20, 31])  # at the first tile; when planes are final; near the end
def test_out_of_memory_begins_anew_with_the_sums_elsewhere_and_gives_the_same_labels(call: int) -> None:
    undisturbed = run(FakeForward(), task())
    assert call < len(undisturbed.parts)
    forward = FakeForward(fails_at=[call])
    listener = run(forward, task(), replace(task(), place=Place.HOST))
    assert np.array_equal(listener.labels, undisturbed.labels)
    assert forward.calls == call + len(undisturbed.parts)
    assert listener.parts == sorted(listener.parts), "progress never goes back"
    assert listener.parts[-1] == 1.0


def test_the_folds_are_counted_once_though_the_run_began_twice() -> None:
    def volume(forward: FakeForward, *tasks: Task) -> float:
        found = run_where_it_fits(tasks, forward, _HEADS, lambda *_: None, lambda *_: None)
        assert found.tally is not None
        return found.tally.of(2, "organ", 1.0).volume_max_ml

    again = volume(FakeForward(fails_at=[25]), task(), replace(task(), place=Place.HOST))
    assert again == volume(FakeForward(), task())


def test_out_of_memory_twice_or_without_another_place_is_an_error() -> None:
    forward = FakeForward(fails_at=[5, 9])
    with pytest.raises(torch.OutOfMemoryError):
        run(forward, task(), replace(task(), place=Place.HOST))
    assert forward.calls == 9
    alone = FakeForward(fails_at=[5])
    with pytest.raises(torch.OutOfMemoryError):
        run(alone, task())
    assert alone.calls == 5
