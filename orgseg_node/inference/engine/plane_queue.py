"""Final planes on their way to their labels: labelled at once, or in a thread while the network goes on.

The accumulators are shifted in place as soon as their final planes are averaged, so the thread never sees
them: what it gets is a block of its own. On a GPU it computes on a stream of its own, which waits until the
block is complete, and returns the block's memory only when it has used it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from types import TracebackType
from typing import Self

import torch

LabelBlock = Callable[[int, torch.Tensor], None]
"""Called with the number of the first plane and (heads, planes, rows, columns) logits; keeps their order."""


@cache
def _stream_beside(device: torch.device) -> torch.cuda.Stream:
    """One stream for all runs: PyTorch keeps memory for each stream, which no other one can use."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


class PlaneQueue:
    """Passes blocks of planes to a function, in their order and one at a time.

    As a context it waits at the end until all are labelled. An error of the function is raised by `put` or at
    the end; blocks after it are dropped, and so are those that wait when the context is left by an error.

    Parameters
    ----------
    label : see `LabelBlock`
    device : of the logits
    waiting : number of blocks that may wait for a thread; 0 to label each in `put`, without a thread
    """

    def __init__(self, label: LabelBlock, device: torch.device, waiting: int) -> None:
        self._label, self._waiting = label, waiting
        self._pool = ThreadPoolExecutor(1) if waiting else None
        self._stream: torch.cuda.Stream | None = None
        if waiting and device.type == "cuda":
            self._stream = _stream_beside(device)
        self._blocks: deque[Future[None]] = deque()
        self._stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._stopped = True
        if self._pool is not None:
            self._pool.shutdown()
        if error is None:
            for block in self._blocks:
                block.result()

    def put(self, number: int, logits: torch.Tensor) -> None:
        """Pass the next block; waits while too many blocks wait.

        Parameters
        ----------
        number : of its first plane
        logits : (heads, planes, rows, columns) float16; must not be changed afterwards
        """
        if self._pool is None:
            self._label(number, logits)
            return
        while len(self._blocks) >= self._waiting or (self._blocks and self._blocks[0].done()):
            self._blocks.popleft().result()
        complete = None
        if self._stream is not None:
            complete = torch.cuda.Event()  # type: ignore[no-untyped-call]
            complete.record()  # on the stream that computes the logits
        self._blocks.append(self._pool.submit(self._label_in_thread, number, logits, complete))

    @torch.inference_mode()
    def _label_in_thread(self, number: int, logits: torch.Tensor, complete: torch.cuda.Event | None) -> None:
        if self._stopped:
            return
        try:
            with torch.cuda.stream(self._stream):  # nothing without a stream
                if self._stream is not None and complete is not None:
                    self._stream.wait_event(complete)
                    logits.record_stream(self._stream)
                self._label(number, logits)
        except BaseException:
            self._stopped = True
            raise
