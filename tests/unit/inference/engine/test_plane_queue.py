"""Blocks of planes are labelled in their order, in a thread or not; an error stops both sides."""

from __future__ import annotations

import threading
from collections.abc import Callable
from threading import Event

import pytest
import torch

from orgseg_node.inference.engine import plane_queue
from orgseg_node.inference.engine.plane_queue import PlaneQueue

_CPU = torch.device("cpu")
_BLOCK = torch.zeros((2, 1, 3, 3), dtype=torch.half)


def _put_all(queue: PlaneQueue, blocks: int, then: Callable[[], None] = lambda: None) -> None:
    with queue:
        for number in range(blocks):
            queue.put(number, _BLOCK)
        then()


@pytest.mark.parametrize("waiting", [0, 1, 3])
def test_every_block_is_labelled_once_and_in_order(waiting: int) -> None:
    labelled, threads = list[int](), set[int]()

    def label(number: int, logits: torch.Tensor) -> None:
        assert logits[0, 0, 0, 0] == number
        labelled.append(number)
        threads.add(threading.get_ident())

    with PlaneQueue(label, _CPU, waiting) as queue:
        for number in range(20):
            queue.put(number, _BLOCK + number)
    assert labelled == list(range(20))
    assert len(threads) == 1
    assert (threading.get_ident() in threads) == (waiting == 0)


def test_no_more_blocks_than_allowed_wait() -> None:
    go, passed = Event(), []

    def label(*_: object) -> None:
        assert go.wait(60)

    def pass_all(queue: PlaneQueue) -> None:
        for number in range(5):
            queue.put(number, _BLOCK)
            passed.append(number)

    with PlaneQueue(label, _CPU, 2) as queue:
        other = threading.Thread(target=pass_all, args=(queue,))
        other.start()
        other.join(0.3)
        assert passed == [0, 1]
        go.set()
        other.join(60)
    assert passed == list(range(5))


@pytest.mark.parametrize("waiting", [0, 8])
def test_an_error_is_raised_and_no_later_block_is_labelled(waiting: int) -> None:
    labelled = []

    def label(number: int, _: torch.Tensor) -> None:
        if number == 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        labelled.append(number)

    with pytest.raises(torch.OutOfMemoryError):
        _put_all(PlaneQueue(label, _CPU, waiting), 6)
    assert labelled == [0, 1]


def test_when_the_run_is_stopped_waiting_blocks_are_dropped_and_the_thread_has_ended() -> None:
    started, go, labelled = Event(), Event(), []

    def label(number: int, _: torch.Tensor) -> None:
        started.set()
        assert go.wait(60)
        labelled.append(number)

    threads = threading.active_count()

    def stop() -> None:
        assert started.wait(60)
        threading.Timer(0.2, go.set).start()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _put_all(PlaneQueue(label, _CPU, 8), 4, stop)
    assert labelled == [0]
    assert threading.active_count() <= threads + 1  # the timer may still be there


def test_all_runs_on_a_gpu_label_on_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[object]()

    def stream(*_: object) -> object:
        made.append(object())
        return made[-1]

    monkeypatch.setattr(torch.cuda, "Stream", stream)
    plane_queue._stream_beside.cache_clear()
    for _ in range(3):
        with PlaneQueue(lambda *_: None, torch.device("cuda"), 1):
            pass
    plane_queue._stream_beside.cache_clear()
    assert len(made) == 1
