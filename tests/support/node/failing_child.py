"""The process that contours, with a prediction that fails: ``WHAT REQUEST.json``.

It is meant to be forked: its parent is the fork server, which it writes into the request first.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from pathlib import Path
from typing import Final

from orgseg_node.core.body import Body
from orgseg_node.core.volume import Volume
from orgseg_node.errors import InferenceFailed
from orgseg_node.inference.predictor import ModelIdentity, Prediction, ProgressCallback
from orgseg_node.node.processing.child import MakePredictor, main, open_networks
from orgseg_node.node.processing.child_request import ChildRequest

NETWORKS: Final = "networks"
"""WHAT: nothing stands in for the networks of the request."""


@dataclasses.dataclass(frozen=True, slots=True)
class FailingPredictor:
    """Fails as WHAT says: a ``flood`` of progress and no memory, ``unexpected``, or a ``temporary`` file."""

    what: str
    models: tuple[ModelIdentity, ...] = ()

    def predict(self, volume: Volume, body: Body, on_progress: ProgressCallback) -> Prediction:
        """Fail."""
        if self.what == "unexpected":
            raise KeyError("Mueller^Anna")
        if self.what == "temporary":
            with tempfile.NamedTemporaryFile() as file:
                raise InferenceFailed(file.name)
        for number in range(5000):
            on_progress(number / 5000, f"a bundle, about {5000 - number} s left")
        raise MemoryError


if __name__ == "__main__":
    what, path = sys.argv[1], Path(sys.argv[2])
    request = ChildRequest.from_json(path.read_text(encoding="utf-8"))
    path.write_text(dataclasses.replace(request, parent_pid=os.getppid()).to_json(), encoding="utf-8")
    make: MakePredictor = open_networks if what == NETWORKS else lambda _request: FailingPredictor(what)
    sys.exit(main([str(path)], make))
