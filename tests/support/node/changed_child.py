"""A child program of another version: ``python -m`` this module ``VERSION THREADS REQUEST.json``.

The labels are those of `node_child`; version, number of threads and processor are what the arguments say.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

from orgseg_node.contouring import pipeline, report
from orgseg_node.core.body import Body
from orgseg_node.core.volume import Volume
from orgseg_node.inference.predictor import ModelIdentity, Prediction, ProgressCallback
from orgseg_node.node.processing.child import main
from orgseg_node.node.processing.child_request import ChildRequest
from tests.support.node.node_child import SlowPredictor, threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadedPredictor:
    """A predictor that says with how many threads it ran."""

    inner: SlowPredictor
    threads: str

    @property
    def models(self) -> tuple[ModelIdentity, ...]:
        """Those of the predictor inside."""
        return self.inner.models

    def predict(self, volume: Volume, body: Body, on_progress: ProgressCallback) -> Prediction:
        """What the predictor inside finds."""
        found = self.inner.predict(volume, body, on_progress)
        return replace(found, device=f"cpu ({self.threads} threads)")


def predictor(request: ChildRequest) -> ThreadedPredictor:
    """What stands in for the bundles of a request."""
    del request
    return ThreadedPredictor(inner=threshold(0.0), threads=sys.argv[2])


if __name__ == "__main__":
    vars(pipeline)["__version__"] = vars(report)["__version__"] = sys.argv[1]
    sys.exit(main(sys.argv[3:], make_predictor=predictor))
