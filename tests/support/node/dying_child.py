"""A child program that dies: ``python -m tests.support.node.dying_child HOW TIMES REQUEST.json``.

The first TIMES times it is run for a job it kills itself (``kill``) or runs out of memory (``memory``);
after that it does its work as `tests.support.node.node_child` does.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from orgseg_node.core.body import Body
from orgseg_node.core.volume import Volume
from orgseg_node.inference.predictor import Prediction, ProgressCallback
from orgseg_node.node.processing.child import main
from orgseg_node.node.processing.child_request import ChildRequest
from tests.support.node.node_child import SlowPredictor, threshold


class Dying:
    """A predictor that does not survive."""

    def __init__(self, how: str, inner: SlowPredictor) -> None:
        self._how = how
        self.models = inner.models

    def predict(self, volume: Volume, body: Body, on_progress: ProgressCallback) -> Prediction:
        """End as the request says."""
        on_progress(0.1, "waiting")
        if self._how == "memory":
            raise MemoryError
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")


def predictor(request: ChildRequest) -> SlowPredictor | Dying:
    """The one that dies, or the one that works."""
    how, times = sys.argv[1:3]
    counter = Path(request.out).parent / "tries"
    tries = len(counter.read_text()) if counter.exists() else 0
    counter.write_text("x" * (tries + 1))
    inner = threshold(0.0)
    return Dying(how, inner) if tries < int(times) else inner


if __name__ == "__main__":
    sys.exit(main(sys.argv[3:], make_predictor=predictor))
